"""A run's progress, from what Dagster says of it: whose job it is, who started that, and how the run ended."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.tags import (
    BACKFILL_ID_TAG,
    RETRY_NUMBER_TAG,
    ROOT_RUN_ID_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)
from sqlalchemy.exc import SQLAlchemyError

from backfill_pipeline.steps.progress import Known, Progress, Share, begin
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.jobs import EndStatus, Origin
from backfill_pipeline.storage.lost import LostDatabaseError

from .bookkeeping import Context
from .resources import USER_ERRORS

# Whoever submits a run to Dagster for a person at a shell says so with this tag.
ORIGIN_TAG = "backfill/origin"

# A run looks this often whether its backfill was canceled, in seconds: Dagster's daemon does every 30 s.
_LOOK = 2.0

# What the run of this process has taken up; a process works on one run at a time.
_begun: list[Progress] = []


def origin_of(run: dg.DagsterRun) -> Origin:
    """A run of this process, or of `dagster job execute`, came through no workspace: it was started in a shell."""
    if SCHEDULE_NAME_TAG in run.tags:
        return "schedule"
    if SENSOR_NAME_TAG in run.tags:
        return "sensor"
    if BACKFILL_ID_TAG in run.tags:
        return "ui"
    return "shell" if run.remote_job_origin is None or run.tags.get(ORIGIN_TAG) == "shell" else "ui"


def job_of_run(run: dg.DagsterRun) -> str:
    """The `dagster_id` of the job that a run is a part of: a backfill's, or the run's own; a run that Dagster starts
    again by itself goes on with the first one's.
    """
    if BACKFILL_ID_TAG in run.tags:
        return run.tags[BACKFILL_ID_TAG]
    return run.tags.get(ROOT_RUN_ID_TAG, run.run_id) if RETRY_NUMBER_TAG in run.tags else run.run_id


@contextmanager
def followed(
    context: Context, warehouse: Warehouse, tasks: Sequence[Task], known: Sequence[Known], work: Work
) -> Iterator[Progress | None]:
    """Around a run's work: its job's progress is written meanwhile. None: it cannot be written. The job's end is for
    `ended_last`.
    """
    run = context.run
    backfill_id = run.tags.get(BACKFILL_ID_TAG)
    share = Share(job_of_run(run), run.run_id, origin_of(run), is_all=backfill_id is None)
    progress = begin(warehouse, share, tasks, known, work)
    if progress is None:
        yield None
        return
    _begun.append(progress)
    context.log.info(f"progress: backfill status {progress.job_id}")
    canceled = nullcontext() if backfill_id is None else _stopped_with(context.instance, run, backfill_id)
    with canceled, progress.kept_live():
        yield progress


@contextmanager
def ended_last() -> Iterator[None]:
    """Around all that a run does: its job ends with it, with its checks and second thoughts and not with its bars."""
    _begun.clear()
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        _end("canceled", "stopped by a person or a signal")
        raise
    except LostDatabaseError:  # the step starts again, and goes on with the job
        raise
    except BaseException as error:  # whatever ends it: a job that nobody closes would look alive
        _end("failed", _why(error))
        raise
    _end("completed")


def _end(status: EndStatus, message: str | None = None) -> None:
    while _begun:
        _begun.pop().ended(status, message)


@contextmanager
def _stopped_with(instance: dg.DagsterInstance, run: dg.DagsterRun, backfill_id: str) -> Iterator[None]:
    """The run is interrupted soon after its backfill was canceled, as Dagster would by and by."""
    over, turn = threading.Event(), threading.Lock()
    canceled = BulkActionsFilter(
        statuses=[BulkActionStatus.CANCELING, BulkActionStatus.CANCELED], backfill_ids=[backfill_id]
    )

    def watch() -> None:
        while not over.wait(_LOOK):
            try:
                if not instance.get_backfills_count(canceled):
                    continue
                instance.report_run_canceling(run, "its backfill was canceled")
            except SQLAlchemyError:  # the run has its own word on a database that is away
                continue
            with turn:
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
            return

    thread = threading.Thread(target=watch, name="canceled", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with turn:
            over.set()
        thread.join()


def _why(error: BaseException) -> str:
    """One line. Of an error that nobody foresaw only its kind: its text is in the run's log, and may be anything."""
    if isinstance(error, dg.Failure):
        return error.description or "the run failed"
    if isinstance(error, USER_ERRORS):
        return str(error)
    return f"the run failed with {type(error).__name__}; its page in the UI has the details"
