"""Answers that are less, other or worse than what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.errors import ProviderError, ProviderStopped, Retryable, Unreachable
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
    NEXT_MON,
    NEXT_TUE,
    THU,
    TRADED,
    TUE,
    WED,
    final,
    statuses,
)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def test_a_failing_day_stops_no_other_day(warehouse: Warehouse, exchange: Exchange) -> None:
    exchange.fails = {WED: Retryable("exchange: no reply within 30 s; run again")}
    abc = listed(warehouse)
    outcomes = backfill(warehouse, abc, INTRADAY, MON, FRI)
    states = [outcome.state for outcome in outcomes.values()]
    assert states == ["complete", "complete", "incomplete", "incomplete", "incomplete"]
    assert "390 of 390 bars are missing (exchange: no reply within 30 s; run again)" in outcomes["2024-05-08"].message
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m'") == [(780,)]
    # Only the answered days are covered, so the others are asked, and not in one request with Wednesday.
    exchange.requests.clear()
    exchange.fails[WED] = Retryable("exchange: still no reply")
    backfill(warehouse, abc, INTRADAY, THU, FRI)
    outcomes = backfill(warehouse, abc, INTRADAY, MON, NEXT_MON)
    assert exchange.requests == [
        ("1m", Window(micros(THU, 0), micros(date(2024, 5, 11), 0))),
        ("1m", Window(micros(WED, 0), micros(THU, 0))),
        ("1m", Window(micros(NEXT_MON, 0), micros(NEXT_TUE, 0))),
    ]
    assert [key for key, outcome in outcomes.items() if outcome.state != "complete"] == ["2024-05-08"]


@pytest.mark.parametrize("failure", [ProviderStopped("the key is refused"), Unreachable("connection refused")])
def test_a_provider_that_cannot_be_asked_at_all_is_one_error_and_asked_once(
    warehouse: Warehouse, exchange: Exchange, failure: ProviderError
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    exchange.requests.clear()
    exchange.fails = {MON: failure}
    with pytest.raises(type(failure), match=str(failure)):
        backfill(warehouse, abc, INTRADAY, MON, WED)
    assert len(exchange.requests) == 1
    exchange.fails = {}
    outcomes = backfill(warehouse, abc, INTRADAY, MON, WED)  # its locks are free again
    assert {outcome.state for outcome in outcomes.values()} == {"complete"}


def test_a_failure_takes_nothing_back_that_an_earlier_answer_gave(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    backfill(at(warehouse, ny(TUE, 20, 30)), abc, INTRADAY, MON, TUE)
    before = query(warehouse, "SELECT * FROM bars ORDER BY timeframe, ts")
    exchange.fails = {MON: Retryable("exchange: down")}
    outcomes = backfill(at(warehouse, ny(WED, 20, 30)), abc, INTRADAY, MON, TUE)
    assert [outcome.state for outcome in outcomes.values()] == ["complete", "complete"]
    assert query(warehouse, "SELECT * FROM bars ORDER BY timeframe, ts") == before


def test_a_session_that_was_not_due_is_red_when_it_is_due_and_the_provider_fails(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    backfill(at(warehouse, ny(TUE, 12)), abc, INTRADAY, TUE, TUE)
    exchange.fails = {TUE: Retryable("exchange: down")}
    outcome = backfill(at(warehouse, ny(WED, 12)), abc, INTRADAY, TUE, TUE)["2024-05-07"]
    assert (outcome.state, outcome.message) == (
        "incomplete",
        "ABC 2024-05-07 1m: 240 of 390 bars are missing (exchange: down)",
    )
    assert statuses(warehouse)[TUE] == (390, 150, {}, 240, None)


def test_today_is_not_red_because_its_provider_fails(warehouse: Warehouse, exchange: Exchange) -> None:
    exchange.fails = {TUE: Retryable("exchange: down")}
    assert backfill(at(warehouse, ny(TUE, 12)), listed(warehouse), INTRADAY, TUE, TUE)["2024-05-07"].state == (
        "in progress"
    )


def test_a_partial_answer_replaces_what_it_speaks_of_and_leaves_the_rest(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    backfill(at(warehouse, ny(TUE, 20, 30)), abc, INTRADAY, TUE, TUE)
    exchange.silent = [Window(micros(TUE, 12), micros(WED, 0))]
    morning, afternoon = micros(TUE, 10), micros(TUE, 15)
    exchange.minutes[morning] = (200.0, 201.0, 199.0, 200.0, 50.0, None, None)
    exchange.minutes[afternoon] = (200.0, 201.0, 199.0, 200.0, 50.0, None, None)
    outcome = backfill(at(warehouse, ny(FRI, 20, 30)), abc, INTRADAY, TUE, TUE)["2024-05-07"]
    assert outcome.state == "complete"
    held = plain.stored(warehouse, "1m")
    assert held[morning][1][0] == 200.0
    assert held[afternoon][1] == plain.rounded(row_of(afternoon))
    # The afternoon was last heard of inside its correction window, so nothing of it is final.
    assert query(warehouse, "SELECT final, count(*) FROM bars WHERE timeframe = '1m' GROUP BY 1 ORDER BY 1") == [
        (False, 240),
        (True, 150),
    ]
    assert query(warehouse, "SELECT ts FROM bars WHERE timeframe = '1h' AND final ORDER BY ts") == [
        (ny(TUE, 9, 30),),
        (ny(TUE, 10, 30),),
    ]
    exchange.silent = []
    backfill(at(warehouse, ny(FRI, 20, 30)), abc, INTRADAY, TUE, TUE)
    assert plain.stored(warehouse, "1m")[afternoon][1][0] == 200.0
    assert final(warehouse) == {TUE: True}


def test_a_post_market_bucket_is_not_final_while_part_of_it_is_unanswered(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    exchange.trade([TUE], extended=True)
    exchange.silent = [Window(micros(TUE, 17, 30), micros(WED, 0))]
    outcome = backfill(warehouse, listed(warehouse), INTRADAY, TUE, TUE)["2024-05-07"]
    assert outcome.state == "complete"  # nothing is expected after the close
    assert query(warehouse, "SELECT ts, final FROM bars WHERE timeframe = '1h' AND segment = 'post' ORDER BY ts") == [
        (ny(TUE, 16), True),
        (ny(TUE, 17), False),
    ]


def test_a_provisional_bar_is_stored_and_neither_counted_norfinal(warehouse: Warehouse, exchange: Exchange) -> None:
    last = micros(TUE, 10, 11)
    exchange.silent = [Window(last, micros(WED, 0))]
    exchange.provisional = {last: row_of(last)}
    abc = listed(warehouse)
    outcome = backfill(warehouse, abc, INTRADAY, TUE, TUE)["2024-05-07"]
    assert outcome.message == "ABC 2024-05-07 1m: 349 of 390 bars are missing"
    assert query(warehouse, "SELECT ts FROM bars WHERE timeframe = '1m' AND NOT final") == [(ny(TUE, 10, 11),)]
    assert query(warehouse, "SELECT ts FROM bars WHERE timeframe = '5m' AND NOT final") == [(ny(TUE, 10, 10),)]
    assert query(warehouse, "SELECT derived -> '5m', derived -> '1h' FROM session_status") == [(8, 0)]
    # Once an answer vouches for the minute, a provisional bar no longer changes it.
    exchange.silent, exchange.provisional = [], {}
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    query(warehouse, "UPDATE coverage SET valid_until = '2024-01-01'")
    exchange.silent = [Window(last, micros(WED, 0))]
    exchange.provisional = {last: (500.0, 500.0, 500.0, 500.0, 1.0, None, None)}
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    assert plain.stored(warehouse, "1m")[last][1] == plain.rounded(row_of(last))


def test_garbage_is_kept_aside_with_its_reason_and_harms_no_other_row(warehouse: Warehouse, exchange: Exchange) -> None:
    good = regular_minutes(TUE)[5]
    nanoseconds = micros(TUE, 10) * 1000
    exchange.garbage = [
        (good, row_of(good)),  # an equal duplicate
        (good + 1_000_000, row_of(good)),
        (nanoseconds, row_of(good)),
        (-nanoseconds, row_of(good)),
        (micros(WED, 10), row_of(good)),
        (micros(TUE, 22), row_of(good)),  # outside of any session: counted and dropped
        (micros(TUE, 17), (10.0, 9.0, 8.0, 9.5, 1.0, None, None)),
        (micros(TUE, 17, 1), (10.0, 11.0, 8.0, float("nan"), 1.0, None, None)),
        (micros(TUE, 17, 2), (10.0, 11.0, 8.0, 9.0, 1.0, None, 2**31)),
        (micros(TUE, 17, 3), (10.0, 11.0, 8.0, 9.0, 0.0, None, 0)),  # a filler: evidence of no trade
    ]
    abc = listed(warehouse)
    outcome = backfill(warehouse, abc, INTRADAY, TUE, TUE)["2024-05-07"]
    assert outcome.state == "complete"
    assert plain.stored(warehouse, "1m") == plain.expected(
        {ts: row for ts, row in exchange.minutes.items() if ts in regular_minutes(TUE)}, "1m"
    )
    reasons = query(warehouse, "SELECT ts::text, reason, \"row\" ->> 'ts' FROM quarantine ORDER BY ts, reason")
    assert [(ts, str(reason).split(" [")[0]) for ts, reason, _ in reasons] == [
        ("-infinity", "ts is outside the asked window"),
        ("2024-05-07 13:35:01+00", "ts is not at the start of a minute"),
        ("2024-05-07 21:00:00+00", "high is below open or close"),
        ("2024-05-07 21:01:00+00", "not a number"),
        ("2024-05-07 21:02:00+00", "trades is beyond any count"),
        ("2024-05-08 14:00:00+00", "ts is outside the asked window"),
        ("infinity", "ts is outside the asked window"),
    ]
    assert reasons[-1][2] == str(nanoseconds)
    query(warehouse, "UPDATE coverage SET valid_until = '2024-01-01'")
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    assert query(warehouse, "SELECT count(*) FROM quarantine") == [(7,)]


def test_rows_that_disagree_about_a_minute_are_refused_both_and_the_minute_is_missing(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    minute = regular_minutes(TUE)[5]
    exchange.garbage = [(minute, (1.0, 1.0, 1.0, 1.0, 1.0, None, None))]
    assert backfill(warehouse, listed(warehouse), INTRADAY, TUE, TUE)["2024-05-07"].message.startswith(
        "ABC 2024-05-07 1m: 1 of 390"
    )
    assert query(warehouse, "SELECT reason FROM quarantine") == [("2 rows of the same ts disagree",)] * 2


def test_restated_and_withdrawn_bars_leave_what_they_were(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    backfill(at(warehouse, ny(TUE, 20, 30)), abc, INTRADAY, TUE, TUE)
    restated, withdrawn, added = regular_minutes(TUE)[7], regular_minutes(TUE)[9], micros(TUE, 16)
    old = {minute: exchange.minutes[minute] for minute in (restated, withdrawn)}
    exchange.minutes[restated] = (300.0, 301.0, 299.0, 300.5, 7.0, None, 3)
    del exchange.minutes[withdrawn]
    exchange.minutes[added] = row_of(added)
    later = ny(WED, 20, 30)
    outcome = backfill(at(warehouse, later), abc, INTRADAY, TUE, TUE)["2024-05-07"]
    assert outcome.message == "ABC 2024-05-07 1m: 1 of 390 bars are missing"
    columns = (
        "(extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, vwap, trades, kind, revised_at"
    )
    assert query(warehouse, f"SELECT {columns} FROM bar_revisions ORDER BY ts") == [
        (restated, *old[restated], "restated", later),
        (withdrawn, *old[withdrawn], "withdrawn", later),
    ]
    traded = {ts: row for ts, row in exchange.minutes.items() if ts < micros(WED, 0) and ts >= micros(TUE, 0)}
    for timeframe in INTRADAY.timeframes:
        assert plain.stored(warehouse, timeframe) == plain.expected(traded, timeframe)


def test_another_provider_puts_its_name_to_equal_bars_without_a_revision(database_url: str, exchange: Exchange) -> None:
    other = Exchange(name="other").trade([TUE])
    with opened(database_url, exchange, ny(TUE, 20, 30)) as first:
        abc = listed(first)
        backfill(first, abc, INTRADAY, TUE, TUE)
    with opened(database_url, other, ny(WED, 20, 30)) as second:
        backfill(second, abc, INTRADAY, TUE, TUE)
        assert query(second, "SELECT DISTINCT provider FROM bars") == [("other",)]
        assert query(second, "SELECT provider FROM session_status") == [("other",)]
        assert query(second, "SELECT count(*) FROM bar_revisions") == [(0,)]
