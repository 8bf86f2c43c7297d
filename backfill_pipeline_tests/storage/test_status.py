"""session_status and what the completeness view makes of it; counted case by case in test_completeness_view.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.completeness import SessionStatus, Sums
from backfill_pipeline.domain.sessions import horizon, load_sessions
from backfill_pipeline.domain.timeframe import BASES
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.status import read_completeness, read_status, write_status
from backfill_pipeline.storage.symbols import add_symbol
from backfill_pipeline_tests.storage.stored import NOW, migrated, rows


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        yield connection


def _status(day: int, **changes: object) -> SessionStatus:
    made = SessionStatus(date(2024, 5, day), 390, 380, {"not_listed": 4}, 6, {"5m": 70, "4h": 1}, "p", NOW)
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def test_statuses_come_back_as_they_were(conn: Connection) -> None:
    with conn:
        add_symbol(conn, "A", "stock", "XNYS")
        many = [_status(6), _status(7, provider=None, due_at=None, explained={}, derived={}), _status(10)]
        write_status(conn, 1, "1m", many, NOW)
        write_status(conn, 1, "1d", [_status(7, stored=1)], NOW)
        write_status(conn, 1, "1d", [], NOW)
    assert read_status(conn, 1, "1m", date(2024, 5, 6), date(2024, 5, 9)) == {s.session: s for s in many[:2]}
    assert read_status(conn, 1, "1d", date(2024, 5, 1), date(2024, 5, 30)) == {date(2024, 5, 7): _status(7, stored=1)}
    assert read_status(conn, 2, "1m", date(2024, 5, 1), date(2024, 5, 30)) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"expected": 391},
        {"stored": 1},
        {"explained": {"not_listed": 5}},
        {"missing": 0},
        {"derived": {"5m": 71, "4h": 1}},
        {"provider": None},
        {"due_at": None},
        {"sums": Sums(380, 0.1 + 0.2, 1e22 / 3)},
        {"sums": Sums(380, float("inf"), 5e-324)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_only_a_status_that_says_something_else_is_written(conn: Connection, change: dict[str, object]) -> None:
    marks = "SELECT session, xmin::text, checked_at FROM session_status ORDER BY session"
    later = NOW + timedelta(hours=1)
    with conn:
        add_symbol(conn, "A", "stock", "XNYS")
        write_status(conn, 1, "1m", [_status(6), _status(7)], NOW)
    before = rows(conn, marks)
    conn.commit()
    with conn:
        write_status(conn, 1, "1m", [_status(6), _status(7)], later)
    assert rows(conn, marks) == before
    conn.commit()
    with conn:
        write_status(conn, 1, "1m", [_status(6), _status(7, **change)], later)
    after = rows(conn, marks)
    assert after[0] == before[0]
    assert after[1][2] == later
    assert read_status(conn, 1, "1m", date(2024, 5, 7), date(2024, 5, 7)) == {date(2024, 5, 7): _status(7, **change)}


@pytest.mark.parametrize(
    ("calendar", "day", "expected"),
    [
        ("XNYS", "2024-05-06", {"1m": 390, "5m": 78, "15m": 26, "30m": 13, "1h": 7, "4h": 2, "1d": 1}),
        ("XNYS", "2024-11-29", {"1m": 210, "5m": 42, "15m": 14, "30m": 7, "1h": 4, "4h": 1, "1d": 1}),
        ("24/7", "2024-05-05", {"1m": 1440, "5m": 288, "15m": 96, "30m": 48, "1h": 24, "4h": 6, "1d": 1}),
        # 9:30 to 12:00 and 13:00 to 16:00
        ("XHKG", "2024-05-06", {"1m": 330, "5m": 66, "15m": 22, "30m": 11, "1h": 6, "4h": 2, "1d": 1}),
    ],
)
def test_a_wanted_session_that_nobody_looked_at_is_missing_whole(
    conn: Connection, calendar: str, day: str, expected: dict[str, int]
) -> None:
    sessions = load_sessions(calendar, horizon(datetime.now(UTC).date()))
    store_sessions(conn, sessions)
    session = date.fromisoformat(day)
    with conn:
        add_symbol(conn, "A", "stock", calendar)
        for base in BASES:
            want(conn, 1, base, sessions.days_window(session, session))
    found = {row.timeframe: row for row in read_completeness(conn)}
    assert {timeframe: row.expected for timeframe, row in found.items()} == expected
    for row in found.values():
        assert (row.missing, row.stored, row.complete_pct) == (row.expected, 0, 0.0)
        assert (row.wanted_from, row.wanted_to) == (session, session)


def test_one_missing_minute_of_a_million_is_not_a_hundred_percent(conn: Connection) -> None:
    sessions = load_sessions("XNYS", horizon(datetime.now(UTC).date()))
    store_sessions(conn, sessions)
    days = sessions.session[-3300:-700].astype(object).tolist()
    with conn:
        add_symbol(conn, "A", "stock", "XNYS")
        want(conn, 1, "1m", sessions.days_window(days[0], days[-1]))
        minutes = [int(n) for n in sessions.expected_1m[-3300:-700]]
        write_status(
            conn, 1, "1m", [SessionStatus(d, n, n, {}, 0, {}, "p") for d, n in zip(days, minutes, strict=True)], NOW
        )
        assert read_completeness(conn, ["A"])[0].complete_pct == 100.0
        write_status(conn, 1, "1m", [SessionStatus(days[9], minutes[9], minutes[9] - 1, {}, 1, {}, "p")], NOW)
        row = read_completeness(conn, ["A"])[0]
    assert sum(minutes) > 1_000_000
    assert (row.missing, row.complete_pct) == (1, 99.9999)
