"""What is wanted, what is served and what was answered, held against sets of hours."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.windows import Window, union
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.coverage import (
    Covered,
    answered_windows,
    record_coverage,
    record_served,
    valid_coverage,
    want,
    wanted_sessions,
)
from backfill_pipeline.storage.symbols import add_symbol, get_instruments
from backfill_pipeline_tests.storage.stored import NOW, START, migrated, rows

HOUR = 3_600_000_000
STRETCHES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=8)


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        with connection:
            add_symbol(connection, "ABC", "stock", "XNYS")
        yield connection


def _hours(start: int, length: int) -> Window:
    return Window(START + start * HOUR, START + (start + length) * HOUR)


def _wanted(conn: Connection) -> list[tuple[int, int | None]]:
    """The stored stretches as hours after START; None for no end."""
    found = rows(
        conn,
        "SELECT (extract(epoch FROM lower(time_window)) * 1000000)::bigint,"
        " (extract(epoch FROM upper(time_window)) * 1000000)::bigint FROM wanted ORDER BY time_window",
    )
    conn.commit()
    return [((low - START) // HOUR, None if high is None else (high - START) // HOUR) for low, high in found]  # type: ignore[operator]  # integers


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=STRETCHES)
def test_wanting_in_any_order_and_overlap_gives_the_same_rows(conn: Connection, pieces: list[tuple[int, int]]) -> None:
    for order in (pieces, pieces[::-1]):
        with conn:
            rows(conn, "DELETE FROM wanted")
        known: set[int] = set()
        for start, length in order:
            hours = set(range(start, start + length))
            with conn:
                assert want(conn, 1, "1m", _hours(start, length)) == (not hours <= known)
            known |= hours
        canonical = union(_hours(hour, 1) for hour in known)
        assert _wanted(conn) == [((w.start - START) // HOUR, (w.end - START) // HOUR) for w in canonical]


def test_an_open_end_swallows_what_it_covers_and_touches(conn: Connection) -> None:
    with conn:
        want(conn, 1, "1m", _hours(0, 2))
        want(conn, 1, "1m", _hours(5, 3))
        assert want(conn, 1, "1m", None, START + 8 * HOUR)
        assert not want(conn, 1, "1m", None, START + 9 * HOUR)
        assert not want(conn, 1, "1m", _hours(100, 9))
    assert _wanted(conn) == [(0, 2), (5, None)]


def test_stretches_that_two_want_at_once_are_joined(database_url: str, conn: Connection) -> None:
    def second() -> None:
        with closing(connect(database_url)) as mine, mine:
            want(mine, 1, "1m", _hours(1, 1))

    with ThreadPoolExecutor(1) as pool:
        want(conn, 1, "1m", _hours(0, 1))
        waiting = pool.submit(second)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)  # it must see what the first one added, so it waits for its commit
        conn.commit()
        waiting.result(10)
    assert _wanted(conn) == [(0, 2)]


def test_two_threads_want_every_other_hour(database_url: str, conn: Connection) -> None:
    def wants(first: int) -> None:
        with closing(connect(database_url)) as mine:
            for i in range(first, 60, 2):
                with mine:
                    want(mine, 1, "1m", _hours(i, 1))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(wants, first) for first in (0, 1)]:
            done.result()
    assert _wanted(conn) == [(0, 60)]


def test_the_two_chains_of_a_new_symbol_do_not_wait_for_each_other_in_a_circle(
    database_url: str, conn: Connection
) -> None:
    with closing(connect(database_url)) as other:
        for connection, base in ((conn, "1m"), (other, "1d")):
            rows(connection, "SET lock_timeout = '5s'")
            record_served(connection, 1, base, [("p", _hours(0, 9), "all")])  # type: ignore[arg-type]  # a Base
        # Each holds the symbol's key through its foreign key; neither may need it for itself alone.
        want(conn, 1, "1m", _hours(0, 1))
        conn.commit()
        want(other, 1, "1d", _hours(0, 1))
        other.commit()
    assert rows(conn, "SELECT count(*) FROM wanted") == [(2,)]


def test_sessions_are_wanted_where_somebody_asked_and_somebody_serves(conn: Connection) -> None:
    sessions = load_sessions("XNYS", date(2025, 12, 31))
    abc = get_instruments(conn, ["ABC"])["ABC"]
    week = [date(2024, 5, day) for day in (6, 7, 8, 9, 10)]

    def wanted(instrument: Instrument = abc) -> list[date]:
        with conn:
            return wanted_sessions(conn, instrument, "1m", sessions, week[0], week[-1] + timedelta(days=3))

    assert wanted() == []
    with conn:
        want(conn, abc.symbol_id, "1m", sessions.days_window(week[1], week[2]))
        want(conn, abc.symbol_id, "1m", sessions.days_window(week[4], week[4]))
        want(conn, abc.symbol_id, "1d", sessions.days_window(week[0], week[4]))
    assert wanted() == [week[1], week[2], week[4]]
    for window, expected in (
        (sessions.days_window(week[2], week[4]), [week[2], week[4]]),
        (None, []),
        (sessions.days_window(date(2000, 1, 1), date(2025, 1, 1)), [week[1], week[2], week[4]]),
    ):
        with conn:
            record_served(conn, abc.symbol_id, "1m", [("p", window, "because")])
        assert wanted() == expected
    with conn:
        want(conn, abc.symbol_id, "1m", None, sessions.days_window(week[4], week[4]).start)
    assert wanted() == [week[1], week[2], week[4], date(2024, 5, 13)]


def test_saying_again_what_is_served_writes_nothing(conn: Connection) -> None:
    with conn:
        record_served(conn, 1, "1m", [("p", _hours(0, 9), "all")])
    before = rows(conn, "SELECT xmin::text, provider, reason FROM served")
    conn.commit()
    with conn:
        record_served(conn, 1, "1m", [("p", _hours(0, 9), "all")])
    assert rows(conn, "SELECT xmin::text, provider, reason FROM served") == before
    with conn:
        record_served(conn, 1, "1m", [("q", None, "nothing")])
    assert rows(conn, "SELECT provider, isempty(time_window), reason FROM served") == [("q", True, "nothing")]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from([-1, 0, 1, None])), max_size=8),
    window=st.tuples(st.integers(0, 30), st.integers(1, 25)),
)
def test_answers_are_believed_until_they_expire_and_count_as_answers_for_ever(
    conn: Connection, pieces: list[tuple[int, int, int | None]], window: tuple[int, int]
) -> None:
    with conn:
        rows(conn, "DELETE FROM coverage")
        covered = [
            Covered(_hours(start, n), 3, 2, True, None if days is None else NOW + timedelta(days=days))  # noqa: FBT003
            for start, n, days in pieces
        ]
        record_coverage(conn, 1, "1m", "p", covered[:4], NOW)
        record_coverage(conn, 1, "1m", "q", covered[4:], NOW)
        record_coverage(conn, 1, "1d", "p", [Covered(_hours(0, 60), 1, 1, True, None)], NOW)  # noqa: FBT003
        valid = {h for start, n, days in pieces if days in (1, None) for h in range(start, start + n)}
        assert valid_coverage(conn, 1, "1m", NOW) == union(_hours(h, 1) for h in valid)
        answered = {h for start, n, _ in pieces for h in range(start, start + n)}
        inside = answered & set(range(window[0], sum(window)))
        assert answered_windows(conn, 1, "1m", _hours(*window)) == union(_hours(h, 1) for h in inside)


def test_a_final_answer_is_valid_until_infinity(conn: Connection) -> None:
    with conn:
        record_coverage(conn, 1, "1m", "p", [Covered(_hours(0, 1), 5, 4, False, None)], NOW)  # noqa: FBT003
    assert rows(
        conn, "SELECT valid_until::text, rows_received, rows_written, settled, fetched_at, provider FROM coverage"
    ) == [("infinity", 5, 4, False, NOW, "p")]
