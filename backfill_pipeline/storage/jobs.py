"""The tables of backfills' progress: jobs are made, read and closed here; what a run hears is for job_news.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Literal

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extensions import make_dsn
from psycopg2.extras import execute_values

from backfill_pipeline.domain.grain import Period, stretches
from backfill_pipeline.domain.timeframe import TIMEFRAMES, Base, chain_of

from .connection import connect

Origin = Literal["ui", "schedule", "sensor", "shell"]
JobStatus = Literal["queued", "running", "completed", "failed", "canceled"]
EndStatus = Literal["completed", "failed", "canceled"]
Place = tuple[str, Base]  # a symbol's chain


@dataclass(frozen=True)
class BackfillJob:
    """A row of `backfill_jobs`, named and ordered as its columns."""

    id: str
    dagster_id: str | None
    origin: Origin
    symbols: list[str]
    start_date: date | None
    end_date: date | None
    timeframes: list[str]
    status: JobStatus
    progress_pct: float
    symbols_completed: int
    symbols_total: int
    current_symbol: str | None
    current_timeframe: str | None
    total_records_fetched: int
    total_records_inserted: int
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    estimated_completion_time: datetime | None

    @property
    def is_open(self) -> bool:
        return self.status in ("queued", "running")


@dataclass(frozen=True)
class JobProgress:
    """A row of `backfill_job_progress`, named and ordered as its columns."""

    job_id: str
    symbol: str
    timeframe: str
    status: Literal["pending", "running", "completed", "failed", "skipped"]
    records_fetched: int
    records_inserted: int
    error_message: str | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None


def beside(conn: Connection) -> Connection:
    """A second connection to the same database, for transactions of their own. Raises DatabaseError."""
    parts = {**conn.info.dsn_parameters, "password": conn.info.password or None}
    for ours in ("application_name", "options"):
        parts.pop(ours, None)
    second = connect(make_dsn(**parts), application_name="backfill progress")
    with second, second.cursor() as cursor:  # losing the last second of progress in a crash is no loss
        cursor.execute("SET synchronous_commit = off")
    return second


def as_days(periods: Sequence[Period]) -> str:
    """Periods as the text of a datemultirange."""
    return "{" + ",".join(f"[{group[0].first},{group[-1].last}]" for group in stretches(periods)) + "}"


def open_job(conn: Connection, dagster_id: str | None, origin: Origin, now: datetime) -> str:
    """The id of the job of a Dagster run or backfill, made `queued` if there is none."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO backfill_jobs (dagster_id, origin, created_at) VALUES (%s, %s, %s)"
            " ON CONFLICT (dagster_id) DO UPDATE SET dagster_id = excluded.dagster_id RETURNING id::text",
            (dagster_id, origin, now),
        )
        return str(cursor.fetchall()[0][0])


def aim(
    conn: Connection,
    job_id: str,
    target: Mapping[Place, Sequence[Period]],
    days: tuple[date, date] | None,
    idle: Mapping[Place, bool] = MappingProxyType({}),
) -> None:
    """Add to what the job is to settle. `days`: the first and the last that are wanted of it, None for no target.
    `idle`: places that were looked at, True where nothing is to be done.
    """
    frames = {t for _, base in target for t in chain_of(base).timeframes}
    with conn.cursor() as cursor:
        cursor.execute("SELECT timeframes FROM backfill_jobs WHERE id = %s FOR UPDATE", (job_id,))
        frames.update(cursor.fetchall()[0][0])
        execute_values(
            cursor,
            "INSERT INTO backfill_job_days AS d (job_id, symbol, timeframe, target) VALUES %s"
            " ON CONFLICT (job_id, symbol, timeframe) DO UPDATE SET target = d.target + excluded.target"
            " WHERE NOT d.target @> excluded.target",
            [(job_id, symbol, base, as_days(periods)) for (symbol, base), periods in target.items()],
        )
        execute_values(
            cursor,
            "INSERT INTO backfill_job_progress AS p (job_id, symbol, timeframe, status) VALUES %s"
            " ON CONFLICT (job_id, symbol, timeframe) DO UPDATE SET status = excluded.status"
            " WHERE p.status = 'pending' AND p.started_at IS NULL AND excluded.status = 'skipped'",
            [
                (job_id, symbol, t, "skipped" if idle.get((symbol, base)) else "pending")
                for symbol, base in target
                for t in chain_of(base).timeframes
            ],
        )
        cursor.execute(
            "UPDATE backfill_jobs SET timeframes = %s, start_date = least(start_date, %s), end_date ="
            " greatest(end_date, %s), (symbols, symbols_total) = (SELECT coalesce(array_agg(symbol), '{}'), count(*)"
            " FROM (SELECT DISTINCT symbol FROM backfill_job_days WHERE job_id = %s ORDER BY symbol) AS s)"
            " WHERE id = %s",
            ([t for t in TIMEFRAMES if t in frames], *(days or (None, None)), job_id, job_id),
        )


def judged_places(conn: Connection, job_id: str) -> list[Place]:
    """Places of which it was found out, when the job's first run began, whether there is anything to do."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT symbol, timeframe FROM backfill_job_days WHERE job_id = %s AND EXISTS (SELECT FROM backfill_jobs"
            " WHERE id = %s AND started_at IS NOT NULL)",
            (job_id, job_id),
        )
        return [(symbol, timeframe) for symbol, timeframe in cursor.fetchall()]


def start_run(conn: Connection, job_id: str, run_id: str, now: datetime) -> None:
    """A run is at work on the job, which is `running`; one that was closed is so again."""
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_jobs SET status = 'running', started_at = coalesce(started_at, %s), completed_at = NULL,"
            " error_message = CASE WHEN status IN ('queued', 'running') THEN error_message END WHERE id = %s",
            (now, job_id),
        )
    expect_run(conn, job_id, run_id, now)


def expect_run(conn: Connection, job_id: str, run_id: str, now: datetime) -> None:
    """From now on a process is to `hold` the run."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO backfill_job_runs (run_id, job_id, started_at) VALUES (%s, %s, %s)"
            " ON CONFLICT (run_id) DO UPDATE SET ended_at = NULL",
            (run_id, job_id, now),
        )


def end_run(conn: Connection, run_id: str, now: datetime) -> None:
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_job_runs SET ended_at = %s WHERE run_id = %s AND ended_at IS NULL", (now, run_id)
        )


def note_error(conn: Connection, job_id: str, message: str) -> None:
    """Keep the first thing that went wrong with an open job."""
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_jobs SET error_message = coalesce(error_message, %s) WHERE id = %s", (message, job_id)
        )


def close_job(conn: Connection, job_id: str, status: EndStatus, message: str | None, now: datetime) -> None:
    """End an open job; what it had begun and not settled has failed with it. Others are left as they are."""
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_jobs SET status = %s, completed_at = %s, current_symbol = NULL, current_timeframe = NULL,"
            " estimated_completion_time = NULL, error_message = CASE WHEN %s <> 'completed'"
            " THEN coalesce(error_message, %s) END,"
            " progress_pct = CASE WHEN %s = 'completed' THEN 100 ELSE progress_pct END"
            " WHERE id = %s AND status IN ('queued', 'running')",
            (status, now, status, message, status, job_id),
        )
        if cursor.rowcount:
            cursor.execute(
                "UPDATE backfill_job_runs SET ended_at = coalesce(ended_at, %s) WHERE job_id = %s", (now, job_id)
            )
            cursor.execute(
                "UPDATE backfill_job_progress SET status = 'failed', error_message = coalesce(error_message, %s),"
                " completed_at = %s, duration_seconds = extract(epoch FROM %s - started_at)"
                " WHERE job_id = %s AND status = 'running'",
                ("the job ended before it was through", now, now, job_id),
            )


def is_through(conn: Connection, job_id: str) -> tuple[bool, str | None]:
    """Whether every day of the job is settled and no run is at it any more; and what its incomplete days say."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(bool_and(settled_days = target_days), true) AND NOT EXISTS (SELECT FROM backfill_job_runs"
            " WHERE job_id = %s AND ended_at IS NULL), (array_agg(message ORDER BY symbol, timeframe)"
            " FILTER (WHERE NOT isempty(incomplete)))[1] FROM backfill_job_days WHERE job_id = %s",
            (job_id, job_id),
        )
        through, message = cursor.fetchall()[0]
        return bool(through), message


_COLUMNS = "id::text, " + ", ".join(list(BackfillJob.__annotations__)[1:])


def _jobs(conn: Connection, rest: str, *values: object) -> list[BackfillJob]:
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM backfill_jobs {rest}", values)  # noqa: S608  (constants)
        return [BackfillJob(*row) for row in cursor.fetchall()]


def find_job(conn: Connection, name: str) -> BackfillJob | None:
    """The job of that id, or of that Dagster run or backfill."""
    return next(iter(_jobs(conn, "WHERE id::text = %s OR dagster_id = %s", name, name)), None)


def list_jobs(conn: Connection, limit: int) -> list[BackfillJob]:
    """The newest first."""
    return _jobs(conn, "ORDER BY created_at DESC, id LIMIT %s", limit)


def open_jobs(conn: Connection) -> list[BackfillJob]:
    return _jobs(conn, "WHERE status IN ('queued', 'running') ORDER BY created_at, id")


def read_progress(conn: Connection, job_id: str) -> list[JobProgress]:
    """By symbol, then timeframe from 1m to 1w."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT job_id::text, symbol, timeframe, status, records_fetched, records_inserted, error_message,"
            " started_at, completed_at, duration_seconds FROM backfill_job_progress WHERE job_id = %s"
            " ORDER BY symbol, array_position(%s, timeframe)",
            (job_id, list(TIMEFRAMES)),
        )
        return [JobProgress(*row) for row in cursor.fetchall()]


def hold(conn: Connection, run_id: str) -> None:
    """Show that this process is at work on a run, until the connection closes, however it does."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(5, hashtext(%s))", (run_id,))


def is_held(conn: Connection, run_id: str) -> bool:
    """Whether a process is at work on the run."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(5, hashtext(%s))", (run_id,))
        return not cursor.fetchall()[0][0]


def runs_of(conn: Connection, job_id: str) -> dict[str, bool]:
    """The runs that have begun on the job, True for those that have not said that they ended."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT run_id, ended_at IS NULL FROM backfill_job_runs WHERE job_id = %s", (job_id,))
        return dict(cursor.fetchall())


def has_begun(conn: Connection, run_id: str) -> bool:
    """Whether a run has been taken up, so that while its process lives somebody holds it."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT FROM backfill_job_runs WHERE run_id = %s", (run_id,))
        return bool(cursor.rowcount)


def forget_jobs(conn: Connection, before: datetime) -> None:
    """Delete jobs that were over before."""
    with conn.cursor() as cursor:
        cursor.execute("DELETE FROM backfill_jobs WHERE completed_at < %s", (before,))
