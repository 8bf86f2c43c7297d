"""A chain of three assets and a plain op job that do nothing but bookkeeping, steered by run tags.

A file of its own, because `dagster job execute` and the code server load it from another process.
"""

import os
import signal
import warnings
from collections.abc import Iterator

import dagster as dg

from backfill_pipeline.defs.bookkeeping import Context, Recorder, forget_plans, plan

ASSETS = ("bars_1m", "bars_5m", "features_1m")
KEYS = [f"2024-01-{day:02d}|AAPL" for day in range(1, 11)]
RANGE = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}

partitions = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-03-01"),
        "symbol": dg.DynamicPartitionsDefinition(name="bookkept_symbol"),
    }
)


def _tagged(context: Context, name: str) -> list[str]:
    return [key for key in context.run.tags.get(name, "").split(",") if key]


def work(context: Context, assets: list[str], keys: list[str]) -> None:
    """Records every key but those that the tags `bad` and `not_due` name; dies at the key in `die_at`."""
    bad, not_due, die_at = _tagged(context, "bad"), _tagged(context, "not_due"), _tagged(context, "die_at")
    with Recorder(context, batch=5) as recorder:
        for key in keys:
            if key in die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if key not in bad and key not in not_due:
                for asset in assets:
                    recorder.record(asset, key, {"rows": 390, "provider": "made up"})
    if not_due:
        forget_plans(context, dict.fromkeys(assets, not_due))
    if bad:
        raise dg.Failure(f"{len(bad)} keys are not complete")


with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):
    single_run = dg.BackfillPolicy.single_run()


@dg.multi_asset(
    specs=[dg.AssetSpec(name, skippable=True) for name in ASSETS],
    can_subset=True,
    partitions_def=partitions,
    backfill_policy=single_run,
)
def chain(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    work(context, [key.to_user_string() for key in context.selected_asset_keys], list(context.partition_keys))
    yield from ()


@dg.op
def shell_step(context: dg.OpExecutionContext) -> None:
    plan(context, ASSETS, KEYS)
    work(context, list(ASSETS), KEYS)


@dg.job(executor_def=dg.in_process_executor)
def shell_job() -> None:
    shell_step()


@dg.sensor(asset_selection=dg.AssetSelection.assets(*ASSETS), default_status=dg.DefaultSensorStatus.RUNNING)
def asking_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key="once", tags=RANGE)


@dg.schedule(target=list(ASSETS), cron_schedule="0 2 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def nightly_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(tags=RANGE)


defs = dg.Definitions(
    assets=[chain],
    jobs=[dg.define_asset_job("chain_job", selection=list(ASSETS)), shell_job],
    sensors=[asking_sensor],
    schedules=[nightly_schedule],
    executor=dg.in_process_executor,
)


def chain_job() -> dg.JobDefinition:
    return defs.resolve_job_def("chain_job")
