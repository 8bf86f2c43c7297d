"""Jobs and runs that ended without a word, for their process is gone: told by what Dagster and the database know.

By a sensor, and by the commands that show jobs, so that it happens where no daemon is up.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, BACKFILL_ID_TAG, MAX_RETRIES_TAG, WILL_RETRY_TAG
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.steps.progress import with_next_step
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.databases import open_databases
from backfill_pipeline.storage.jobs import (
    BackfillJob,
    EndStatus,
    close_job,
    forget_jobs,
    has_begun,
    is_held,
    is_through,
    open_job,
    open_jobs,
    runs_of,
)
from backfill_pipeline.storage.progress import connected_for, up_for
from backfill_pipeline.storage.taken import is_taken

from .job_progress import job_of_run, origin_of
from .resources import USER_ERRORS, Pipeline

_STARTED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_ENDS: dict[object, EndStatus] = {
    dg.DagsterRunStatus.SUCCESS: "completed",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
    BulkActionStatus.COMPLETED_SUCCESS: "completed",
    BulkActionStatus.COMPLETED_FAILED: "failed",
    BulkActionStatus.FAILED: "failed",
    BulkActionStatus.CANCELED: "canceled",
}
# Jobs about bars: each of their runs has a job in backfill_jobs.
_JOBS = (
    "backfill_intraday",
    "backfill_daily",
    "master_backfill",
    "ensure_coverage",
    "nightly_backfill",
    "intraday_backfill",
    "repair_gaps",
)
GONE = "its process is gone: it was killed, or its machine went down"
_FAILED = "it failed; the pages of its runs in the UI have the reason"

# On runs that went to a worker, of dagster-celery, which a single machine does not need.
_SENT_TAG = "dagster-celery/task_id"
# A command's process shows itself within this time of asking for a run, in seconds.
_SHOWS_WITHIN = 60.0
# A run that has not come as far as its bars is known by its warehouse alone, opened about when the run started. Clocks
# of machines differ: it is believed dead only where none is open from this long before to after, in seconds.
_ABOUT = 300.0
# When the database went away, runs that are alive come back to it within this time of its return, in seconds.
_BACK = 30.0
# Dagster's own list of ticks ends there, too.
_KEPT = timedelta(days=90)


def reconcile(instance: dg.DagsterInstance, conn: Connection, now: datetime) -> list[str]:
    """End runs that Dagster takes for alive and whose process is gone, and jobs of which no run is left; take up what
    waits for its first run. Returns a line for each that was ended.
    """
    gone = [_end_ghost(instance, run) for run in _ghosts(instance, conn)]
    gone += _attend(instance)
    _take_up(instance, conn, now)
    with conn:
        jobs = open_jobs(conn)
    closed = [line for job in jobs if (line := _close(instance, conn, job, now))]
    return [*gone, *closed]


@runtime_checkable
class AttendingLauncher(Protocol):
    """A run launcher that sees to what it sent and nobody has begun: see `workers`."""

    def attend(self, runs: Sequence[dg.DagsterRun]) -> list[str]: ...


def _attend(instance: dg.DagsterInstance) -> list[str]:
    launcher = instance.run_launcher
    if not isinstance(launcher, AttendingLauncher):
        return []
    return launcher.attend(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])))


def _ghosts(instance: dg.DagsterInstance, conn: Connection) -> Iterator[dg.DagsterRun]:
    with conn:
        up = up_for(conn)
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(_STARTED))):
        run = record.dagster_run
        if up < _BACK and (record.start_time is None or time.time() - record.start_time > up):
            continue  # it was there before the database went away
        # In this order: a run that begins in between is held before it says that it has begun.
        if not _is_alone(conn, record) or is_held(conn, run.run_id):
            continue
        again = instance.get_run_by_id(run.run_id)  # it may have ended in between
        if again is not None and again.status in _STARTED:
            yield again


def _is_alone(conn: Connection, record: dg.RunRecord) -> bool:
    run_id = record.dagster_run.run_id
    if _SENT_TAG in record.dagster_run.tags:  # its worker takes it before it starts, and lets go after its end
        return not is_taken(conn, run_id)
    with conn:
        begun = has_begun(conn, run_id)
    return begun or _is_long_alone(conn, record.start_time)


def _is_long_alone(conn: Connection, started: float | None) -> bool:
    if started is None or (age := time.time() - started) < _ABOUT:
        return False
    with conn:
        return not any(abs(age - seconds) < _ABOUT for seconds in connected_for(conn))


def _end_ghost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, GONE)
        return f"run {run.run_id} was canceled: {GONE}"
    if run.remote_job_origin is None:  # a shell's, which no daemon could start again
        instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
    instance.report_run_failed(run, GONE)
    return f"run {run.run_id} failed: {GONE}"


def _take_up(instance: dg.DagsterInstance, conn: Connection, now: datetime) -> None:
    """Jobs for what nobody has begun yet: backfills, and runs in the queue."""
    with conn:
        for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
            open_job(
                conn, backfill.backfill_id, "ui", min(now, datetime.fromtimestamp(backfill.backfill_timestamp, UTC))
            )
        for record in instance.get_run_records(dg.RunsFilter(statuses=list(_WAITING))):
            run = record.dagster_run
            if run.job_name in _JOBS and BACKFILL_ID_TAG not in run.tags:
                open_job(conn, job_of_run(run), origin_of(run), min(now, record.create_timestamp))


def _close(instance: dg.DagsterInstance, conn: Connection, job: BackfillJob, now: datetime) -> str | None:
    """End a job that is over for Dagster, or that nobody will go on with; its line."""
    with conn:
        runs = runs_of(conn, job.id)
    lost = []
    for run_id in (run_id for run_id, is_open in runs.items() if is_open):
        if is_held(conn, run_id):
            return None
        lost.append(run_id)
    status = _status(instance, conn, job, now)
    if status is None:
        return None
    with conn:
        through, incomplete = is_through(conn, job.id)
    if status == "failed" and runs and through and not (incomplete or job.error_message):
        status = "completed"  # Dagster takes a partition that is not due yet for a failed one
    failed = GONE if lost or not runs else incomplete or _FAILED
    message = {"completed": None, "canceled": "canceled", "failed": failed}[status]
    with conn:
        close_job(conn, job.id, status, message and with_next_step(message, job, now.date()), now)
    return f"job {job.id} {status}"


def _status(instance: dg.DagsterInstance, conn: Connection, job: BackfillJob, now: datetime) -> EndStatus | None:
    """How a job without a living run has ended; None: it has not."""
    assert job.dagster_id is not None
    if run := instance.get_run_by_id(job.dagster_id):
        return _ENDS.get(run.status)
    if backfill := instance.get_backfill(job.dagster_id):
        # Canceled by a person, it is so for Dagster when the daemon has looked twice, up to a minute later.
        if backfill.status is BulkActionStatus.CANCELING and not _at_work(instance, backfill.backfill_id):
            return "canceled"
        return _ENDS.get(backfill.status) or _end_of_runs(instance, backfill)
    waits = now - job.created_at < timedelta(seconds=_SHOWS_WITHIN) or is_held(conn, job.dagster_id)
    return None if waits else "failed"


def _at_work(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Whether a run of the backfill is under way; those in the queue no longer come to anything."""
    under_way = dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id}, statuses=[*_STARTED, dg.DagsterRunStatus.STARTING])
    return instance.get_runs_count(under_way) > 0


def _end_of_runs(instance: dg.DagsterInstance, backfill: PartitionBackfill) -> EndStatus | None:
    """How a backfill has ended that Dagster will find to be over at its next look, up to half a minute later: every
    run of it was started and is over, and none is to be tried again. None: it goes on, or that is Dagster's to say.
    """
    data = backfill.asset_backfill_data
    if backfill.status is not BulkActionStatus.REQUESTED or data is None or backfill.submitting_run_requests:
        return None
    if not (data.target_subset - data.requested_subset).is_empty:
        return None
    mine = {BACKFILL_ID_TAG: backfill.backfill_id}
    if instance.get_runs_count(dg.RunsFilter(tags=mine, statuses=list(NOT_FINISHED_STATUSES))):
        return None
    # Those that were tried again are spoken for by the newer run.
    runs = [run for run in instance.get_runs(dg.RunsFilter(tags=mine)) if AUTO_RETRY_RUN_ID_TAG not in run.tags]
    undecided = "true" if instance.run_retries_enabled else "false"  # it is written a moment after the failure
    if not runs or not all(run.is_finished for run in runs):
        return None
    if any(run.is_failure and run.tags.get(WILL_RETRY_TAG, undecided) == "true" for run in runs):
        return None
    return "completed" if all(run.is_success for run in runs) else "failed"


@dg.sensor(
    name="reconcile_sensor",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process is gone, and keeps backfill_jobs true to what Dagster knows.",
)
def reconcile_sensor(context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.SkipReason:
    try:
        with closing(
            connect(open_databases(pipeline.settings).market_url, application_name="backfill progress")
        ) as conn:
            lines = reconcile(context.instance, conn, pipeline.now())
            with conn:
                forget_jobs(conn, pipeline.now() - _KEPT)
    except USER_ERRORS as error:
        return dg.SkipReason(str(error))
    return dg.SkipReason("; ".join(lines) or "every run and every job is what it says")
