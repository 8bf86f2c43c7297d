"""Queues of runs, one for each provider: waiting for one of them never fills the workers of another.

Only named by the dagster.yaml of a warehouse with BACKFILL_BROKER; one machine alone needs no queues.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.domain.timeframe import CHAINS, Chain, chain_of
from backfill_pipeline.providers.configured import chosen_names
from backfill_pipeline.settings import Settings, load_settings
from backfill_pipeline.steps.ranges import parse_ranges
from backfill_pipeline.steps.register import followed_symbols
from backfill_pipeline.steps.requests import parse_request
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.coverage import kept_complete
from backfill_pipeline.storage.symbols import get_instruments

from .in_flight import BY_CONFIG
from .intraday import JOB as INTRADAY_JOB
from .nightly import JOB as NIGHTLY_JOB
from .partitions import split_key, symbol_dimension
from .resources import USER_ERRORS, Pipeline
from .running import bars_asset

# Runs that ask nobody, and those that ask several.
GENERAL = "general"
# Beside the queue's tag, on the runs of backfills: `dagster.yaml` keeps a place free of them in each queue.
BACKFILL_QUEUE_TAG = "backfill/backfill_queue"

_ONE = "dagster/partition"
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_log = logging.getLogger("backfill_pipeline.queues")


def queue_names(settings: Settings) -> tuple[str, ...]:
    """Every queue that these settings can put a run into. Raises ProviderStopped as `chosen_names` does."""
    names = chosen_names(settings)
    return (GENERAL, *names, *(["binance"] if settings.provider == "auto" and "binance" not in names else []))


# A symbol's chain, and the first and the last day that a run is about.
Asked = tuple[str, Chain, date, date]

# Runs that find their work by themselves look at what is followed without an end, mostly at so many days.
_RECENT = {NIGHTLY_JOB: timedelta(days=7), INTRADAY_JOB: timedelta(0)}


def queue_of(instance: dg.DagsterInstance, pipeline: Pipeline, run: dg.DagsterRun) -> str:
    """The provider that a run asks, if it is a single one; else GENERAL. Asks no provider. Raises one-line errors."""
    asking = [chain for chain in CHAINS if _asks(run, chain)]
    if not asking and run.job_name not in (*BY_CONFIG, *_RECENT):
        return GENERAL
    with pipeline.open() as warehouse:
        if asking:
            asked = list(_by_keys(instance, warehouse, asking[0], run))
        elif run.job_name in _RECENT:
            asked = _by_registry(warehouse, _RECENT[run.job_name])
        else:
            asked = list(_by_config(instance, warehouse, run))
        with warehouse.conn:
            instruments = get_instruments(warehouse.conn, list(dict.fromkeys(symbol for symbol, *_ in asked)))
        names: set[str] = set()
        for symbol, chain, first, last in asked:
            names.add(_provider(warehouse, instruments[symbol], chain, first, last))
            if len(names) > 1:
                break
    return names.pop() if len(names) == 1 else GENERAL


def _asks(run: dg.DagsterRun, chain: Chain) -> bool:
    if run.asset_selection:
        return dg.AssetKey(bars_asset(chain.base)) in run.asset_selection
    return run.job_name == f"backfill_{chain.name}"


def _provider(warehouse: Warehouse, instrument: Instrument, chain: Chain, first: date, last: date) -> str:
    """Who serves most of its sessions."""
    subject = warehouse.subject(instrument, chain)
    chosen = subject.route.choose(warehouse.now())[subject.sessions.rows_between(first, last)]
    served = Counter(chosen[chosen >= 0].tolist()).most_common(1)
    return subject.route.providers[served[0][0] if served else 0].name


def _by_keys(instance: dg.DagsterInstance, warehouse: Warehouse, chain: Chain, run: dg.DagsterRun) -> Iterator[Asked]:
    """The symbols of a range of keys: it goes by the order in which they were added."""
    low = run.tags.get(_FIRST, run.tags.get(_ONE))
    if low is None:
        return
    grain = warehouse.grain(chain)
    try:
        (one, first), (other, last) = split_key(low, grain), split_key(run.tags.get(_LAST, low), grain)
    except ValueError:
        return  # the run will say what is wrong with its keys
    known = [one]
    if one != other:
        every = list(instance.get_dynamic_partitions(symbol_dimension(chain)))
        known = every[every.index(one) : every.index(other) + 1] if {one, other} <= set(every) else []
    yield from ((symbol, chain, first.first, last.last) for symbol in known)


def _by_registry(warehouse: Warehouse, days: timedelta) -> list[Asked]:
    with warehouse.conn:
        followed = kept_complete(warehouse.conn)
    today = warehouse.now().date()
    return [(instrument.symbol, chain_of(base), today - days, today) for instrument, base in followed]


def _by_config(instance: dg.DagsterInstance, warehouse: Warehouse, run: dg.DagsterRun) -> Iterator[Asked]:
    """What a run's config names. Raises RequestError, as the run will."""
    ops: Any = run.run_config.get("ops", {})
    config = ops.get(run.job_name, {}).get("config", {})
    if config.get("verify"):
        return
    if config.get("ranges"):
        yield from ((one.symbol, one.of_chain, one.first, one.last) for one in parse_ranges(config["ranges"]))
        return
    symbols, days, start, end = (config.get(name) for name in ("symbols", "days", "start", "end"))
    if days is None and start is None and end is None:  # a repair, wherever bars are missing
        start, end = FIRST_DAY, warehouse.now().date()
    request = parse_request(
        followed_symbols(warehouse) if symbols is None else symbols,
        config.get("timeframes"),
        days=days,
        start=None if start is None else str(start),
        end=None if end is None else str(end),
        today=warehouse.now().date(),
        most=None,
    )
    for chain in request.chains:
        members = set(instance.get_dynamic_partitions(symbol_dimension(chain)) if request.as_followed else ())
        for symbol in request.symbols:
            if not request.as_followed or symbol in members:
                yield symbol, chain, request.start, request.end


class ProviderQueues(QueuedRunCoordinator[dg.DagsterInstance]):
    """Dagster's own queue of runs, whoever submits them, each run marked with the workers' queue it will go to."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        if DAGSTER_CELERY_QUEUE_TAG not in run.tags:  # a run that is tried again keeps its queue
            queue = self._queue_of(run)
            names = [DAGSTER_CELERY_QUEUE_TAG, *([BACKFILL_QUEUE_TAG] if BACKFILL_ID_TAG in run.tags else [])]
            self._instance.add_run_tags(run.run_id, dict.fromkeys(names, queue))
        return super().submit_run(context)

    def _queue_of(self, run: dg.DagsterRun) -> str:
        try:
            return queue_of(self._instance, Pipeline(load_settings(Path(".env"))), run)
        except USER_ERRORS as error:
            _log.warning("run %s goes to queue %s: %s", run.run_id, GENERAL, error)
            return GENERAL
