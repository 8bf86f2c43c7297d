"""The completeness view against a count in plain Python, on sessions around the real now: SQL has no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.sessions import Sessions, horizon, load_sessions
from backfill_pipeline.domain.timeframe import BASES, Base
from backfill_pipeline.domain.windows import Window, to_datetime
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.coverage import record_served, want
from backfill_pipeline.storage.status import Completeness, read_completeness, write_status
from backfill_pipeline.storage.symbols import add_symbol
from backfill_pipeline_tests.storage.stored import migrated, rows

CALENDARS = ("XNYS", "24/7", "XHKG")  # half days, no nights, lunch breaks
MINUTES = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}
VERDICTS = ("complete", "missing some", "missing all", "late", "early", "not listed", "unseen")


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        yield connection


@dataclass(frozen=True)
class Case:
    """One symbol: first and last wanted and served days, counted from today (None: nobody knows what is served; (0,
    -1): nothing is), a verdict per session in turn, and which weeks have a bar.
    """

    calendar: str
    wanted: list[tuple[int, int]]
    served: tuple[int, int] | None
    verdicts: list[str]
    weeks: list[bool]


CASES = st.builds(
    Case,
    st.sampled_from(CALENDARS),
    st.lists(
        st.tuples(st.integers(-25, 4), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1])), min_size=1, max_size=3
    ),
    st.one_of(st.none(), st.just((0, -1)), st.tuples(st.integers(-25, -8), st.integers(-7, 5))),
    st.lists(st.sampled_from(VERDICTS), min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=3, max_size=3),
)


@dataclass(frozen=True)
class Book:
    """A calendar seen from now."""

    sessions: Sessions
    now: datetime

    def days(self, stretch: tuple[int, int]) -> Window | None:
        if stretch[1] < stretch[0]:
            return None
        first, last = (self.now.date() + timedelta(days=days) for days in stretch)
        return self.sessions.days_window(first, last)

    def labels(self, stretch: tuple[int, int]) -> dict[date, int]:
        """Sessions labelled in the stretch and their rows."""
        first, last = (self.now.date() + timedelta(days=days) for days in stretch)
        recent = enumerate(self.sessions.session[-700:].astype(object).tolist(), start=len(self.sessions) - 700)
        return {label: row for row, label in recent if first <= label <= last}

    def begun(self, case: Case) -> dict[date, int]:
        """Wanted and served sessions that have begun."""
        labels = {label: row for stretch in case.wanted for label, row in self.labels(stretch).items()}
        if case.served is not None:
            labels = {label: row for label, row in labels.items() if label in self.labels(case.served)}
        return {
            label: row for label, row in sorted(labels.items()) if to_datetime(self.sessions.pre_open[row]) <= self.now
        }

    def statuses(self, case: Case, base: Base) -> dict[date, SessionStatus | None]:
        return {
            label: _judged(case.verdicts[i % 8], base, label, self.expected(row, base), self.now)
            for i, (label, row) in enumerate(self.begun(case).items())
        }

    def expected(self, row: int, base: Base) -> int:
        return int(self.sessions.expected_1m[row]) if base == "1m" else 1

    def buckets(self, row: int, minutes: int) -> int:
        """Regular buckets of a session, counted one by one."""
        opening, pause, resumed, close = (
            to_datetime(column[row])
            for column in (self.sessions.open, self.sessions.break_start, self.sessions.break_end, self.sessions.close)
        )
        count = 0
        for start, end in ((opening, pause), (resumed, close)):
            at = start
            while at < end:
                count += 1
                at += timedelta(minutes=minutes)
        return count


def _judged(verdict: str, base: Base, session: date, expected: int, now: datetime) -> SessionStatus | None:
    some = expected // 3
    absent = expected - some
    hours = timedelta(hours=2)
    if verdict == "unseen":
        return None
    stored, missing, explained, due_at = {
        "complete": (expected, 0, {}, None),
        "missing some": (some, absent, {}, None),
        "missing all": (0, expected, {}, None),
        "late": (some, 0, {"not_due": absent}, now - hours),  # due by now, and nobody has asked
        "early": (some, 0, {"not_due": absent}, now + hours),
        "not listed": (0, 0, {"not_listed": expected}, None),
    }[verdict]
    whole = {} if base == "1d" else {name: stored // minutes // 2 for name, minutes in MINUTES.items()}
    return SessionStatus(session, expected, stored, explained, missing, whole, "p", due_at)


@dataclass
class Counts:
    expected: int = 0
    stored: int = 0
    missing: int = 0
    not_due: int = 0
    first: date | None = None
    last: date | None = None

    def add(self, label: date, expected: int, stored: int, missing: int, not_due: int) -> None:
        self.expected += expected
        self.stored += stored
        self.missing += missing
        self.not_due += not_due
        self.first, self.last = self.first or label, label

    def row(self, timeframe: str) -> Completeness:
        assert self.first is not None
        assert self.last is not None
        due = self.expected - self.not_due
        percent = (due - self.missing) * 1_000_000 // due / 10_000 if due else None
        explained = self.expected - self.stored - self.missing - self.not_due
        counts = self.expected, self.stored, explained, self.missing, self.not_due
        return Completeness("A", timeframe, self.first, self.last, *counts, percent)


def _absent(status: SessionStatus | None, book: Book, row: int, base: Base) -> tuple[int, int]:
    """Missing and not due base bars of a session."""
    if status is None:
        over = to_datetime(book.sessions.post_close[row]) <= book.now
        return (book.expected(row, base), 0) if over else (0, book.expected(row, base))
    late = status.due_at is not None and status.due_at <= book.now
    return (status.missing + status.not_due, 0) if late else (status.missing, status.not_due)


def _count(case: Case, book: Book) -> list[Completeness]:
    counts: dict[str, Counts] = {}
    begun = book.begun(case)
    for base in BASES:
        for label, status in book.statuses(case, base).items():
            missing, not_due = _absent(status, book, begun[label], base)
            stored = 0 if status is None else status.stored
            counts.setdefault(base, Counts()).add(label, book.expected(begun[label], base), stored, missing, not_due)
            for name, minutes in MINUTES.items() if base == "1m" else ():
                bars = book.buckets(begun[label], minutes)
                whole = 0 if status is None else status.derived[name]
                open_bars = bars - whole
                counts.setdefault(name, Counts()).add(
                    label, bars, whole, open_bars if missing else 0, open_bars if not_due else 0
                )
    daily = {label: _absent(status, book, begun[label], "1d") for label, status in book.statuses(case, "1d").items()}
    for monday, is_stored in _weeks(case, book).items():
        offset = (monday - book.now.date()).days
        days = book.labels((offset, offset + 6))
        if not days.keys() <= daily.keys():
            continue  # a session of it is not wanted or has not begun: no bar is expected
        missing = any(daily[day][0] for day in days)
        not_due = any(daily[day][1] for day in days)
        counts.setdefault("1w", Counts()).add(
            monday, 1, int(is_stored), int(missing and not is_stored), int(not_due and not missing and not is_stored)
        )
    return [counts[name].row(name) for name in ("1m", *MINUTES, "1d", "1w") if name in counts]


def _weeks(case: Case, book: Book) -> Mapping[date, bool]:
    """Mondays of the weeks with a wanted session, and whether each has a bar."""
    mondays = sorted({label - timedelta(days=label.weekday()) for label in book.begun(case)})
    return {monday: case.weeks[i % 3] for i, monday in enumerate(mondays)}


def _store(conn: Connection, case: Case, book: Book) -> None:
    rows(
        conn,
        "TRUNCATE symbols, wanted, served, bars, quarantine, coverage, session_status RESTART IDENTITY CASCADE",
    )
    add_symbol(conn, "A", "stock", case.calendar)
    for base in BASES:
        for stretch in case.wanted:
            want(conn, 1, base, book.days(stretch))
        if case.served is not None:
            record_served(conn, 1, base, [("p", book.days(case.served), "because")])
        write_status(conn, 1, base, [s for s in book.statuses(case, base).values() if s is not None], book.now)
    for monday, is_stored in _weeks(case, book).items():
        if is_stored:
            rows(
                conn,
                "INSERT INTO bars VALUES (1, '1w', %s, %s, 'regular', 1, 1, 1, 1, 1, NULL, NULL, true, 'p')",
                to_datetime(book.sessions.days_window(monday, monday).start),
                monday,
            )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CASES)
def test_the_view_counts_what_plain_python_counts(conn: Connection, case: Case) -> None:
    now = datetime.now(UTC)
    book = Book(load_sessions(case.calendar, horizon(now.date())), now)
    store_sessions(conn, book.sessions)
    with conn:
        _store(conn, case, book)
        found = read_completeness(conn)
        assert [replace(row, clipped=None) for row in found] == _count(case, book)
        # Whatever is clipped says why; what is served whole does not.
        assert {row.clipped for row in found} <= {None, "because"}
        assert case.served is not None or not any(row.clipped for row in found)
        assert read_completeness(conn, ["B"]) == []
