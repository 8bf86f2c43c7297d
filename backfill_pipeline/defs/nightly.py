"""The night: what is followed without an end is brought up to date, corrected while it may be, and judged."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.providers.base import HasEvents
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.closed_days import closed_periods, with_periods
from backfill_pipeline.steps.corporate_actions import refresh_events
from backfill_pipeline.steps.judging import judge_stored
from backfill_pipeline.steps.look import look
from backfill_pipeline.steps.nightly import nightly_tasks
from backfill_pipeline.steps.sampling import sample_news, take_sample
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.coverage import kept_complete
from backfill_pipeline.storage.event_rows import followed
from backfill_pipeline.storage.names import resolver

from .bookkeeping import plan, recorded
from .checks import check_keys, checked
from .flying import flying_run
from .jobs import job_of
from .morning import told_in_the_morning
from .partitions import key_of
from .resources import USER_ERRORS, Pipeline
from .running import PRIORITY_TAG, asset_names, bars_asset, run_tasks, told_in_one_line

JOB = "nightly_backfill"

# Findings of a look that are logged.
_MOST_TOLD = 50


@dg.op
def nightly_backfill(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Corporate actions first, for they tell a split from a mistake; then bars; then what the new bars say of both."""
    with (
        told_in_the_morning(context, pipeline),
        told_in_one_line(),
        pipeline.open("nightly") as warehouse,
        checked(context, warehouse, check_keys(CHAINS)),
    ):
        _refresh(context, warehouse)
        _look(context, warehouse)
        sampled = take_sample(warehouse)
        if sampled:
            context.log.info(f"{sampled} older sessions are asked for again: the month's sample")
        tasks = _with_closed_days(context, warehouse, nightly_tasks(warehouse, pipeline.starts), pipeline)
        for task in tasks:
            plan(context, asset_names(task.chain), [key_of(task.instrument.symbol, p) for p in task.periods])
        if not tasks:
            context.log.info("nothing is open: everything that is due has been answered")
        with _judged_after(context, warehouse):
            run_tasks(context, pipeline, warehouse, tasks)


def _look(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """What another hand has deleted or edited is open from here on, and asked for with the rest."""
    looked = look(warehouse)
    context.log.info(f"{looked.sessions} stored sessions looked at: {looked.counts or 'all as written'}")
    for finding in looked.findings[:_MOST_TOLD]:
        context.log.warning(str(finding))
    if len(looked.findings) > _MOST_TOLD:
        context.log.warning(f"and {len(looked.findings) - _MOST_TOLD} more; backfill verify says what is left of it")


def _with_closed_days(
    context: dg.OpExecutionContext, warehouse: Warehouse, tasks: list[Task], pipeline: Pipeline
) -> list[Task]:
    """The tasks, and the last weeks' closed days that are not green yet: nobody is asked for them."""
    for instrument, chain, periods in closed_periods(warehouse, pipeline.starts):
        keys = {key_of(instrument.symbol, period): period for period in periods}
        known = {key for _, key in recorded(context.instance, [bars_asset(chain.base)], keys)}
        if left := [period for key, period in keys.items() if key not in known]:
            tasks = with_periods(tasks, instrument, chain, left)
    return tasks


def _refresh(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """A night without corporate actions is told and is no reason for a night without bars."""
    source = next((p.events for p in warehouse.router.providers if isinstance(p, HasEvents)), None)
    if source is None:
        return
    with warehouse.conn:
        resolve = resolver(warehouse.conn, source.name)
    try:
        done = refresh_events(warehouse.conn, source, resolve, warehouse.now())
    except ProviderStopped as error:
        context.log.warning(f"corporate actions: {error}")
        return
    for line in (*done.failures, *done.notes):
        context.log.warning(f"corporate actions: {line}")


@contextmanager
def _judged_after(context: dg.OpExecutionContext, warehouse: Warehouse) -> Iterator[None]:
    """Whatever becomes of the bars, the stored ones may now tell what splits and the sample are worth."""
    try:
        yield
    finally:
        with warehouse.conn:
            symbols = followed(warehouse.conn)
        for line in judge_stored(warehouse.conn, symbols, warehouse.now().date()).refused:
            context.log.warning(line)
        for line in sample_news(warehouse):
            context.log.warning(line)


def nightly_job() -> dg.JobDefinition:
    return job_of(nightly_backfill, "Everything followed without an end: new sessions, corrections, missed nights.")


def nightly_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """`nightly`, in UTC by `BACKFILL_NIGHTLY_CRON`. It runs from the first start of the daemon on."""

    @dg.schedule(
        name="nightly",
        job_name=JOB,
        cron_schedule=settings.nightly_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Brings every symbol that is followed without an end up to date.",
    )
    def nightly(
        context: dg.ScheduleEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.RunRequest | dg.SkipReason:
        try:
            with pipeline.open("nightly") as warehouse:
                if run_id := flying_run(context.instance, warehouse, JOB):
                    return dg.SkipReason(f"the night before is still under way: run {run_id}")
                with warehouse.conn:
                    followed = kept_complete(warehouse.conn)
                if not followed:
                    return dg.SkipReason("no symbol is followed without an end: backfill symbols add AAPL --since 2y")
        except USER_ERRORS as error:  # the run says the same, where it can be seen and repeated
            context.log.warning(str(error))
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), tags={PRIORITY_TAG: "nightly"})

    return nightly
