"""Answers that would withdraw much of a final session: the stored bars stay, unless a person believes the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    at,
    backfill,
    empty,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
    row_of,
)
from backfill_pipeline_tests.steps.week import FRI, LATER, MON, THU, TRADED, TUE, WED, statuses
from backfill_pipeline_tests.tables import counts, differences, tables

NIGHT = timedelta(days=1)
EXPIRE = "UPDATE coverage SET valid_until = fetched_at"


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def _lose(exchange: Exchange, day: date, minutes: int) -> None:
    for ts in regular_minutes(day)[100 : 100 + minutes]:
        del exchange.minutes[ts]


def _quarantined(warehouse: Warehouse) -> list[tuple[object, ...]]:
    return query(warehouse, "SELECT reason, count(*), min(provider), min(ts), max(ts) FROM quarantine GROUP BY reason")


def test_an_answer_that_lacks_too_much_of_a_final_session_is_refused_for_it_alone(
    warehouse: Warehouse, exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, MON, FRI)
    before, evidence = tables(warehouse.conn), query(warehouse, "SELECT * FROM coverage")
    _lose(exchange, WED, 12)
    restated = regular_minutes(THU)[3]
    exchange.minutes[restated] = (140.0, 141.0, 139.0, 140.5, 77.0, 140.0, 2)
    query(warehouse, EXPIRE)
    outcomes = backfill(at(warehouse, LATER + NIGHT), abc, INTRADAY, MON, FRI)
    assert {outcome.state for outcome in outcomes.values()} == {"complete"}  # what is stored is whole
    line = (
        "ABC 2024-05-08 1m: exchange would withdraw 12 of 390 bars of a final session; they stay, and its rows are in"
        " the quarantine. To believe it, run again after: SELECT reopen('ABC', '1m', '2024-05-08', '2024-05-08')"
    )
    assert [record.message for record in caplog.records] == [line]
    after = tables(warehouse.conn)
    assert counts(after) == counts(before)
    changed = [row for row in set(before["bars"]) ^ set(after["bars"]) if row.split("\t")[1] == "1m"]
    assert len(changed) == 2  # Thursday's bar, before and after
    assert query(warehouse, "SELECT kind, ts FROM bar_revisions") == [("restated", to_datetime(restated))]
    # Of Wednesday there is no new answer: it is asked for again, alone.
    assert len(query(warehouse, "SELECT * FROM coverage")) == len(evidence) + 2
    exchange.requests.clear()
    backfill(at(warehouse, LATER + NIGHT), abc, INTRADAY, MON, FRI)
    assert [(base, window.start, window.end) for base, window in exchange.requests] == [
        ("1m", micros(WED, 0), micros(THU, 0))
    ]


def test_what_was_refused_is_kept_aside_once_however_often_it_comes(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, MON, WED)
    for night, lost in enumerate([20, 20, 21, 21]):
        exchange.trade([TUE])
        _lose(exchange, TUE, lost)
        query(warehouse, EXPIRE)
        backfill(at(warehouse, LATER + (1 + night) * NIGHT), abc, INTRADAY, MON, WED)
        ((reason, rows, provider, first, last),) = _quarantined(warehouse)
        assert (reason, rows) == (f"would withdraw {lost} of 390 bars of a final session", 390 - lost)
        assert (provider, first, last) == (
            "exchange",
            to_datetime(micros(TUE, 9, 30)),
            to_datetime(micros(TUE, 15, 59)),
        )
    kept = query(warehouse, 'SELECT "row" FROM quarantine ORDER BY ts LIMIT 1')[0][0]
    names = ("open", "high", "low", "close", "volume", "vwap", "trades")
    assert kept == json.loads(json.dumps(dict(zip(names, row_of(micros(TUE, 9, 30)), strict=True)))) | {
        "ts": micros(TUE, 9, 30)
    }


@pytest.mark.parametrize(("lost", "stays"), [(7, False), (8, True)])
def test_two_percent_may_go_and_more_may_not(
    warehouse: Warehouse, exchange: Exchange, lost: int, *, stays: bool
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    _lose(exchange, TUE, lost)
    query(warehouse, EXPIRE)
    outcome = backfill(at(warehouse, LATER + NIGHT), abc, INTRADAY, TUE, TUE)["2024-05-07"]
    assert outcome.state == ("complete" if stays else "incomplete")
    assert statuses(warehouse)[TUE][:2] == (390, 390 if stays else 390 - lost)
    assert query(warehouse, "SELECT count(*) FROM bar_revisions WHERE kind = 'withdrawn'") == [(0 if stays else lost,)]


def test_a_person_can_believe_the_provider(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse, "O'NEIL")
    backfill(warehouse, abc, INTRADAY, MON, WED)
    whole = {ts: row for ts, row in exchange.minutes.items() if ts < micros(THU, 0)}
    _lose(exchange, TUE, 300)
    query(warehouse, EXPIRE)
    backfill(at(warehouse, LATER + NIGHT), abc, INTRADAY, MON, WED)
    assert plain.stored(warehouse, "1m") == plain.expected(whole, "1m")
    exchange.requests.clear()
    assert query(warehouse, "SELECT reopen('O''NEIL', '1m', %s, %s)", TUE, TUE) == [(390,)]
    outcomes = backfill(at(warehouse, LATER + 2 * NIGHT), abc, INTRADAY, MON, WED)
    assert [outcome.state for outcome in outcomes.values()] == ["complete", "incomplete", "complete"]
    assert [(w.start, w.end) for _, w in exchange.requests] == [(micros(TUE, 0), micros(WED, 0))]
    traded = {ts: row for ts, row in exchange.minutes.items() if ts < micros(THU, 0)}
    for timeframe in INTRADAY.timeframes:
        assert plain.stored(warehouse, timeframe) == plain.expected(traded, timeframe)
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m' AND NOT final") == [(0,)]


def test_reopening_what_does_not_exist_says_so(warehouse: Warehouse) -> None:
    listed(warehouse)
    for asked in ("'NONE', '1m'", "'ABC', '5m'"):
        with pytest.raises(Exception, match="backfill symbols list"):
            query(warehouse, f"SELECT reopen({asked}, '2024-05-06', '2024-05-06')")
    assert query(warehouse, "SELECT reopen('ABC', '1d', '2024-05-04', '2024-05-05')") == [(0,)]  # a weekend


def test_a_final_days_bar_stays_when_the_provider_forgets_the_day(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, DAILY, MON, FRI)
    before = tables(warehouse.conn)
    exchange.days.clear()
    query(warehouse, EXPIRE)
    assert backfill(at(warehouse, LATER + NIGHT), abc, DAILY, MON, FRI)["2024-05"].state == "complete"
    assert differences(tables(warehouse.conn), before) == []
    assert query(warehouse, "SELECT count(*) FROM quarantine") == [(0,)]  # there is nothing to keep


def test_a_session_that_is_not_final_is_withdrawn_without_question(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    evening = at(warehouse, ny(TUE, 20, 30))
    backfill(evening, abc, INTRADAY, TUE, TUE)
    _lose(exchange, TUE, 100)
    backfill(at(warehouse, ny(WED, 20, 30)), abc, INTRADAY, TUE, TUE)
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m'") == [(290,)]


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.dictionaries(st.sampled_from([MON, TUE, WED, THU, FRI]), st.integers(1, 20), max_size=5))
def test_whatever_is_lacking_only_sessions_within_the_limit_change(database_url: str, lost: dict[date, int]) -> None:
    exchange = Exchange().trade(TRADED)
    with opened(database_url, exchange, LATER) as warehouse:
        empty(warehouse)
        abc = listed(warehouse)
        backfill(warehouse, abc, INTRADAY, MON, FRI)
        whole = dict(exchange.minutes)
        for day, minutes in lost.items():
            _lose(exchange, day, minutes)
        query(warehouse, EXPIRE)
        backfill(at(warehouse, LATER + NIGHT), abc, INTRADAY, MON, FRI)
        believed = {day: minutes for day, minutes in lost.items() if minutes <= 7}  # 2 % of 390 are 7.8
        traded = {
            ts: row
            for ts, row in whole.items()
            if ts < micros(FRI, 24 - 1) and not any(ts in _lost(day, minutes) for day, minutes in believed.items())
        }
        for timeframe in INTRADAY.timeframes:
            assert plain.stored(warehouse, timeframe) == plain.expected(traded, timeframe)
        assert {day: counts[3] for day, counts in statuses(warehouse).items()} == {
            day: believed.get(day, 0) for day in (MON, TUE, WED, THU, FRI)
        }


def _lost(day: date, minutes: int) -> list[int]:
    return regular_minutes(day)[100 : 100 + minutes]
