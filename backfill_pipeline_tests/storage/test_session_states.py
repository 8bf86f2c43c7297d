"""One code a day and symbol: the worst of its base timeframes, on days around the real now, for SQL has no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.sessions import horizon, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.session_states import CLOSED, COMPLETE, MISSING, NOT_DUE, NOT_WANTED, read_states
from backfill_pipeline.storage.status import write_status
from backfill_pipeline.storage.symbols import add_symbol, remove_symbol
from backfill_pipeline_tests.storage.stored import migrated

NOW = datetime.now(UTC)
TODAY = NOW.date()


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        for name in ("24/7", "XNYS"):
            store_sessions(connection, load_sessions(name, horizon(TODAY)))
        yield connection


def day(ago: int) -> date:
    return TODAY - timedelta(days=ago)


def follow(conn: Connection, symbol: str, base: Base, since: int, calendar: str = "24/7") -> int:
    """Want everything of a symbol from so many days ago on; its id."""
    with conn, conn.cursor() as cursor:
        add_symbol(conn, symbol, "crypto", calendar)
        cursor.execute("SELECT symbol_id FROM symbols WHERE symbol = %s", (symbol,))
        symbol_id: int = cursor.fetchall()[0][0]
        start = load_sessions(calendar, horizon(TODAY)).days_window(day(since), day(since)).start
        want(conn, symbol_id, base, None, start)
    return symbol_id


def judged(conn: Connection, symbol_id: int, base: Base, missing: dict[int, int]) -> None:
    """Write what is missing so many days ago."""
    expected = 1440 if base == "1m" else 1
    statuses = [SessionStatus(day(ago), expected, expected - n, {}, n, {}, "p") for ago, n in missing.items()]
    with conn:
        write_status(conn, symbol_id, base, statuses, NOW)


def test_a_day_is_as_good_as_its_worse_timeframe(conn: Connection) -> None:
    symbol_id = follow(conn, "X:BTCUSD", "1m", 3)
    follow(conn, "X:BTCUSD", "1d", 4)
    judged(conn, symbol_id, "1m", {3: 0, 2: 7, 1: 0})
    judged(conn, symbol_id, "1d", {4: 0, 3: 0, 2: 0, 1: 1})
    states = read_states(conn, day(5), TODAY)
    assert (states.symbols, states.first) == (("X:BTCUSD",), day(5))
    assert states.codes.tolist() == [[NOT_WANTED, COMPLETE, COMPLETE, MISSING, MISSING, NOT_DUE]]


def test_days_without_a_session_are_closed_wanted_or_not(conn: Connection) -> None:
    follow(conn, "AAPL", "1d", 400, "XNYS")
    follow(conn, "IBM", "1d", 1, "XNYS")
    saturday = TODAY - timedelta(days=TODAY.weekday() + 9)
    states = read_states(conn, saturday, saturday + timedelta(days=1))
    assert states.codes.tolist() == [[CLOSED, CLOSED]] * 2


def test_a_session_that_is_over_and_nobody_looked_at_is_missing(conn: Connection) -> None:
    follow(conn, "X:ETHUSD", "1d", 2)
    assert read_states(conn, day(2), day(1)).codes.tolist() == [[MISSING, MISSING]]


def test_only_followed_symbols_of_which_something_is_wanted_count(conn: Connection) -> None:
    for symbol in ("B", "A", "GONE"):
        follow(conn, symbol, "1d", 2)
    with conn:
        remove_symbol(conn, "GONE", with_bars=False)
        add_symbol(conn, "IDLE", "crypto", "24/7")
    assert read_states(conn, day(1), day(1)).symbols == ("A", "B")
