"""`repair_gaps`: what lacks bars and is due for another attempt is asked for again; or, with `verify`, partitions get
the colour that the tables say, and nobody is asked.

One job for both, so that whoever looks for what is under way finds either by the same config.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from backfill_pipeline.domain.repairing import Stretch
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.steps.ranges import parse_ranges, stretches_of
from backfill_pipeline.steps.register import followed_symbols
from backfill_pipeline.steps.repair import repair_tasks, verification_tasks, verified
from backfill_pipeline.steps.requests import MOST_SYMBOLS, RequestError, parse_request
from backfill_pipeline.steps.warehouse import Warehouse

from .bookkeeping import plan
from .checks import check_keys, checked
from .jobs import job_of
from .partitions import key_of
from .resources import Pipeline
from .running import asset_names, priority_of, run_tasks, told_in_one_line

JOB = "repair_gaps"

_TEXTS = dg.Array(dg.Any)  # checked by us: YAML turns NO and 1e5 into other types, and Dagster would not say to quote
_OPTIONAL_TEXT = dg.Field(dg.Any, is_required=False)
_NAMED = ("symbols", "timeframes", "days", "start", "end")


@dg.op(
    config_schema={
        "symbols": dg.Field(_TEXTS, is_required=False, description="Registered symbols; default: all followed"),
        "timeframes": dg.Field(_TEXTS, is_required=False, description="Each stands for its whole chain; default: both"),
        "days": dg.Field(dg.Noneable(int), default_value=None, description="The last so many calendar days"),
        "start": _OPTIONAL_TEXT,
        "end": _OPTIONAL_TEXT,
        "again": dg.Field(
            dg.Noneable(bool),
            default_value=None,
            description="Also what has had its attempt of late; default: if symbols, timeframes or days are named",
        ),
        "verify": dg.Field(bool, default_value=False, description="Ask nobody: colour partitions as the tables say"),
        "ranges": dg.Field(
            [dict], is_required=False, description="In place of the above, each: symbol, timeframe, start, end"
        ),
    }
)
def repair_gaps(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Ask again for what lacks bars and is due for it; by default wherever that is."""
    config: dict[str, Any] = context.op_config
    with (
        told_in_one_line(),
        pipeline.open(priority_of(context)) as warehouse,
        checked(context, warehouse, check_keys(CHAINS)),
    ):
        where = _where(warehouse, pipeline, config)
        again = config["again"] if config["again"] is not None else bool(_named(config))
        if not config["verify"]:
            tasks = repair_tasks(warehouse, pipeline.starts, where, again=again)
        elif where is None:
            raise RequestError("verify needs a place to look at; name symbols, days or start and end")
        else:
            tasks = verification_tasks(warehouse, pipeline.starts, where)
        for task in tasks:
            plan(context, asset_names(task.chain), [key_of(task.instrument.symbol, p) for p in task.periods])
        if not tasks:
            context.log.info("nothing lacks bars that is due for another attempt: nothing was asked")
        elif config["verify"]:
            run_tasks(context, pipeline, warehouse, tasks, through=verified)
        else:
            run_tasks(context, pipeline, warehouse, tasks)


def _where(warehouse: Warehouse, pipeline: Pipeline, config: Mapping[str, Any]) -> list[Stretch] | None:
    """What the config is about; None: everything. Raises RequestError."""
    if config.get("ranges"):
        if named := _named(config):
            raise RequestError(f"give either ranges or {', '.join(named)}, not both")
        return parse_ranges(config["ranges"])
    if not _named(config):
        return None
    symbols, start, end = config.get("symbols"), config.get("start"), config.get("end")
    today = warehouse.now().date()
    if config["days"] is None and start is None and end is None:
        start, end = max(FIRST_DAY, min(pipeline.starts.values())), today
    request = parse_request(
        followed_symbols(warehouse) if symbols is None else symbols,
        config.get("timeframes"),
        days=config["days"],
        start=None if start is None else str(start),
        end=None if end is None else str(end),
        today=today,
        most=None if symbols is None else MOST_SYMBOLS,
    )
    return stretches_of(request)


def _named(config: Mapping[str, Any]) -> list[str]:
    return [name for name in _NAMED if config.get(name) is not None]


def repair_job() -> dg.JobDefinition:
    return job_of(
        repair_gaps, "Ask again for what lacks bars and is due for it, or only put partitions' colours right."
    )
