"""Whether a schedule's last run is still under way."""

import dagster as dg

from backfill_pipeline.steps.warehouse import Warehouse

from .in_flight import unfinished


def flying_run(instance: dg.DagsterInstance, warehouse: Warehouse, job: str) -> str | None:
    """The id of a run of the job that is queued or at work. One whose process is gone is neither, whatever Dagster says
    of it: it must not stop every night that comes.
    """
    found = unfinished(instance, warehouse)
    return next((run.run_id for run in (*found.running, *found.queued) if run.job_name == job), None)
