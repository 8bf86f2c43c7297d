"""Nights within the correction window: what a provider corrects after the close, how far it travels, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import to_datetime, to_micros
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    Clock,
    Exchange,
    at,
    backfill,
    both_chains,
    empty,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
)
from backfill_pipeline_tests.steps.week import FRI, MON, THU, TRADED, WED, final, valid_until
from backfill_pipeline_tests.tables import Tables, differences, tables

EVENING = (20, 30)
COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "trades")
ROWS = (
    "SELECT 'bars', ctid::text, xmin::text FROM bars UNION ALL SELECT 'features', ctid::text, xmin::text FROM features"
    " UNION ALL SELECT 'status', ctid::text, xmin::text FROM session_status ORDER BY 1, 2"
)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, ny(WED, *EVENING)) as made:
        yield made


def _night(warehouse: Warehouse, day: date) -> Warehouse:
    return at(warehouse, ny(day, *EVENING))


def _differing(before: Tables, after: Tables, name: str) -> set[tuple[str, str]]:
    return {tuple(row.split("\t")[1:3]) for row in set(before[name]) ^ set(after[name])}  # type: ignore[misc]  # pairs


def _stamp(ts: int) -> str:
    return f"{to_datetime(ts):%Y-%m-%d %H:%M:%S+00}"


def _buckets(ts: int) -> set[tuple[str, str]]:
    """The bars, the minute's own among them, that a minute of Wednesday is a part of."""
    anchor = to_micros(plain.segment_of(ts)[1])
    lengths = {"1m": 1, **plain.LENGTHS}
    starts = {name: anchor + (ts - anchor) // (n * 60_000_000) * n * 60_000_000 for name, n in lengths.items()}
    return {(name, _stamp(start)) for name, start in starts.items()}


@pytest.mark.parametrize(
    "column", ["volume", "vwap", "trades", "close"], ids=lambda column: f"the {column}, nothing else"
)
def test_a_correction_of_one_column_travels_to_what_is_made_of_it_and_to_nothing_else(
    warehouse: Warehouse, exchange: Exchange, column: str
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, MON, WED)
    before = tables(warehouse.conn)
    # The last minute of 10:15-10:19, 10:15-10:29, ... is another: its close is not those buckets'.
    minute = micros(WED, 10, 17)
    old = exchange.minutes[minute]
    changed = dict(zip(COLUMNS, old, strict=True))
    changed[column] = (old[1] + old[2]) / 2 + 0.001 if column in ("vwap", "close") else 5000
    exchange.minutes[minute] = tuple(changed.values())  # type: ignore[assignment]  # a row again
    backfill(_night(warehouse, THU), abc, INTRADAY, MON, WED)
    after = tables(warehouse.conn)
    tuesday_final = {row for row in before["bars"] if "\t2024-05-07\t" in row}
    moved = {
        (row.split("\t")[1], row.split("\t")[2])
        for row in set(before["bars"]) ^ set(after["bars"])
        if row not in tuesday_final and "\t2024-05-08\t" in row
    }
    assert moved == ({("1m", _stamp(minute))} if column == "close" else _buckets(minute))
    assert query(warehouse, f"SELECT kind, ts, {', '.join(COLUMNS)}, final, provider FROM bar_revisions") == [
        ("restated", to_datetime(minute), *old, False, "exchange")
    ]
    # No feature before it, and none of a timeframe whose bars do not show it.
    features = _differing(before, after, "features")
    seen = {name for name, _ in moved} if column != "trades" else set()
    assert {name for name, _ in features} == seen
    assert all(start >= dict(moved)[name] for name, start in features)
    empty(warehouse)
    again = listed(warehouse)
    backfill(_night(warehouse, THU), again, INTRADAY, MON, WED)
    assert differences(after, tables(warehouse.conn)) == []


def test_a_withdrawn_minute_leaves_its_buckets_smaller_and_a_withdrawn_bucket_leaves_none(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    exchange.trade([WED], extended=True)
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, WED, WED)
    lost = [micros(WED, 10, 17), *(micros(WED, 18, minute) for minute in range(5, 10))]
    for minute in lost:
        del exchange.minutes[minute]
    backfill(_night(warehouse, THU), abc, INTRADAY, WED, WED)
    traded = {ts: row for ts, row in exchange.minutes.items() if micros(WED, 0) <= ts < micros(THU, 0)}
    for timeframe in INTRADAY.timeframes:
        assert plain.stored(warehouse, timeframe) == plain.expected(traded, timeframe)
    assert micros(WED, 18, 5) not in plain.stored(warehouse, "5m")
    assert query(warehouse, "SELECT ts FROM bar_revisions WHERE kind = 'withdrawn' ORDER BY ts") == [
        (to_datetime(ts),) for ts in lost
    ]


def test_an_equal_answer_of_the_next_night_writes_no_row(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    both_chains(warehouse, abc, WED, WED)
    rows = query(warehouse, ROWS)
    exchange.requests.clear()
    both_chains(_night(warehouse, THU), abc, WED, WED)
    assert len(exchange.requests) == 2  # it was asked,
    assert query(warehouse, ROWS) == rows  # and is the same to the last row version
    assert query(warehouse, "SELECT count(*) FROM bar_revisions") == [(0,)]


def test_after_two_more_sessions_a_session_is_final_and_asked_no_more(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    nights = {}
    for day in (WED, THU, FRI):
        exchange.requests.clear()
        both_chains(_night(warehouse, day), abc, WED, WED)
        nights[day] = (len(exchange.requests), final(warehouse)[WED], final(warehouse, "4h")[WED])
    assert nights == {WED: (2, False, False), THU: (2, False, False), FRI: (2, True, True)}
    ends = [until for _, until in valid_until(warehouse)]
    assert ends == ["2024-05-10 00:00:00+00", "2024-05-11 00:00:00+00", "infinity"]
    assert query(warehouse, "SELECT count(*) FROM bar_revisions") == [(0,)]
    exchange.minutes[micros(WED, 10)] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1)
    both_chains(at(warehouse, ny(FRI, 20, 30) + timedelta(days=300)), abc, WED, WED)
    assert exchange.requests[2:] == []


CORRECTIONS = st.lists(
    st.tuples(
        st.sampled_from([WED, THU]),
        st.sampled_from(regular_minutes(WED)),
        st.one_of(st.none(), st.tuples(st.sampled_from(COLUMNS[3:]), st.integers(1, 60))),
    ),
    max_size=8,
)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CORRECTIONS, min_size=2, max_size=3))
def test_corrected_night_by_night_the_tables_are_those_of_one_run_at_the_end(
    database_url: str, nights: list[list[tuple[date, int, tuple[str, int] | None]]]
) -> None:
    exchange = Exchange().trade(TRADED)
    with opened(database_url, exchange, ny(THU, *EVENING)) as warehouse:
        empty(warehouse)
        abc = listed(warehouse)
        both_chains(warehouse, abc, WED, THU)
        clock = ny(THU, *EVENING)
        for corrections in nights:
            for day, minute, change in corrections:
                ts = minute + micros(day, 0) - micros(WED, 0)
                old = exchange.minutes.pop(ts, (100.0, 103.0, 97.0, 101.0, 9.0, None, None))
                row = dict(zip(COLUMNS, old, strict=True))
                if change is not None:  # else the minute is withdrawn
                    column, step = change
                    row[column] = step if column in ("volume", "trades") else row["low"] or 1.0
                    exchange.minutes[ts] = tuple(row.values())  # type: ignore[assignment]  # a row again
            clock += timedelta(hours=9)  # Wednesday's bars become final with the third answer
            query(warehouse, "UPDATE coverage SET valid_until = fetched_at")
            both_chains(at(warehouse, clock), abc, WED, THU)
        corrected = tables(warehouse.conn)
        empty(warehouse)
        both_chains(at(warehouse, clock), listed(warehouse), WED, THU)
        assert differences(corrected, tables(warehouse.conn)) == []


def test_polygons_corrections_come_over_the_socket(database_url: str) -> None:
    evening = datetime(2024, 5, 9, 5, tzinfo=UTC)  # Wednesday is due from 00:15 New York on
    with ExitStack() as stack:
        standin = stack.enter_context(StandIn(now=evening))
        clock = Clock(evening)
        provider = PolygonProvider(
            SecretStr(standin.key), standin.url, budget=NoBudget(), limits=OwnMemory(), now=clock
        )
        warehouse = stack.enter_context(opened(database_url, provider, evening))
        aapl = listed(warehouse, "AAPL")
        backfill(warehouse, aapl, INTRADAY, MON, WED)
        standin.market.restate("AAPL", ny(WED, 10, 17), volume=1234.0, vwap=150.0, trades=3)
        standin.market.withhold("AAPL", ny(WED, 11), ny(WED, 11, 2))
        clock.now = evening + timedelta(days=1)
        standin.set(now=clock.now)
        outcome = backfill(at(warehouse, clock.now), aapl, INTRADAY, MON, WED)["2024-05-08"]
        assert outcome.message == "AAPL 2024-05-08 1m: 2 of 390 bars are missing"
        assert query(warehouse, "SELECT kind, ts FROM bar_revisions ORDER BY ts") == [
            ("restated", ny(WED, 10, 17)),
            ("withdrawn", ny(WED, 11)),
            ("withdrawn", ny(WED, 11, 1)),
        ]
        truth = standin.market.minutes("AAPL", warehouse.sessions("XNYS").days_window(MON, WED))
        assert query(warehouse, "SELECT count(*), sum(volume), sum(trades) FROM bars WHERE timeframe = '1m'") == [
            (len(truth), pytest.approx(float(truth.volume.sum())), int(truth.trades.sum()))
        ]
