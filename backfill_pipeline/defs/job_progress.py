"""A run's progress, from what Dagster says of it: whose job it is, who started that, and how the run ended."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster._core.storage.tags import (
    BACKFILL_ID_TAG,
    RETRY_NUMBER_TAG,
    ROOT_RUN_ID_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)

from backfill_pipeline.steps.progress import Known, Progress, Share, begin
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.jobs import Origin

from .bookkeeping import Context
from .resources import USER_ERRORS

# Whoever submits a run to Dagster for a person at a shell says so with this tag.
ORIGIN_TAG = "backfill/origin"


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
    """Around a run's work: its job's progress is written meanwhile, and how it ended. None: it cannot be written."""
    run = context.run
    share = Share(job_of_run(run), run.run_id, origin_of(run), is_all=BACKFILL_ID_TAG not in run.tags)
    progress = begin(warehouse, share, tasks, known, work)
    if progress is None:
        yield None
        return
    context.log.info(f"progress: backfill status {progress.job_id}")
    try:
        with progress.kept_live():
            yield progress
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        progress.ended("canceled", "stopped by a person or a signal")
        raise
    except BaseException as error:  # whatever ends it: a job that nobody closes would look alive
        progress.ended("failed", _why(error))
        raise
    progress.ended("completed")


def _why(error: BaseException) -> str:
    """One line. Of an error that nobody foresaw only its kind: its text is in the run's log, and may be anything."""
    if isinstance(error, dg.Failure):
        return error.description or "the run failed"
    if isinstance(error, USER_ERRORS):
        return str(error)
    return f"the run failed with {type(error).__name__}; its page in the UI has the details"
