"""The day: bars of the sessions that run, every quarter of an hour; off until somebody turns it on."""

import dagster as dg

from backfill_pipeline.steps.intraday import intraday_tasks

from .bookkeeping import plan
from .flying import flying_run
from .jobs import job_of
from .partitions import key_of
from .resources import USER_ERRORS, Pipeline
from .running import PRIORITY_TAG, asset_names, priority_of, run_tasks, told_in_one_line

JOB = "intraday_backfill"


@dg.op
def intraday_backfill(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Partitions of sessions that run are worked on and stay without a colour."""
    with told_in_one_line(), pipeline.open(priority_of(context)) as warehouse:
        found = intraday_tasks(warehouse, pipeline.starts)
        for task in found.tasks:
            plan(context, asset_names(task.chain), [key_of(task.instrument.symbol, p) for p in task.periods])
        if found.idle:
            context.log.info(found.idle)
        run_tasks(context, pipeline, warehouse, found.tasks)


def intraday_job() -> dg.JobDefinition:
    return job_of(intraday_backfill, "Today's bars so far of everything followed without an end.")


def intraday_schedule() -> dg.ScheduleDefinition:
    @dg.schedule(
        name="intraday",
        job_name=JOB,
        cron_schedule="*/15 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Brings today's bars of what is followed without an end, while a market is open.",
    )
    def intraday(
        context: dg.ScheduleEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.RunRequest | dg.SkipReason:
        try:
            with pipeline.open("nightly") as warehouse:
                if run_id := flying_run(context.instance, warehouse, JOB):
                    return dg.SkipReason(f"the run before is still under way: {run_id}")
                if idle := intraday_tasks(warehouse, pipeline.starts).idle:
                    return dg.SkipReason(idle)
        except USER_ERRORS as error:  # the run says the same, where it can be seen and repeated
            context.log.warning(str(error))
        # Before backfills, which have weeks: a quarter of an hour is over soon.
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), tags={PRIORITY_TAG: "nightly"})

    return intraday
