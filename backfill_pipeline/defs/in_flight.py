"""Which partitions of a symbol's chain runs are at now, or queued for, as Dagster tells. Reads only."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.steps.coverage_report import InFlight
from backfill_pipeline.steps.ranges import parse_ranges
from backfill_pipeline.steps.requests import RequestError, parse_request
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.progress import connected_for

from .partitions import key_of, split_key, symbol_dimension
from .running import bars_asset

# Jobs of which the config says what they are for: symbols, timeframes, days or start and end.
BY_CONFIG = ("master_backfill", "ensure_coverage", "repair_gaps")
_QUEUED = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)
_RUNNING = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)

_ONE = "dagster/partition"
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

# A run opens its warehouse this soon after it has started, in seconds, and is believed that long without one. A killed
# run stays "started" for Dagster, for days where no daemon is up.
_OPENS_WITHIN = 60.0
_BELIEVED = 10.0


@dataclass(frozen=True)
class Unfinished:
    """Runs that are `queued` or `running`, and the partitions by asset that backfills have not made runs of yet."""

    queued: tuple[dg.DagsterRun, ...]
    running: tuple[dg.DagsterRun, ...]
    to_come: tuple[Any, ...]  # Dagster's AssetGraphSubset
    announced: dict[str, Mapping[dg.AssetKey, set[str | None]]] = field(default_factory=dict, repr=False)

    def announced_by(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Mapping[dg.AssetKey, set[str | None]]:
        """The partitions that a run has announced so far; asked once."""
        if run.run_id not in self.announced:
            planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
            self.announced[run.run_id] = {
                key: set(keys) for key, keys in instance.get_asset_partitions_for_run(run.run_id, planned).items()
            }
        return self.announced[run.run_id]


def unfinished(instance: dg.DagsterInstance, warehouse: Warehouse, but: str | None = None) -> Unfinished:
    """What is under way now, the run `but` left out, and those whose process is gone."""
    with warehouse.conn:
        open_for = connected_for(warehouse.conn)
    queued, running = [], []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[*_QUEUED, *_RUNNING])):
        run = record.dagster_run
        if run.run_id == but:
            continue
        if run.status in _QUEUED:
            queued.append(run)
        elif record.start_time is None or _is_at_work(time.time() - record.start_time, open_for):
            running.append(run)
    backfills = instance.get_backfills(status=BulkActionStatus.REQUESTED)
    data = [backfill.asset_backfill_data for backfill in backfills]
    return Unfinished(tuple(queued), tuple(running), tuple(d.target_subset - d.requested_subset for d in data if d))


def _is_at_work(age: float, open_for: Collection[float]) -> bool:
    """Whether a run that started `age` seconds ago still has its warehouse open."""
    return age < _BELIEVED or any(-1.0 < age - seconds < _OPENS_WITHIN for seconds in open_for)


def in_flight(instance: dg.DagsterInstance, warehouse: Warehouse, task: Task, found: Unfinished) -> InFlight:
    """Which of the task's partitions are in the hands of what was `found`."""
    return InFlight(
        frozenset(p for run in found.running for p in _periods(instance, warehouse, task, run, found)),
        frozenset(
            [
                *(p for run in found.queued for p in _periods(instance, warehouse, task, run, found)),
                *(p for subset in found.to_come for p in _to_come(task, subset)),
            ]
        ),
    )


def _periods(
    instance: dg.DagsterInstance, warehouse: Warehouse, task: Task, run: dg.DagsterRun, found: Unfinished
) -> Iterator[Period]:
    if run.job_name in BY_CONFIG:
        stretches = _by_config(warehouse, task, run)
    elif _FIRST in run.tags or _ONE in run.tags:
        days = _by_keys(instance, warehouse, task, run)
        stretches = [days] if days is not None else []
    else:  # finds its work by itself: the nightly one
        yield from _among(task, found.announced_by(instance, run).get(_asset(task), set()))
        return
    for first, last in stretches:
        yield from (period for period in task.periods if period.last >= first and period.first <= last)


def _by_config(warehouse: Warehouse, task: Task, run: dg.DagsterRun) -> list[tuple[date, date]]:
    """The days that a run by plain config is to complete of the task's symbol and chain."""
    ops: Any = run.run_config.get("ops", {})
    config = ops.get(run.job_name, {}).get("config", {})
    if config.get("ranges"):
        try:
            ranges = parse_ranges(config["ranges"])
        except RequestError:
            return []  # it will fail for that
        return [(one.first, one.last) for one in ranges if one.place == (task.instrument.symbol, task.chain.name)]
    days = _by_request(warehouse, task, config)
    return [days] if days is not None else []


def _by_request(warehouse: Warehouse, task: Task, config: Mapping[str, Any]) -> tuple[date, date] | None:
    symbol, days, start, end = task.instrument.symbol, config.get("days"), config.get("start"), config.get("end")
    every = days is None and start is None and end is None
    try:
        request = parse_request(
            config.get("symbols", [symbol]),
            config.get("timeframes"),
            days=1 if every else days,
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            today=warehouse.now().date(),
            most=None,
        )
    except RequestError:
        return None  # it will fail for that
    if symbol not in request.symbols or task.chain not in request.chains:
        return None
    return (date.min, date.max) if every else (request.start, request.end)


def _by_keys(
    instance: dg.DagsterInstance, warehouse: Warehouse, task: Task, run: dg.DagsterRun
) -> tuple[date, date] | None:
    """The days of the task's symbol in a chain's run over partition keys."""
    if run.job_name != f"backfill_{task.chain.name}" and not run.asset_selection:
        return None
    if run.asset_selection and _asset(task) not in run.asset_selection:
        return None  # derives anew, asks for nothing
    one = run.tags.get(_ONE)
    first, last = run.tags.get(_FIRST, one), run.tags.get(_LAST, one)
    if first is None or last is None:
        return None
    grain = warehouse.grain(task.chain)
    try:
        (low, start), (high, end) = split_key(first, grain), split_key(last, grain)
    except ValueError:
        return None  # keys of another grain
    if task.instrument.symbol not in (low, high):
        order = instance.get_dynamic_partitions(symbol_dimension(task.chain))
        if not {low, high, task.instrument.symbol}.issubset(order):
            return None
        if not order.index(low) < order.index(task.instrument.symbol) < order.index(high):
            return None
    return start.first, end.last


def _to_come(task: Task, subset: Any) -> Iterator[Period]:
    if _asset(task) in subset.asset_keys:
        yield from _among(task, subset.get_partitions_subset(_asset(task)).get_partition_keys())


def _among(task: Task, keys: Iterable[str | None]) -> Iterator[Period]:
    """The task's own periods of some partition keys."""
    mine = {key_of(task.instrument.symbol, period): period for period in task.periods}
    yield from (mine[str(key)] for key in keys if str(key) in mine)


def _asset(task: Task) -> dg.AssetKey:
    """The asset that is asked for: the others derive from it."""
    return dg.AssetKey(bars_asset(task.chain.base))
