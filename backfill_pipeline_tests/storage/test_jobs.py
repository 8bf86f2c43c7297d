"""The tables of backfills' progress: what is told adds up, whoever tells it and however often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.grain import Period, periods_between
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.job_news import Far, Settled, tell
from backfill_pipeline.storage.jobs import (
    BackfillJob,
    JobProgress,
    aim,
    beside,
    close_job,
    end_run,
    find_job,
    forget_jobs,
    hold,
    is_held,
    is_through,
    list_jobs,
    open_job,
    open_jobs,
    read_progress,
    runs_of,
    start_run,
)
from backfill_pipeline_tests.storage.stored import migrated

NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
DAYS = periods_between(date(2024, 5, 6), date(2024, 5, 15), "day")


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as made:
        yield made


@pytest.fixture
def job(conn: Connection) -> str:
    """Ten days of minutes of two symbols, begun."""
    with conn:
        job_id = open_job(conn, "backfill-1", "ui", NOW)
        aim(conn, job_id, {("ABC", "1m"): DAYS, ("DEF", "1m"): DAYS}, (DAYS[0].first, DAYS[-1].last))
        start_run(conn, job_id, "run-1", NOW)
    return job_id


def news(conn: Connection, job: str, symbol: str, days: Sequence[Period], later: int = 0, **bars: int) -> Far:
    """Complete days of a symbol's minutes, with rows `fetched` and `inserted` of 1m."""
    fetched, inserted = bars.get("fetched", 0), bars.get("inserted", 0)
    return tell(
        conn,
        job,
        {(symbol, "1m"): Settled(complete=list(days))},
        {(symbol, "1m"): fetched} if fetched else {},
        {(symbol, "1m"): inserted} if inserted else {},
        (symbol, "1m"),
        NOW + timedelta(seconds=later),
        lambda _: None,
    )


def read(conn: Connection, name: str) -> BackfillJob:
    found = find_job(conn, name)
    assert found is not None
    return found


def rows(conn: Connection, job: str, symbol: str, timeframe: str = "1m") -> JobProgress:
    return next(r for r in read_progress(conn, job) if (r.symbol, r.timeframe) == (symbol, timeframe))


def test_a_job_is_found_by_its_own_id_and_by_dagsters(conn: Connection, job: str) -> None:
    with conn:
        assert open_job(conn, "backfill-1", "ui", NOW) == job
    assert read(conn, job) == read(conn, "backfill-1")
    assert find_job(conn, "backfill-2") is None
    found = read(conn, job)
    assert (found.status, found.symbols, found.symbols_total) == ("running", ["ABC", "DEF"], 2)
    assert found.timeframes == ["1m", "5m", "15m", "30m", "1h", "4h"]
    assert (found.start_date, found.end_date) == (date(2024, 5, 6), date(2024, 5, 15))
    assert [row.timeframe for row in read_progress(conn, job)] == found.timeframes * 2


def test_days_told_twice_count_once(conn: Connection, job: str) -> None:
    assert news(conn, job, "ABC", DAYS[:4]) == Far(4, 20)
    assert news(conn, job, "ABC", DAYS[2:5]) == Far(5, 20)
    assert read(conn, job).progress_pct == 25


def test_symbols_and_timeframes_go_from_pending_to_completed_with_their_times(conn: Connection, job: str) -> None:
    assert rows(conn, job, "ABC").status == "pending"
    news(conn, job, "ABC", DAYS[:4], later=1, fetched=100, inserted=90)
    running = rows(conn, job, "ABC", "4h")
    assert (running.status, running.started_at, running.completed_at) == ("running", NOW + timedelta(seconds=1), None)
    news(conn, job, "ABC", DAYS[4:], later=4, fetched=10, inserted=10)
    done = rows(conn, job, "ABC")
    assert (done.status, done.records_fetched, done.records_inserted) == ("completed", 110, 100)
    assert done.duration_seconds == 3
    assert rows(conn, job, "DEF").status == "pending"
    found = read(conn, job)
    assert (found.symbols_completed, found.current_symbol, found.total_records_inserted) == (1, "ABC", 100)


def test_what_was_never_moved_is_skipped_only_where_nothing_was_to_do_from_the_beginning(
    conn: Connection, job: str
) -> None:
    with conn:
        aim(conn, job, {("DEF", "1m"): DAYS}, None, {("DEF", "1m"): True})
    for symbol in ("ABC", "DEF"):
        news(conn, job, symbol, DAYS)
    assert rows(conn, job, "ABC").status == "completed"
    skipped = rows(conn, job, "DEF")
    assert (skipped.status, skipped.started_at, skipped.duration_seconds) == ("skipped", None, None)
    assert read(conn, job).symbols_completed == 2

    tell(conn, job, {}, {("DEF", "1m"): 1}, {}, None, NOW, lambda _: None)
    assert rows(conn, job, "DEF").status == "completed", "an answer had to be corrected all the same"


def test_incomplete_days_fail_their_symbol_until_they_are_complete(conn: Connection, job: str) -> None:
    bad = {("ABC", "1m"): Settled(DAYS[1:], DAYS[:1], "ABC 2024-05-06 1m: 3 of 390 bars are missing")}
    tell(conn, job, bad, {("ABC", "1m"): 9}, {}, None, NOW, lambda _: None)
    failed = rows(conn, job, "ABC", "1h")
    assert (failed.status, failed.error_message) == ("failed", "ABC 2024-05-06 1m: 3 of 390 bars are missing")
    with conn:
        end_run(conn, "run-1", NOW)
        assert is_through(conn, job) == (False, failed.error_message)
    news(conn, job, "DEF", DAYS)
    assert is_through(conn, job) == (True, failed.error_message)
    news(conn, job, "ABC", DAYS[:1])
    assert (rows(conn, job, "ABC").status, rows(conn, job, "ABC").error_message) == ("completed", None)
    assert is_through(conn, job) == (True, None)


def test_a_target_that_grows_does_not_take_percent_back(conn: Connection, job: str) -> None:
    news(conn, job, "ABC", DAYS)
    with conn:
        aim(conn, job, {("GHI", "1d"): DAYS * 9}, None)
    assert news(conn, job, "ABC", DAYS[:1]) == Far(10, 30)
    found = read(conn, job)
    assert found.progress_pct == 50
    assert found.timeframes[-2:] == ["1d", "1w"]


def test_a_closed_job_fails_what_it_had_begun_and_stays_closed(conn: Connection, job: str) -> None:
    news(conn, job, "ABC", DAYS[:4], later=1)
    with conn:
        close_job(conn, job, "failed", "its process is gone", NOW + timedelta(seconds=5))
        close_job(conn, job, "completed", None, NOW)
    found = read(conn, job)
    assert (found.status, found.error_message, found.progress_pct) == ("failed", "its process is gone", 20)
    assert (found.current_symbol, found.completed_at) == (None, NOW + timedelta(seconds=5))
    assert (rows(conn, job, "ABC").status, rows(conn, job, "DEF").status) == ("failed", "pending")
    assert open_jobs(conn) == []
    assert runs_of(conn, job) == {"run-1": False}

    with conn:
        start_run(conn, job, "run-2", NOW)
    reopened = read(conn, job)
    assert (reopened.status, reopened.error_message, reopened.completed_at) == ("running", None, None)


def test_jobs_are_listed_from_the_newest_and_forgotten_when_old(conn: Connection, job: str) -> None:
    with conn:
        later = open_job(conn, "run-9", "shell", NOW + timedelta(hours=1))
        assert [found.id for found in list_jobs(conn, 10)] == [later, job]
        assert [found.id for found in list_jobs(conn, 1)] == [later]
        close_job(conn, job, "completed", None, NOW)
        forget_jobs(conn, NOW)
        assert len(list_jobs(conn, 10)) == 2
        forget_jobs(conn, NOW + timedelta(seconds=1))
        assert [found.id for found in list_jobs(conn, 10)] == [later]
        assert read_progress(conn, job) == []


def test_a_run_is_held_by_those_at_work_on_it_until_the_last_is_gone(conn: Connection, database_url: str) -> None:
    assert not is_held(conn, "run-1")
    with closing(connect(database_url)) as first, closing(beside(first)) as second:
        hold(first, "run-1")
        hold(second, "run-1")
        first.close()
        assert is_held(conn, "run-1")
        assert not is_held(conn, "run-2")
    deadline = datetime.now(UTC) + timedelta(seconds=5)
    while is_held(conn, "run-1"):
        assert datetime.now(UTC) < deadline


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE backfill_jobs SET status = 'done'",
        "UPDATE backfill_jobs SET origin = 'me'",
        "UPDATE backfill_jobs SET progress_pct = 101",
        "UPDATE backfill_job_progress SET status = 'queued'",
    ],
)
def test_other_words_are_refused(conn: Connection, job: str, statement: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation), conn.cursor() as cursor:
        cursor.execute(statement)
