"""`ensure_coverage`: what is missing of a range, symbol by symbol, and its completion; the same in words before and
after. What a run does to complete it is `master_backfill`'s.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from backfill_pipeline.domain.timeframe import CHAINS, Chain, Timeframe
from backfill_pipeline.steps.coverage_report import CoverageReport, coverage_report
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.steps.requests import BackfillRequest, parse_request
from backfill_pipeline.steps.task import Task, tasks_of
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import list_symbols

from .checks import check_keys, checked
from .in_flight import in_flight, unfinished
from .jobs import complete_request, job_of, register_everywhere, requested_tasks
from .resources import Pipeline
from .running import priority_of, told_in_one_line

_TEXTS = dg.Array(dg.Any)  # checked by us: YAML turns NO and 1e5 into other types, and Dagster would not say to quote
_OPTIONAL_TEXT = dg.Field(dg.Any, is_required=False)


@dg.op(
    config_schema={
        "symbols": dg.Field(_TEXTS, description="1 to 100 symbols, in quotes where YAML would misread them"),
        "timeframes": dg.Field(
            _TEXTS,
            is_required=False,
            description="Any of 1m 5m 15m 30m 1h 4h 1d 1w; each brings its whole chain; default: as they are followed",
        ),
        "days": dg.Field(dg.Noneable(int), default_value=None, description="The last so many calendar days"),
        "start": _OPTIONAL_TEXT,
        "end": _OPTIONAL_TEXT,
        "register": dg.Field(bool, default_value=False, description="Follow symbols that are not registered yet"),
    }
)
def ensure_coverage(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Complete a range of symbols, the newest sessions first, and say how complete it was before and is then."""
    config: dict[str, Any] = context.op_config
    start, end = config.get("start"), config.get("end")
    with (
        told_in_one_line(),
        pipeline.open(priority_of(context)) as warehouse,
        checked(context, warehouse, check_keys(CHAINS)),
    ):
        request = parse_request(
            config["symbols"],
            config.get("timeframes"),
            days=config["days"],
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            today=warehouse.now().date(),
        )
        if config["register"]:
            register_unknown(context.instance, warehouse, request)
        tasks = requested_tasks(context.instance, pipeline, warehouse, request)
        before = coverage_of(context.instance, warehouse, request, tasks, but=context.run_id)
        context.log.info(f"before: {_short(before)}")
        failure: dg.Failure | None = None
        try:
            complete_request(context, pipeline, warehouse, request)
        except dg.Failure as error:
            failure = error
        after = coverage_of(context.instance, warehouse, request, tasks, but=context.run_id)
        context.log.info(f"after: {_short(after)}")
        metadata = {"before": _metadata(before), "after": _metadata(after)}
        if failure is not None:
            metadata |= failure.metadata
            raise dg.Failure(failure.description, metadata, allow_retries=False)
        context.add_output_metadata(metadata)


def register_unknown(instance: dg.DagsterInstance, warehouse: Warehouse, request: BackfillRequest) -> list[str]:
    """Follow those of the request's symbols that are not followed, in its chains; they are returned."""
    with warehouse.conn:
        known = {registered.instrument.symbol for registered in list_symbols(warehouse.conn) if registered.active}
    unknown = [symbol for symbol in request.symbols if symbol not in known]
    if unknown:
        registration = parse_registration(
            unknown,
            asset_class=None,
            calendar=None,
            bars=[chain.base for chain in request.chains],
            since=None,
            today=warehouse.now().date(),
        )
        register_everywhere(instance, warehouse, registration)
    return unknown


def coverage_of(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    request: BackfillRequest,
    tasks: Sequence[Task],
    but: str | None = None,
) -> list[CoverageReport]:
    """A report on each task, in the first timeframe of its chain that the request names. `but`: a run left out of what
    is under way.
    """
    found = unfinished(instance, warehouse, but)
    return [
        coverage_report(warehouse, task, _timeframe(request, task.chain), in_flight(instance, warehouse, task, found))
        for task in tasks
    ]


def report_tasks(pipeline: Pipeline, warehouse: Warehouse, request: BackfillRequest) -> list[Task]:
    """The request's tasks, whether its symbols are followed or not; nothing is changed. Raises one-line errors."""
    return tasks_of(warehouse, request, pipeline.starts)


def as_json(report: CoverageReport) -> dict[str, Any]:
    """With dates as text."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(report), default=str))
    return plain


def _timeframe(request: BackfillRequest, chain: Chain) -> Timeframe:
    return next(timeframe for timeframe in request.timeframes if timeframe in chain.timeframes)


def _short(reports: Sequence[CoverageReport]) -> str:
    return ", ".join(f"{r.symbol} {r.timeframe} {r.status} {r.backfill_progress.progress_percent} %" for r in reports)


def _metadata(reports: Sequence[CoverageReport]) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.json([as_json(report) for report in reports])


def ensure_coverage_job() -> dg.JobDefinition:
    return job_of(
        ensure_coverage,
        "Complete a range of symbols, registering unknown ones on request; its coverage before and after.",
    )
