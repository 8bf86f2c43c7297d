"""The code location: `dagster … -m backfill_pipeline.definitions`."""

import warnings
from pathlib import Path

import dagster as dg

from backfill_pipeline.defs.assets import chain_assets
from backfill_pipeline.defs.completeness import completeness
from backfill_pipeline.defs.corporate_actions import corporate_actions
from backfill_pipeline.defs.ensure_coverage import ensure_coverage_job
from backfill_pipeline.defs.freshness import followed_bases
from backfill_pipeline.defs.gap_sensor import gap_sensor
from backfill_pipeline.defs.intraday import intraday_job, intraday_schedule
from backfill_pipeline.defs.jobs import pipeline_jobs
from backfill_pipeline.defs.nightly import nightly_job, nightly_schedule
from backfill_pipeline.defs.notify import run_failure_notifier
from backfill_pipeline.defs.reconcile import reconcile_job
from backfill_pipeline.defs.reconcile_runs import reconcile_sensor
from backfill_pipeline.defs.repair import repair_job
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.settings import load_settings


def build_definitions(pipeline: Pipeline | None = None) -> dg.Definitions:
    """Everything Dagster shows and runs. `pipeline`: settings, provider and clock; default: from the environment.

    Raises SettingsError for a wrong variable.
    """
    pipeline = pipeline or Pipeline(load_settings(Path(".env")))
    settings, followed = pipeline.settings, followed_bases(pipeline.settings)
    with warnings.catch_warnings():
        # backfill_policy and its like are marked beta: four lines a process, and nothing to do.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Definitions(
            assets=[*(chain_assets(settings, chain, followed) for chain in CHAINS), corporate_actions, completeness],
            jobs=[
                *pipeline_jobs(),
                ensure_coverage_job(),
                nightly_job(),
                intraday_job(),
                repair_job(),
                reconcile_job(),
            ],
            schedules=[nightly_schedule(settings), intraday_schedule()],
            sensors=[run_failure_notifier(settings), reconcile_sensor, gap_sensor()],
            resources={"pipeline": pipeline},
            # One process a run: bars go from fetch to features in memory, and a step's start costs seconds.
            executor=dg.in_process_executor,
        )


defs = build_definitions()
