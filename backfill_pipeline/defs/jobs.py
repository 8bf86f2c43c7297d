"""The jobs: a chain by partitions, both chains by plain config (the door for a shell), and registering symbols."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.timeframe import CHAINS, Chain
from backfill_pipeline.steps.progress import Known
from backfill_pipeline.steps.register import Registration, followed_symbols, parse_registration, register
from backfill_pipeline.steps.requests import MOST_SYMBOLS, BackfillRequest, RequestError, parse_request
from backfill_pipeline.steps.task import Task, has_days, prepare, survey, tasks_of, to_do_again, without
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import list_symbols

from .bookkeeping import plan, recorded
from .checks import check_everything, check_keys, checked
from .corporate_actions import corporate_actions_job
from .partitions import crowds, key_of, symbol_dimension
from .resources import Pipeline
from .running import asset_names, priority_of, run_tasks, told_in_one_line

_TEXTS = dg.Array(dg.Any)  # checked by us: YAML turns NO and 1e5 into other types, and Dagster would not say to quote
_OPTIONAL_TEXT = dg.Field(dg.Any, is_required=False)


@dg.op(
    config_schema={
        "symbols": dg.Field(
            _TEXTS,
            is_required=False,
            description="1 to 100 registered symbols, in quotes where YAML would misread them; default: all followed",
        ),
        "timeframes": dg.Field(
            _TEXTS, is_required=False, description="Any of 1m 5m 15m 30m 1h 4h 1d 1w; each brings its whole chain"
        ),
        "days": dg.Field(dg.Noneable(int), default_value=None, description="The last so many calendar days"),
        "start": _OPTIONAL_TEXT,
        "end": _OPTIONAL_TEXT,
    }
)
def master_backfill(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Complete the bars of symbols between two session dates, both included; what is green is left alone."""
    config: dict[str, Any] = context.op_config
    with (
        told_in_one_line(),
        pipeline.open(priority_of(context)) as warehouse,
        checked(context, warehouse, check_keys(CHAINS)),
    ):
        named = config.get("symbols")
        request = parse_request(
            followed_symbols(warehouse) if named is None else named,
            config.get("timeframes"),
            days=config["days"],
            start=_text(config.get("start")),
            end=_text(config.get("end")),
            today=warehouse.now().date(),
            most=None if named is None else MOST_SYMBOLS,
        )
        complete_request(context, pipeline, warehouse, request)


def complete_request(
    context: dg.OpExecutionContext, pipeline: Pipeline, warehouse: Warehouse, request: BackfillRequest
) -> None:
    """Run what of a request is left to do, in a plain op. Raises one-line errors, and dagster's Failure for what stays
    incomplete.
    """
    work = open_work(context.instance, pipeline, warehouse, request)
    for line in work.unserved:
        context.log.warning(line)
    for task in work.tasks:
        plan(context, asset_names(task.chain), [key_of(task.instrument.symbol, p) for p in task.periods])
    if not work.tasks:
        context.log.info("everything asked for is complete already: nothing was asked")
    run_tasks(context, pipeline, warehouse, work.tasks, known=work.known)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True)
class OpenWork:
    """What of a request is left to do, what of it the provider does not serve, in words, and all that needs nothing."""

    tasks: tuple[Task, ...]
    unserved: tuple[str, ...]
    known: tuple[Known, ...]


def requested_tasks(
    instance: dg.DagsterInstance, pipeline: Pipeline, warehouse: Warehouse, request: BackfillRequest
) -> list[Task]:
    """The tasks of a request; where it names no timeframes, of the chains that its symbols are followed in. Raises
    one-line errors.
    """
    followed = {chain: set(request.symbols) for chain in request.chains}
    if request.as_followed:
        followed = {chain: _members(instance, chain, request.symbols) for chain in request.chains}
        request = replace(
            request, timeframes=tuple(t for chain in request.chains if followed[chain] for t in chain.timeframes)
        )
    tasks = [t for t in tasks_of(warehouse, request, pipeline.starts) if t.instrument.symbol in followed[t.chain]]
    _refuse_removed(warehouse, request.symbols)
    if not tasks:
        raise RequestError(f"{' '.join(request.symbols)}: followed in no timeframe yet; give --timeframes, e.g. 1m,1d")
    return tasks


def open_work(
    instance: dg.DagsterInstance, pipeline: Pipeline, warehouse: Warehouse, request: BackfillRequest
) -> OpenWork:
    """The request's tasks less the partitions that are complete and recorded, or not served. Adds the request to what
    is wanted and its symbols to the chains' partitions. Raises one-line errors.
    """
    tasks = requested_tasks(instance, pipeline, warehouse, request)
    for chain in request.chains:
        _add_partitions(instance, symbol_dimension(chain), [t.instrument.symbol for t in tasks if t.chain is chain])
    left, unserved, known = [], [], []
    for task in tasks:
        reason = prepare(warehouse, task)
        states = survey(warehouse, task)
        closed = [period for period in states if not has_days(warehouse, task, period)]
        outside = [period for period, state in states.items() if state == "not served" and period not in closed]
        complete = [period for period, state in states.items() if state == "complete"]
        if outside:
            name = f"{task.instrument.symbol} {task.chain.base} {outside[0].key} to {outside[-1].key}"
            unserved.append(f"{name}: not served: {reason}")
            known.append((replace(task, periods=tuple(outside)), f"not served: {reason}"))
        green = _green(instance, warehouse, task, complete)
        known.append((replace(task, periods=tuple(green)), ""))
        rest = without(task, {*outside, *green, *closed})
        if rest.periods:
            left.append(rest)
    return OpenWork(tuple(left), tuple(unserved), tuple(known))


def not_green(instance: dg.DagsterInstance, warehouse: Warehouse, task: Task) -> Task:
    """The task less the partitions that are complete and recorded; changes nothing."""
    complete = [period for period, state in survey(warehouse, task).items() if state == "complete"]
    return without(task, _green(instance, warehouse, task, complete))


def _members(instance: dg.DagsterInstance, chain: Chain, symbols: Sequence[str]) -> set[str]:
    """Those of `symbols` that are partitions of the chain."""
    return set(instance.get_dynamic_partitions(symbol_dimension(chain))).intersection(symbols)


def _refuse_removed(warehouse: Warehouse, symbols: Sequence[str]) -> None:
    with warehouse.conn:
        removed = {r.instrument.symbol for r in list_symbols(warehouse.conn) if not r.active}.intersection(symbols)
    if removed:
        names = " ".join(sorted(removed))
        raise RequestError(f"{names}: removed, and so no longer followed; add again: backfill symbols add {names}")


def _green(instance: dg.DagsterInstance, warehouse: Warehouse, task: Task, complete: Sequence[Period]) -> list[Period]:
    """Which complete periods (ascending) have nothing to do, and are green in Dagster for every asset of the chain."""
    again = to_do_again(warehouse, task, complete)
    keys = {key_of(task.instrument.symbol, period): period for period in complete if period not in again}
    assets = asset_names(task.chain)
    known = recorded(instance, assets, keys)
    return [period for key, period in keys.items() if all((asset, key) in known for asset in assets)]


def _add_partitions(instance: dg.DagsterInstance, dimension: str, symbols: Sequence[str]) -> None:
    known = set(instance.get_dynamic_partitions(dimension))
    new = [symbol for symbol in symbols if symbol not in known]
    if new:
        instance.add_dynamic_partitions(dimension, new)


def register_everywhere(instance: dg.DagsterInstance, warehouse: Warehouse, registration: Registration) -> list[str]:
    """Register symbols and make them partitions of their chains at once; the names that are new."""
    new = register(warehouse, registration)
    for chain in registration.chains:
        _add_partitions(instance, symbol_dimension(chain), registration.symbols)
    return new


@dg.op(
    config_schema={
        "symbols": dg.Field(_TEXTS, description="Symbols, in quotes where YAML would misread them"),
        "asset_class": dg.Field(dg.Noneable(str), default_value=None, description="stock, etf or crypto"),
        "calendar": dg.Field(dg.Noneable(str), default_value=None, description="XNYS, 24/7, XLON, …"),
        "bars": dg.Field([str], default_value=["1m", "1d"], description="1m, 1d or both"),
        "since": _OPTIONAL_TEXT,
    }
)
def register_symbols(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Add symbols to the registry and to the partitions of their chains."""
    config: dict[str, Any] = context.op_config
    with told_in_one_line(), pipeline.open() as warehouse:
        registration = parse_registration(
            config["symbols"],
            asset_class=config["asset_class"],
            calendar=config["calendar"],
            bars=config["bars"],
            since=_text(config.get("since")),
            today=warehouse.now().date(),
        )
        new = register_everywhere(context.instance, warehouse, registration)
        for line in crowds(context.instance, pipeline.settings, registration.chains, warehouse.now().date()):
            context.log.warning(line)
        context.log.info(f"{len(new)} new symbols: {' '.join(new)}" if new else "all symbols were registered already")


def pipeline_jobs() -> list[Any]:
    """Every job. The chains' jobs are launched with partition tags, the others with config."""
    chains = [
        dg.define_asset_job(
            f"backfill_{chain.name}",
            selection=dg.AssetSelection.assets(*asset_names(chain)),
            description=f"Fetch, resample and enrich the {chain.name} chain for the partitions of the run's tags.",
        )
        for chain in CHAINS
    ]

    master = job_of(master_backfill, "Both chains, by plain config: symbols, timeframes, days or start and end.")
    registering = job_of(register_symbols, "Add symbols to the registry and to the chains' partitions.")
    checking = job_of(check_everything, "Evaluate every asset check on what is stored. Asks nobody.")
    return [*chains, master, registering, checking, corporate_actions_job()]


def job_of(op: dg.OpDefinition, description: str) -> dg.JobDefinition:
    """A job named as its only op. Its graph has another name, because one repository's ops and graphs share theirs."""

    @dg.graph(name=f"{op.name}_graph")
    def graph() -> None:
        op()

    return graph.to_job(name=op.name, description=description)
