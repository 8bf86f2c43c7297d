"""What the asset checks find: each with data that is right, and with one thing wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.checks import (
    Finding,
    bars_are_valid,
    calendar_is_current,
    daily_agrees_with_minutes,
    no_open_gaps,
    session_is_complete,
)
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import remove_symbol
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    Row,
    at,
    backfill,
    both_chains,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
)
from backfill_pipeline_tests.steps.week import FRI, MON, THU, TRADED, TUE, WED

LATER = datetime(2024, 6, 20, tzinfo=UTC)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def high(row: Row, value: float) -> Row:
    return (row[0], value, *row[2:])


def valid(warehouse: Warehouse) -> Finding:
    with warehouse.conn:
        return bars_are_valid(warehouse.conn, "1m", LATER)


def test_a_refused_row_stands_until_an_answer_brings_a_good_one(warehouse: Warehouse, exchange: Exchange) -> None:
    abc, ts = listed(warehouse), micros(WED, 10)
    assert valid(warehouse) == Finding(0, ())
    good = exchange.minutes[ts]
    exchange.minutes[ts] = high(good, 1.0)
    backfill(at(warehouse, ny(WED, 21)), abc, INTRADAY, WED, WED)

    first = valid(warehouse)
    assert (first.count, first.passed) == (1, False)
    assert first.sample == ("ABC 2024-05-08 14:00:00+00 (exchange): high is below open or close",)

    backfill(at(warehouse, ny(THU, 21)), abc, INTRADAY, WED, WED)
    assert query(warehouse, "SELECT count(*) FROM quarantine") == [(1,)], "the same row is kept once"
    assert valid(warehouse) == first, "and it came again"

    exchange.minutes[ts] = good
    backfill(at(warehouse, ny(FRI, 21)), abc, INTRADAY, WED, WED)
    assert valid(warehouse) == Finding(0, ())


def test_a_row_of_a_nonsensical_time_stands_until_the_next_answer(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    exchange.garbage = [(micros(date(2024, 12, 2), 10), exchange.minutes[micros(WED, 10)])]
    backfill(at(warehouse, ny(WED, 21)), abc, INTRADAY, WED, WED)
    assert valid(warehouse).count == 1
    exchange.garbage = []
    backfill(at(warehouse, ny(THU, 21)), abc, INTRADAY, WED, WED)
    assert valid(warehouse).passed


def test_of_many_the_count_is_exact_and_the_sample_short(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    for ts in regular_minutes(WED)[:50]:
        exchange.minutes[ts] = high(exchange.minutes[ts], 1.0)
    backfill(warehouse, abc, INTRADAY, WED, WED)
    found = valid(warehouse)
    assert (found.count, len(found.sample)) == (50, 20)
    with warehouse.conn:
        remove_symbol(warehouse.conn, "ABC", with_bars=False)
    assert valid(warehouse).passed, "nobody follows it any more"


def test_sessions_that_lack_bars_are_named_newest_first(warehouse: Warehouse) -> None:
    both_chains(warehouse, listed(warehouse), MON, FRI)
    with warehouse.conn as conn:
        assert session_is_complete(conn, "1m", LATER) == Finding(0, ())
        assert session_is_complete(conn, "1d", LATER) == Finding(0, ())
    query(warehouse, "UPDATE session_status SET stored = 380, missing = 10 WHERE session IN (%s, %s)", TUE, THU)
    with warehouse.conn as conn:
        found = session_is_complete(conn, "1m", LATER)
    assert found.count == 2
    assert found.sample == ("ABC 2024-05-09: 10 of 390 bars are missing", "ABC 2024-05-07: 10 of 390 bars are missing")


def test_open_gaps_count_and_past_ones_do_not(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    gap = (
        "INSERT INTO gaps (symbol_id, timeframe, time_window, expected, found, verdict, evidence, attempts,"
        " next_attempt_at, detected_at, resolved_at, resolution) VALUES (%s, '1m', tstzrange(%s, %s), 30, 1, 'missing',"
        " '{}', 2, %s, %s, %s, %s)"
    )
    times = (ny(TUE, 11), ny(TUE, 11, 30), datetime(2024, 5, 9, 1, 5, tzinfo=UTC), LATER)
    query(warehouse, gap, abc.symbol_id, *times, LATER, "filled")
    with warehouse.conn as conn:
        assert no_open_gaps(conn, "1m", LATER) == Finding(0, ())
    query(warehouse, gap, abc.symbol_id, *times, None, None)
    with warehouse.conn as conn:
        found = no_open_gaps(conn, "1m", LATER)
        assert no_open_gaps(conn, "1d", LATER).passed
    assert found.sample == (
        "ABC gap 2: 29 bars missing, 2024-05-07 15:00Z to 2024-05-07 15:30Z; 2 attempts, next at 2024-05-09 01:05Z",
    )


def trade_with_days(exchange: Exchange, days: Sequence[date], share: float) -> None:
    """Days whose minutes hold `share` of their volume, at the minutes' own prices."""
    for day in days:
        minutes = [exchange.minutes[ts] for ts in regular_minutes(day)]
        volume = sum(row[4] for row in minutes)
        top, bottom = max(row[1] for row in minutes), min(row[2] for row in minutes)
        exchange.days[micros(day, 0)] = (minutes[0][0], top, bottom, minutes[-1][3], volume / share, None, None)


def agreement(warehouse: Warehouse) -> Finding:
    with warehouse.conn as conn:
        return daily_agrees_with_minutes(conn, "1d", LATER)


def test_days_and_minutes_that_agree_are_counted(warehouse: Warehouse, exchange: Exchange) -> None:
    trade_with_days(exchange, TRADED, 0.9)
    both_chains(warehouse, listed(warehouse), MON, FRI)
    assert agreement(warehouse) == Finding(0, (), {"sessions_compared": 5, "minutes_share_of_volume": 0.9})


def test_a_day_whose_minutes_lack_volume_disagrees_with_figures(warehouse: Warehouse, exchange: Exchange) -> None:
    trade_with_days(exchange, TRADED, 0.9)
    trade_with_days(exchange, [WED], 0.8)
    both_chains(warehouse, listed(warehouse), MON, FRI)
    found = agreement(warehouse)
    assert (found.count, found.figures["sessions_compared"]) == (1, 5)
    assert found.sample == (
        "ABC 2024-05-08: minutes hold 80.00 % of the day's volume, usually 90.00 %; prices beyond the day's by 0.000 %",
    )
    query(warehouse, "UPDATE session_status SET missing = 1 WHERE session = %s AND timeframe = '1m'", WED)
    assert agreement(warehouse).passed, "a session that lacks minutes is told elsewhere"


def test_a_minute_beyond_the_days_prices_disagrees_and_one_after_hours_does_not(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    trade_with_days(exchange, TRADED, 0.9)
    row = exchange.minutes[micros(TUE, 10)]
    exchange.minutes[micros(TUE, 10)] = high(row, 110.0)
    exchange.minutes[micros(THU, 17)] = high(row, 150.0)
    both_chains(warehouse, listed(warehouse), MON, FRI)
    found = agreement(warehouse)
    top = exchange.days[micros(TUE, 0)][1]
    assert [line.split(":")[0] for line in found.sample] == ["ABC 2024-05-07"]
    assert found.sample[0].endswith(f"beyond the day's by {100 * (110 / top - 1):.3f} %")


def test_a_calendar_that_ends_soon_is_told(warehouse: Warehouse) -> None:
    backfill(warehouse, listed(warehouse), DAILY, MON, FRI)
    with warehouse.conn as conn:
        assert calendar_is_current(conn, "1d", LATER) == Finding(0, (), {"XNYS_ends": "2025-12-31"})
        assert calendar_is_current(conn, "1m", LATER) == Finding(0, (), {}), "nothing is wanted in minutes"
        found = calendar_is_current(conn, "1d", datetime(2025, 12, 10, tzinfo=UTC))
    assert found.sample == ("XNYS ends 2025-12-31; install a newer exchange_calendars",)


def test_bars_on_a_day_that_is_no_session_put_the_calendar_in_doubt(warehouse: Warehouse) -> None:
    both_chains(warehouse, listed(warehouse), MON, FRI)
    query(warehouse, "DELETE FROM sessions WHERE calendar = 'XNYS' AND session = %s", WED)
    for base in ("1m", "1d"):
        with warehouse.conn as conn:
            found = calendar_is_current(conn, base, LATER)  # type: ignore[arg-type]  # a base
        assert found.sample == ("XNYS 2024-05-08: 1 symbols have bars, and it is no session",)


def test_an_open_day_on_which_nothing_traded_puts_the_calendar_in_doubt(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    for ts in regular_minutes(WED):
        del exchange.minutes[ts]
    del exchange.days[micros(WED, 0)]
    for symbol in ("A", "B"):
        both_chains(warehouse, listed(warehouse, symbol), MON, FRI)
    with warehouse.conn as conn:
        assert calendar_is_current(conn, "1d", LATER).passed, "two symbols may be silent together"
    both_chains(warehouse, listed(warehouse, "C"), MON, FRI)
    with warehouse.conn as conn:
        found = calendar_is_current(conn, "1d", LATER)
    (line,) = found.sample
    assert line == (
        "XNYS 2024-05-08: none of 3 symbols traded; taken as closed (unconfirmed); if it was closed:"
        " backfill calendar close XNYS 2024-05-08 --note why"
    )
