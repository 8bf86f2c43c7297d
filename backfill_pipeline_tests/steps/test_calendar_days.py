"""A day that is closed, or opened again: what the tables say afterwards, and what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.calendar_days import CalendarDay, close, parse_calendar_day, reopen
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.symbols import lock, unlock
from backfill_pipeline_tests.steps.absences import always, disagreeing, gaps, never, trade, weekdays
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    backfill,
    both_chains,
    listed,
    micros,
    opened,
    query,
    regular_minutes,
)

# Monday 2024-05-06 to Friday the 17th; nobody trades on the second Wednesday.
DAYS = weekdays(date(2024, 5, 6), 10)
DAY, LATER = DAYS[7], datetime(2024, 6, 20, tzinfo=UTC)
TABLES = {
    "bars": "symbol_id, timeframe, ts, session, open, high, low, close, volume, final",
    "features": "symbol_id, timeframe, ts, return_pct, sma_20, rsi_14",
    "session_status": "symbol_id, timeframe, session, expected, stored, explained, missing, derived",
    "sessions": "calendar, session, open, close",
}


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made
        assert disagreeing(made) == []


def said(line: str) -> None:
    raise AssertionError(line)


def the_day() -> CalendarDay:
    return parse_calendar_day("XNYS", DAY.isoformat(), LATER.date())


def silence(exchange: Exchange) -> None:
    for ts in regular_minutes(DAY):
        del exchange.minutes[ts]
    del exchange.days[micros(DAY, 0)]


def fresh(warehouse: Warehouse) -> Warehouse:
    """What the next process would open."""
    return replace(warehouse, _sessions={})


def tables(warehouse: Warehouse) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: query(warehouse, f"SELECT {columns} FROM {name} ORDER BY 1, 2, 3") for name, columns in TABLES.items()
    }


def completeness(warehouse: Warehouse) -> dict[object, tuple[object, ...]]:
    rows = query(warehouse, "SELECT timeframe::text, expected, stored, missing FROM completeness WHERE symbol = 'ABC'")
    return {row[0]: row[1:] for row in rows}


def test_a_closed_day_is_not_expected_and_its_week_is_whole(warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, never)
    silence(exchange)
    abc, other = listed(warehouse), listed(warehouse, "OTHER")
    for of in (abc, other):
        both_chains(warehouse, of, DAYS[0], DAYS[-1])
    assert (completeness(warehouse)["1d"], completeness(warehouse)["1w"]) == ((10, 9, 1), (2, 1, 1))

    done = close(warehouse, the_day(), "day of mourning", force=False, waiting=said)

    assert (done.gaps, done.symbols, done.weeks, done.withdrawn) == (4, 2, 2, 0)
    assert completeness(warehouse) == {
        "1m": (9 * 390, 9 * 390, 0),
        "5m": (9 * 78, 9 * 78, 0),
        "15m": (9 * 26, 9 * 26, 0),
        "30m": (9 * 13, 9 * 13, 0),
        "1h": (9 * 7, 9 * 7, 0),
        "4h": (9 * 2, 9 * 2, 0),
        "1d": (9, 9, 0),
        "1w": (2, 2, 0),
    }
    assert gaps(fresh(warehouse), abc) == []
    assert query(warehouse, "SELECT DISTINCT resolution FROM gaps") == [("closed by override",)]
    assert query(warehouse, "SELECT count(*) FROM features WHERE timeframe = '1w'") == [(4,)]
    exchange.requests.clear()
    outcomes = backfill(fresh(warehouse), abc, INTRADAY, DAYS[0], DAYS[-1])
    assert {outcome.state for outcome in outcomes.values()} == {"complete"}
    assert exchange.requests == []


def test_another_process_builds_the_calendar_without_the_day(warehouse: Warehouse, database_url: str) -> None:
    before = len(warehouse.sessions("XNYS"))
    close(warehouse, the_day(), "storm", force=False, waiting=said)
    with closing(connect(database_url)) as conn:
        later = Warehouse(conn, warehouse.router, warehouse.now)
        sessions = later.sessions("XNYS")
    assert len(sessions) == before - 1
    assert query(warehouse, "SELECT count(*) FROM sessions WHERE session = %s", DAY) == [(0,)]
    assert query(warehouse, "SELECT count(*) FROM sessions WHERE calendar = 'XNYS'") == [(before - 1,)]


def test_closing_twice_changes_only_the_note(warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, never)
    silence(exchange)
    both_chains(warehouse, listed(warehouse), DAYS[0], DAYS[-1])
    close(warehouse, the_day(), "storm", force=False, waiting=said)
    before = tables(warehouse)
    done = close(warehouse, the_day(), "a very bad storm", force=False, waiting=said)
    assert (done.gaps, done.weeks, done.withdrawn) == (0, 0, 0)
    assert tables(warehouse) == before
    assert query(warehouse, "SELECT session, note FROM calendar_overrides") == [(DAY, "a very bad storm")]


def test_stored_bars_are_told_and_withdrawn_only_by_force(warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, never)
    names = [f"S{i}" for i in range(6)]
    for name in names:
        backfill(warehouse, listed(warehouse, name), DAILY, DAYS[0], DAYS[-1])
    with pytest.raises(RequestError) as raised:
        close(warehouse, the_day(), "storm", force=False, waiting=said)
    assert str(raised.value) == (
        "XNYS 2024-05-15: bars of that day are stored, of 6 symbols (S0, S1, S2, S3, S4, …); if they are wrong,"
        " --force withdraws them"
    )
    assert query(warehouse, "SELECT count(*) FROM calendar_overrides") == [(0,)]
    done = close(warehouse, the_day(), "storm", force=True, waiting=said)
    assert (done.withdrawn, done.weeks) == (6, 6)
    assert query(warehouse, "SELECT kind, session, count(*) FROM bar_revisions GROUP BY 1, 2") == [
        ("withdrawn", DAY, 6)
    ]
    assert query(warehouse, "SELECT count(*) FROM bars WHERE session = %s", DAY) == [(0,)]


def test_after_force_the_tables_are_those_of_an_exchange_that_never_traded_then(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    trade(exchange, DAYS, always, never)
    both_chains(warehouse, listed(warehouse), DAYS[0], DAYS[-1])
    close(warehouse, the_day(), "storm", force=True, waiting=said)
    by_force = tables(warehouse)
    query(warehouse, "TRUNCATE bars, features, session_status, coverage, gaps, wanted")
    silence(exchange)
    both_chains(fresh(warehouse), listed(warehouse), DAYS[0], DAYS[-1])
    assert tables(warehouse) == by_force


def test_reopened_it_is_asked_for_again_and_everything_is_as_it_was(warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, never)
    abc = listed(warehouse)
    both_chains(warehouse, abc, DAYS[0], DAYS[-1])
    before = tables(warehouse)
    close(warehouse, the_day(), "storm", force=True, waiting=said)
    done = reopen(warehouse, the_day(), waiting=said)
    assert (done.symbols, done.weeks) == (1, 1)
    assert completeness(warehouse)["1m"] == (3900, 3510, 390)
    exchange.requests.clear()
    both_chains(fresh(warehouse), abc, DAYS[0], DAYS[-1])
    assert {timeframe for timeframe, _ in exchange.requests} == {"1m", "1d"}
    assert all(micros(DAY, 12) in window or micros(DAY, 0) in window for _, window in exchange.requests)
    assert tables(warehouse) == before


def test_it_waits_for_the_run_that_is_at_a_symbol_and_says_so(
    warehouse: Warehouse, exchange: Exchange, database_url: str
) -> None:
    trade(exchange, DAYS, always, never)
    silence(exchange)
    abc = listed(warehouse)
    backfill(warehouse, abc, DAILY, DAYS[0], DAYS[-1])
    lines = []
    with closing(connect(database_url)) as other:
        lock(other, abc.symbol_id, "1d")

        def waiting(line: str) -> None:
            lines.append(line)
            unlock(other, abc.symbol_id, "1d")

        assert close(warehouse, the_day(), "storm", force=False, waiting=waiting).weeks == 1
    assert lines == ["waiting for the run that is at ABC 1d"]


@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("2024-05-11", r"2024-05-11 is no session of XNYS \(weekend\); nothing to close or reopen"),
        ("2024-11-28", r"2024-11-28 is no session of XNYS \(Thanksgiving\)"),
        ("2024-02-30", "date '2024-02-30' is not a date; write it as 2024-03-01"),
        ("2030-01-02", "date 2030-01-02 is not between 1990-01-02 and 2025-12-31, the days of XNYS"),
    ],
)
def test_a_day_that_cannot_be_closed_says_why(day: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_calendar_day("XNYS", day, LATER.date())


def test_a_calendar_goes_by_its_own_name() -> None:
    assert str(parse_calendar_day("NASDAQ", "2024-05-15", LATER.date())) == "XNYS 2024-05-15"


def test_what_was_not_closed_cannot_be_opened_and_a_reason_is_needed(warehouse: Warehouse) -> None:
    with pytest.raises(RequestError, match="XNYS 2024-05-15 was not closed by hand; days that were: backfill calendar"):
        reopen(warehouse, the_day(), waiting=said)
    with pytest.raises(RequestError, match="XNYS 2024-05-15 is not closed without a reason; say why with --note"):
        close(warehouse, the_day(), "  ", force=False, waiting=said)
