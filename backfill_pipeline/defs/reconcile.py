"""`reconcile`: Dagster's partitions made to show what the tables say, after either database was restored, moved or made
anew, or after partitions were cut in another width. Asks nobody and changes no bar.

Who ends runs whose process is gone is in `reconcile_runs`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import dagster as dg
import numpy as np

from backfill_pipeline.domain.grain import Period, periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import CHAINS, Chain
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.steps.outcomes import states
from backfill_pipeline.steps.repair import verified
from backfill_pipeline.steps.run import Done
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Subject, Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.coverage import wanted_windows
from backfill_pipeline.storage.status import read_status
from backfill_pipeline.storage.symbols import Registered, get_instruments, list_symbols

from .bookkeeping import colours, plan
from .in_flight import in_flight, unfinished
from .jobs import job_of
from .partitions import key_of, symbol_dimension
from .resources import Pipeline
from .running import asset_names, bars_asset, run_tasks, told_in_one_line
from .stamp import stamp

JOB = "reconcile"


@dataclass(frozen=True)
class Difference:
    """A symbol's chain and its partitions (ascending) that Dagster shows otherwise than the tables: `complete` ones
    that are not green for every asset, and green ones that are not complete.
    """

    instrument: Instrument
    chain: Chain
    complete: tuple[Period, ...]
    incomplete: tuple[Period, ...]

    @property
    def task(self) -> Task:
        periods = tuple(sorted((*self.complete, *self.incomplete)))
        return Task(self.instrument, self.chain, periods, ask=False, adds=False)


@dataclass(frozen=True)
class Comparison:
    """`partitions`: how many were compared; `busy`: how many runs are at, which were left alone."""

    differences: tuple[Difference, ...]
    partitions: int
    busy: int


def compare(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    warehouse: Warehouse,
    symbols: Sequence[str] | None = None,
    but: str | None = None,
) -> Comparison:
    """What Dagster shows against what the tables say, of all symbols that are followed, or of `symbols`. `but`: the
    run that asks. Some 30 µs for each asset and complete partition. Raises UnknownSymbolError.
    """
    found = unfinished(instance, warehouse, but)
    differences, partitions, busy = [], 0, 0
    for of in _registered(warehouse, symbols):
        for chain in CHAINS:
            if chain.base not in of.bases or not of.active:
                continue
            start, today = pipeline.starts[chain.name], warehouse.now().date()
            periods = periods_between(start, today, warehouse.grain(chain))
            task = Task(of.instrument, chain, tuple(periods), ask=False, adds=False)
            held = in_flight(instance, warehouse, task, found)
            mine = [p for p in periods if p not in held.running and p not in held.queued]
            partitions, busy = partitions + len(mine), busy + len(periods) - len(mine)
            one = _difference(instance, warehouse, of.instrument, chain, mine)
            if one.complete or one.incomplete:
                differences.append(one)
    return Comparison(tuple(differences), partitions, busy)


def _registered(warehouse: Warehouse, symbols: Sequence[str] | None) -> list[Registered]:
    with warehouse.conn:
        if symbols is not None:
            get_instruments(warehouse.conn, symbols)
        return [r for r in list_symbols(warehouse.conn) if symbols is None or r.instrument.symbol in symbols]


def _difference(
    instance: dg.DagsterInstance, warehouse: Warehouse, instrument: Instrument, chain: Chain, periods: list[Period]
) -> Difference:
    assets, base = asset_names(chain), bars_asset(chain.base)
    keys = {period: key_of(instrument.symbol, period) for period in periods}
    subject = warehouse.subject(instrument, chain)
    state = states(warehouse, subject, periods)
    with warehouse.conn:
        wanted = _wanted(warehouse, subject, periods)
    right = [period for period in periods if state[period] == "complete" and period in wanted]
    shown = colours(instance, assets, [keys[period] for period in right])
    complete = [p for p in right if any(shown.get((asset, keys[p])) != "green" for asset in assets)]
    # One asset of twelve tells: what derives from base bars is recorded with them. Most partitions have no colour.
    rest = [period for period in periods if state[period] in ("incomplete", "not served")]
    shown = colours(instance, [base], [keys[period] for period in rest])
    green = [period for period in rest if shown.get((base, keys[period])) == "green"]
    incomplete = {period for period in green if state[period] == "incomplete"}
    incomplete |= _not_vouched(warehouse, subject, [period for period in green if state[period] == "not served"])
    return Difference(instrument, chain, tuple(complete), tuple(sorted(incomplete)))


def _wanted(warehouse: Warehouse, subject: Subject, periods: Sequence[Period]) -> set[Period]:
    """Those that share an instant with what is wanted, and are begun: a day without a session is complete anywhere."""
    sessions = subject.sessions
    windows = wanted_windows(warehouse.conn, subject.instrument.symbol_id, subject.chain.base)
    starts = sessions.midnights(np.array([p.first for p in periods], dtype="datetime64[D]"))
    ends = sessions.midnights(np.array([p.last for p in periods], dtype="datetime64[D]") + 1)
    found = np.zeros(len(periods), dtype=bool)
    for window in windows:
        found |= (ends > window.start) & (starts < min(window.end, to_micros(warehouse.now())))
    return {period for period, is_wanted in zip(periods, found.tolist(), strict=True) if is_wanted}


def _not_vouched(warehouse: Warehouse, subject: Subject, green: Collection[Period]) -> set[Period]:
    """Of green periods that nobody wants or serves any more, those that were never looked at or lack bars. The others
    stay green: what a plan has outgrown is stored all the same.
    """
    if not green:
        return set()
    first, last = min(green).first, max(green).last
    with warehouse.conn:
        known = read_status(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, first, last)
    found = set()
    for period in green:
        mine = [status.complete for day, status in known.items() if period.first <= day <= period.last]
        if not (mine and all(mine)):
            found.add(period)
    return found


def _seen(differences: Sequence[Difference], warehouse: Warehouse, tasks: Sequence[Task], work: Work) -> Iterator[Done]:
    """The outcome of every partition that differs. What nobody wants any more, and is not complete, lacks its bars."""
    lost = {(one.instrument.symbol, one.chain, period) for one in differences for period in one.incomplete}
    for task, outcome in verified(warehouse, tasks, work):
        if outcome.state == "not served" and (outcome.symbol, task.chain, outcome.period) in lost:
            name = f"{outcome.symbol} {outcome.period.key} {task.chain.base}"
            yield task, replace(outcome, state="incomplete", message=f"{name}: the tables do not vouch for it")
        else:
            yield task, outcome


def restore_members(instance: dg.DagsterInstance, warehouse: Warehouse, symbols: Sequence[str] | None) -> list[str]:
    """Followed symbols made partitions of the chains they are wanted in, both where nothing is wanted yet; those that
    are followed no more are partitions no longer. Returns a line for each change.
    """
    lines = []
    registered = _registered(warehouse, symbols)
    members = {chain: set(instance.get_dynamic_partitions(symbol_dimension(chain))) for chain in CHAINS}
    for chain in CHAINS:
        followed = {
            r.instrument.symbol
            for r in registered
            if r.active and (chain.base in r.bases or (not r.bases and not _is_anywhere(r, members)))
        }
        active = {r.instrument.symbol for r in registered if r.active}
        if new := sorted(followed - members[chain]):
            instance.add_dynamic_partitions(symbol_dimension(chain), new)
            lines.append(f"{' '.join(new)}: partitions of the {chain.name} chain again")
        for symbol in sorted(members[chain] - active if symbols is None else set()):
            instance.delete_dynamic_partition(symbol_dimension(chain), symbol)
            lines.append(f"{symbol}: followed no more, and no partition of the {chain.name} chain any longer")
    return lines


def _is_anywhere(of: Registered, members: Mapping[Chain, Collection[str]]) -> bool:
    return any(of.instrument.symbol in names for names in members.values())


@dg.op(name=JOB, config_schema={"symbols": dg.Field(dg.Array(dg.Any), is_required=False, description="Default: all")})
def reconcile_op(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Record what is complete, turn red what is shown as complete and is not."""
    symbols: list[str] | None = context.op_config.get("symbols")
    with told_in_one_line(), pipeline.open() as warehouse:
        for line in restore_members(context.instance, warehouse, symbols):
            context.log.info(line)
        found = compare(context.instance, pipeline, warehouse, symbols, context.run.run_id)
        for one in found.differences:
            plan(context, asset_names(one.chain), [key_of(one.instrument.symbol, p) for p in one.incomplete])
        try:
            run_tasks(
                context,
                pipeline,
                warehouse,
                [one.task for one in found.differences],
                through=partial(_seen, found.differences),
            )
        except dg.Failure:  # as it should be, where something is red now
            note_compared(context.instance, warehouse, symbols)
            raise
        note_compared(context.instance, warehouse, symbols)


def note_compared(instance: dg.DagsterInstance, warehouse: Warehouse, symbols: Sequence[str] | None) -> None:
    """Both databases are of one day from now on, unless only some `symbols` were compared."""
    if symbols is None:
        stamp(instance, warehouse, anew=True)


def reconcile_job() -> dg.JobDefinition:
    return job_of(reconcile_op, "Make partitions show what the tables say. Asks nobody.")
