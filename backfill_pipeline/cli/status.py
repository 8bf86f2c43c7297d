"""`backfill status` and `backfill jobs`: how far backfills are, whoever started them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from rich.live import Live
from rich.text import Text

from backfill_pipeline.defs.resources import utc_now
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.jobs import BackfillJob, JobProgress, find_job, list_jobs, read_progress

from .common import (
    CommandError,
    Json,
    counted,
    dagster_instance,
    out,
    prepare_environment,
    print_json,
    settings_of_folder,
)
from .plan import span

if TYPE_CHECKING:
    import dagster as dg

# Seconds between two looks at the tables, and between two at Dagster.
_LOOK, _RECONCILE = 1.0, 5.0
_MOST_LINES = 20


def status(
    job_id: Annotated[str, typer.Argument(help="A job's id, or that of its run or backfill in Dagster.")],
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it is over.")] = False,
    json: Json = False,
) -> None:
    """Show how far a backfill is: of all, and symbol by symbol.

    Exit code 1 if it failed or was canceled; 0 while it goes on. With --watch and --json, JSON is printed at its end.
    """
    with _tables() as (conn, instance):
        job, rows = _look(conn, instance, job_id)
        if watch:
            job, rows = _watch(conn, instance, job.id, quiet=json)
    if json:
        print_json({**_plain(job), "progress": [_plain(row) for row in rows]})
    else:
        out.print("\n".join(_lines(job, rows)))
    if job.status in ("failed", "canceled"):
        raise typer.Exit(1)


def jobs(
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 10,
    json: Json = False,
) -> None:
    """List backfills, the newest first: of the UI, of schedules and sensors, of shells."""
    from backfill_pipeline.defs.reconcile_runs import reconcile

    with _tables() as (conn, instance):
        reconcile(instance, conn, utc_now())
        with conn:
            found = list_jobs(conn, limit)
    if json:
        print_json([_plain(job) for job in found])
        return
    for job in found:
        out.print(f"{job.id}  {job.created_at:%Y-%m-%d %H:%M}  {job.origin:8}  {_headline(job)}  {_about(job)}")
    if not found:
        out.print("no backfill yet; start one: backfill run --days 30")


@contextmanager
def _tables() -> Iterator[tuple[Connection, dg.DagsterInstance]]:
    environment = prepare_environment(settings_of_folder())
    market = connect(environment.databases.market_url, application_name="backfill status")
    with closing(market) as conn, dagster_instance(environment) as instance:
        yield conn, instance


def _look(conn: Connection, instance: dg.DagsterInstance, job_id: str) -> tuple[BackfillJob, list[JobProgress]]:
    """The job as it is, after a look at whether its runs are alive."""
    from backfill_pipeline.defs.reconcile_runs import reconcile

    reconcile(instance, conn, utc_now())
    return _read(conn, job_id)


def _read(conn: Connection, job_id: str) -> tuple[BackfillJob, list[JobProgress]]:
    with conn:
        job = find_job(conn, job_id)
        if job is None:
            raise CommandError(f"job {job_id} is not known; list the known ones: backfill jobs")
        return job, read_progress(conn, job.id)


def _watch(
    conn: Connection, instance: dg.DagsterInstance, job_id: str, *, quiet: bool
) -> tuple[BackfillJob, list[JobProgress]]:
    """Look every second until the job is over: on a terminal in place, elsewhere a line for each news."""
    looked, said = time.monotonic(), ""
    with Live(console=out, transient=True, auto_refresh=False) as live:
        while True:
            if time.monotonic() - looked > _RECONCILE:
                job, rows = _look(conn, instance, job_id)
                looked = time.monotonic()
            else:
                job, rows = _read(conn, job_id)
            if not job.is_open:
                return job, rows
            if out.is_terminal:
                live.update(Text("\n".join(_lines(job, rows))), refresh=True)
            elif not quiet and (line := f"{_headline(job)}{_ends(job)}") != said:
                out.print(line)
                said = line
            time.sleep(_LOOK)


def _headline(job: BackfillJob) -> str:
    return f"{job.status:9} {job.progress_pct:6.2f} %"


def _about(job: BackfillJob) -> str:
    if not job.symbols:
        return "nothing to do" if job.status == "completed" else "not begun"
    names = ",".join(job.symbols[:3]) + (f" and {len(job.symbols) - 3} more" if len(job.symbols) > 3 else "")
    return f"{names} {job.timeframes[0]} to {job.timeframes[-1]} of {job.start_date} to {job.end_date}"


def _ends(job: BackfillJob) -> str:
    if job.estimated_completion_time is None:
        return ""
    left = (job.estimated_completion_time - datetime.now(UTC)).total_seconds()
    return f", about {span(max(left, 1))} to go"


def _lines(job: BackfillJob, rows: list[JobProgress]) -> Iterator[str]:
    """For people: the job, and of its symbols first what wants attention."""
    yield f"job     {job.id} ({job.origin}, {job.dagster_id or 'without a run'})"
    yield f"about   {_about(job)}"
    at = f", now at {job.current_symbol} {job.current_timeframe}" if job.current_symbol else ""
    yield f"status  {_headline(job).strip()}{at}{_ends(job) if job.is_open else ''}"
    records = f"{counted(job.total_records_fetched, 'bar')} fetched, {job.total_records_inserted:,} written"
    yield f"symbols {job.symbols_completed} of {job.symbols_total} completed; {records}"
    counts = Counter(row.status for row in rows)
    if len(rows) > _MOST_LINES:
        yield "        " + ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) + " timeframes"
    order = {"failed": 0, "running": 1}
    shown = sorted(rows, key=lambda row: order.get(row.status, 2)) if len(rows) > _MOST_LINES else rows
    for row in shown[:_MOST_LINES]:
        seconds = "" if row.duration_seconds is None else f" in {row.duration_seconds:.1f} s"
        why = f": {row.error_message}" if row.error_message else ""
        moved = f"{row.records_fetched:,} fetched, {row.records_inserted:,} written"
        yield f"        {row.symbol} {row.timeframe} {row.status}, {moved}{seconds}{why}"
    if len(rows) > _MOST_LINES:
        yield f"        and {len(rows) - _MOST_LINES} more; all of them: --json"
    if job.error_message:
        yield f"why     {job.error_message}"


def _plain(row: BackfillJob | JobProgress) -> dict[str, Any]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in asdict(row).items()}
