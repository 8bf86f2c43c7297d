"""The stored calendars are those that the program counts with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime

import exchange_calendars
import numpy as np
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.windows import MINUTE
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.connection import connect
from backfill_pipeline_tests.storage.stored import migrated, rows

LAST = date(2025, 12, 31)


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        yield connection


def _without(sessions: Sessions, row: int) -> Sessions:
    """The calendar as it would be with one session less."""
    columns = {
        name: np.delete(getattr(sessions, name), row)
        for name in (
            "session",
            "day_start",
            "day_end",
            "pre_open",
            "open",
            "break_start",
            "break_end",
            "close",
            "post_close",
            "expected_1m",
        )
    }
    return replace(sessions, **columns)


@pytest.mark.parametrize("name", ["XNYS", "XHKG", "24/7"])
def test_stored_sessions_are_those_of_exchange_calendars(conn: Connection, name: str) -> None:
    assert store_sessions(conn, load_sessions(name, LAST)) > 1000
    book = exchange_calendars.get_calendar(name, start="2023-12-01", end="2025-12-31")
    found = rows(
        conn,
        "SELECT session, open, close, break_start, break_end, expected_1m FROM sessions"
        " WHERE calendar = %s AND session >= '2023-12-01' ORDER BY session",
        name,
    )
    expected = []
    for label, row in book.schedule.iterrows():
        opening, close = row["open"].to_pydatetime(), row["close"].to_pydatetime()
        pause = (close, close) if row.isna()["break_start"] else (row["break_start"], row["break_end"])
        minutes = (close - opening - (pause[1] - pause[0])).total_seconds() / 60
        expected.append((label.date(), opening, close, *pause, int(minutes)))
    assert found == expected


def test_new_york_keeps_its_wall_clock_before_and_after_the_clocks_change(conn: Connection) -> None:
    store_sessions(conn, load_sessions("XNYS", LAST))
    columns = "day_start, pre_open, open, close, post_close, expected_1m"
    found = rows(conn, f"SELECT {columns} FROM sessions WHERE session IN ('2024-03-08', '2024-11-29') ORDER BY session")

    def utc(day: int, month: int, hour: int, minute: int = 0) -> datetime:
        return datetime(2024, month, day, hour, minute, tzinfo=UTC)

    assert found == [
        (utc(8, 3, 5), utc(8, 3, 9), utc(8, 3, 14, 30), utc(8, 3, 21), datetime(2024, 3, 9, 1, tzinfo=UTC), 390),
        (utc(29, 11, 5), utc(29, 11, 9), utc(29, 11, 14, 30), utc(29, 11, 18), utc(29, 11, 22), 210),
    ]


def test_storing_again_writes_nothing_and_a_later_horizon_adds(conn: Connection) -> None:
    short, long = load_sessions("XNYS", date(2024, 12, 31)), load_sessions("XNYS", LAST)
    assert store_sessions(conn, short) == len(short)
    assert store_sessions(conn, short) == 0
    assert store_sessions(conn, long) == len(long)
    assert store_sessions(conn, short) == 0
    assert rows(conn, "SELECT count(*), max(session) FROM sessions") == [(len(long), LAST)]


def test_a_changed_calendar_replaces_what_is_stored(conn: Connection) -> None:
    sessions = load_sessions("XNYS", LAST)
    store_sessions(conn, sessions)
    day = int(sessions.rows_between(date(2025, 1, 8), date(2025, 1, 8)).start)
    closed = _without(sessions, day)  # one more day of mourning
    assert store_sessions(conn, closed) == len(closed)
    assert rows(conn, "SELECT count(*) FROM sessions WHERE session = '2025-01-08'") == [(0,)]
    early = replace(
        sessions,
        close=np.where(np.arange(len(sessions)) == day, sessions.close - 30 * MINUTE, sessions.close),
        expected_1m=np.where(np.arange(len(sessions)) == day, 360, sessions.expected_1m),
    )
    assert store_sessions(conn, early) == len(early)
    assert rows(conn, "SELECT expected_1m FROM sessions WHERE session = '2025-01-08'") == [(360,)]
    assert store_sessions(conn, sessions) == len(sessions)


def test_two_processes_store_the_same_calendar_at_once(database_url: str, conn: Connection) -> None:
    sessions = load_sessions("XNYS", LAST)

    def store() -> int:
        with closing(connect(database_url)) as mine:
            return store_sessions(mine, sessions)

    with ThreadPoolExecutor(4) as pool:
        written = [done.result() for done in [pool.submit(store) for _ in range(4)]]
    assert sorted(written) == [0, 0, 0, len(sessions)]
