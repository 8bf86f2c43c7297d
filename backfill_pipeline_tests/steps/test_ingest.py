"""Asking for sessions and judging them: statuses, finality, what is asked again and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    at,
    backfill,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
    row_of,
)
from backfill_pipeline_tests.steps.week import (
    FRI,
    LATER,
    MON,
    THU,
    TRADED,
    TUE,
    WED,
    final,
    statuses,
    valid_until,
)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def test_a_whole_old_answer_is_complete_final_and_believed_for_ever(warehouse: Warehouse, exchange: Exchange) -> None:
    outcomes = backfill(warehouse, listed(warehouse), INTRADAY, MON, TUE)
    assert {key: outcome.state for key, outcome in outcomes.items()} == dict.fromkeys(
        ("2024-05-06", "2024-05-07"), "complete"
    )
    assert outcomes["2024-05-06"].bars["1m"].rows == 390
    assert outcomes["2024-05-06"].features["4h"].rows == 2
    assert outcomes["2024-05-06"].bars["1m"].first == ny(MON, 9, 30)
    assert outcomes["2024-05-06"].bars["1m"].last == ny(MON, 15, 59)
    assert statuses(warehouse) == {MON: (390, 390, {}, 0, None), TUE: (390, 390, {}, 0, None)}
    assert valid_until(warehouse) == [(MON, "infinity")]
    assert final(warehouse) == {MON: True, TUE: True}
    assert query(warehouse, "SELECT rows_received, rows_written, settled FROM coverage") == [(780, 780, True)]
    exchange.requests.clear()
    assert backfill(warehouse, listed(warehouse), INTRADAY, MON, TUE) == outcomes
    assert exchange.requests == []


def test_a_session_is_asked_again_each_night_until_its_correction_window_has_passed(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    evening = at(warehouse, ny(WED, 20, 30))
    backfill(evening, abc, INTRADAY, MON, WED)
    # Two sessions have closed after Monday's; none after Wednesday's.
    assert final(warehouse) == {MON: True, TUE: False, WED: False}
    assert final(warehouse, "4h") == {MON: True, TUE: False, WED: False}
    assert valid_until(warehouse) == [(MON, "infinity"), (TUE, "2024-05-10 00:00:00+00")]
    exchange.requests.clear()
    backfill(at(warehouse, ny(WED, 23)), abc, INTRADAY, MON, WED)
    assert exchange.requests == []  # the night of UTC has not come, and the session's last segment is covered
    backfill(at(warehouse, ny(THU, 20, 30)), abc, INTRADAY, MON, WED)
    assert exchange.requests == [("1m", Window(micros(TUE, 0), micros(THU, 0)))]
    assert final(warehouse) == {MON: True, TUE: True, WED: False}
    assert query(warehouse, "SELECT count(*) FROM bar_revisions") == [(0,)]  # becoming final is no revision


def test_missing_minutes_are_red_and_asked_again_and_again(warehouse: Warehouse, exchange: Exchange) -> None:
    for minute in regular_minutes(TUE)[100:107]:
        del exchange.minutes[minute]
    abc = listed(warehouse)
    outcomes = backfill(warehouse, abc, INTRADAY, MON, WED)
    assert [outcome.state for outcome in outcomes.values()] == ["complete", "incomplete", "complete"]
    assert outcomes["2024-05-07"].message == "ABC 2024-05-07 1m: 7 of 390 bars are missing"
    assert statuses(warehouse)[TUE] == (390, 383, {}, 7, None)
    tomorrow = (LATER + timedelta(days=1)).strftime("%Y-%m-%d 00:00:00+00")
    assert valid_until(warehouse) == [(MON, "infinity"), (TUE, tomorrow), (WED, "infinity")]
    exchange.requests.clear()
    exchange.minutes |= {minute: row_of(minute) for minute in regular_minutes(TUE)}
    outcomes = backfill(warehouse, abc, INTRADAY, MON, WED)
    assert exchange.requests == [("1m", Window(micros(TUE, 0), micros(WED, 0)))]
    assert [outcome.state for outcome in outcomes.values()] == ["complete"] * 3


def test_a_session_in_progress_is_neither_green_nor_red_and_goes_on_from_where_it_was(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    noon = at(warehouse, ny(TUE, 12, 0))
    now = ny(TUE, 12, 0)
    exchange.minutes = {ts: row for ts, row in exchange.minutes.items() if ts < micros(TUE, 12, 0)}
    outcomes = backfill(noon, abc, INTRADAY, MON, TUE)
    assert [outcome.state for outcome in outcomes.values()] == ["complete", "in progress"]
    assert "still in progress" in outcomes["2024-05-07"].message
    assert statuses(warehouse)[TUE] == (390, 150, {"not_due": 240}, 0, ny(TUE, 20, 15))
    assert valid_until(warehouse)[-1] == (TUE, "2024-05-08 00:15:00+00")
    assert final(warehouse) == {MON: False, TUE: False}
    # 9:30 to 13:30 is not over: that bucket exists, is not whole and does not count.
    assert query(warehouse, "SELECT derived FROM session_status WHERE session = %s", TUE) == [
        ({"5m": 30, "15m": 10, "30m": 5, "1h": 2, "4h": 0},)
    ]
    assert len(plain.stored(warehouse, "4h")) == 2 + 1
    exchange.requests.clear()
    backfill(at(warehouse, now), abc, INTRADAY, MON, TUE)
    assert exchange.requests == []  # nothing can have happened since
    exchange.trade([TUE])
    backfill(at(warehouse, now + timedelta(minutes=30)), abc, INTRADAY, MON, TUE)
    assert exchange.requests == [("1m", Window(micros(TUE, 0), micros(TUE, 12, 30)))]
    assert statuses(warehouse)[TUE][1] == 180
    outcomes = backfill(at(warehouse, ny(WED, 8)), abc, INTRADAY, MON, TUE)
    assert [outcome.state for outcome in outcomes.values()] == ["complete", "complete"]
    for timeframe in INTRADAY.timeframes:
        traded = {ts: row for ts, row in exchange.minutes.items() if ts < micros(WED, 0)}
        assert plain.stored(warehouse, timeframe) == plain.expected(traded, timeframe)


def test_a_session_with_all_its_bars_is_not_complete_before_it_is_due(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    assert backfill(at(warehouse, ny(TUE, 20, 10)), abc, INTRADAY, TUE, TUE)["2024-05-07"].state == "in progress"
    assert backfill(at(warehouse, ny(TUE, 20, 15)), abc, INTRADAY, TUE, TUE)["2024-05-07"].state == "complete"


def test_tomorrow_is_in_progress_and_nothing_is_asked_of_it(warehouse: Warehouse, exchange: Exchange) -> None:
    outcomes = backfill(at(warehouse, ny(MON, 23)), listed(warehouse), INTRADAY, TUE, TUE)
    assert outcomes["2024-05-07"].state == "in progress"
    assert exchange.requests == []


@pytest.mark.parametrize("hour", [0, 4])
def test_the_instant_at_which_a_day_or_a_session_begins_is_nothing_to_ask_about(
    warehouse: Warehouse, exchange: Exchange, hour: int
) -> None:
    coin = listed(warehouse, "X:BTCUSD", "crypto", "24/7")
    midnight = datetime(2024, 5, 7, tzinfo=UTC)
    assert backfill(at(warehouse, midnight), coin, INTRADAY, TUE, TUE)["2024-05-07"].state == "in progress"
    assert backfill(at(warehouse, ny(TUE, hour)), listed(warehouse), INTRADAY, TUE, TUE)["2024-05-07"].bars
    assert exchange.requests == []


def test_what_lies_outside_a_lifetime_is_explained_and_not_asked(warehouse: Warehouse, exchange: Exchange) -> None:
    exchange.minutes = {ts: row for ts, row in exchange.minutes.items() if micros(TUE, 0) <= ts < micros(FRI, 0)}
    late = listed(warehouse, "LATE", lifetime=(TUE, THU))
    outcomes = backfill(warehouse, late, INTRADAY, MON, FRI)
    assert [outcome.state for outcome in outcomes.values()] == ["complete"] * 5
    assert exchange.requests == [("1m", Window(micros(TUE, 0), micros(FRI, 0)))]
    assert statuses(warehouse)[MON] == (390, 0, {"not_listed": 390}, 0, None)
    assert query(warehouse, "SELECT provider FROM session_status WHERE session = %s", MON) == [(None,)]
    exchange.requests.clear()
    backfill(warehouse, late, INTRADAY, MON, FRI)
    assert exchange.requests == []


def test_days_that_nobody_serves_are_not_asked_and_say_why(warehouse: Warehouse, exchange: Exchange) -> None:
    exchange.serves = (TUE, WED)
    outcomes = backfill(warehouse, listed(warehouse), INTRADAY, MON, THU)
    assert [outcome.state for outcome in outcomes.values()] == ["not served", "complete", "complete", "not served"]
    assert outcomes["2024-05-06"].message == ("ABC 2024-05-06 1m: the exchange serves 2024-05-07 to 2024-05-08")
    assert exchange.requests == [("1m", Window(micros(TUE, 0), micros(THU, 0)))]
    assert set(statuses(warehouse)) == {TUE, WED}


def test_closed_days_are_green_with_no_rows_and_the_holidays_name(warehouse: Warehouse, exchange: Exchange) -> None:
    outcomes = backfill(warehouse, listed(warehouse), INTRADAY, date(2024, 6, 15), date(2024, 6, 19))
    closed = {key: outcome.message for key, outcome in outcomes.items() if outcome.state == "complete"}
    assert closed == {
        "2024-06-15": "weekend",
        "2024-06-16": "weekend",
        "2024-06-19": "Juneteenth National Independence Day",
    }
    assert outcomes["2024-06-19"].bars["1m"].rows == 0
    assert outcomes["2024-06-18"].state == "incomplete"


def test_today_of_the_daily_chain_is_asked_for_and_waited_for(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    exchange.days = {ts: row for ts, row in exchange.days.items() if ts < micros(WED, 0)}
    outcome = backfill(at(warehouse, ny(WED, 12)), abc, DAILY, MON, WED)["2024-05"]
    assert outcome.state == "in progress"
    assert statuses(warehouse, "1d")[WED] == (1, 0, {"not_due": 1}, 0, ny(WED, 20, 15))
    exchange.trade([WED])
    assert backfill(at(warehouse, ny(WED, 21)), abc, DAILY, MON, WED)["2024-05"].state == "complete"
    assert final(warehouse, "1d") == {MON: True, TUE: False, WED: False}
