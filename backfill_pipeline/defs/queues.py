"""Queues of runs, one for each provider: waiting for one of them never fills the workers of another.

Only named by the dagster.yaml of a warehouse with BACKFILL_BROKER; one machine alone needs no queues.
"""

import logging
from collections import Counter
from pathlib import Path

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG

from backfill_pipeline.domain.timeframe import CHAINS, Chain
from backfill_pipeline.providers.configured import chosen_names
from backfill_pipeline.settings import Settings, load_settings
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import get_instruments

from .partitions import split_key, symbol_dimension
from .resources import USER_ERRORS, Pipeline
from .running import bars_asset

# Runs that ask nobody, and those that find their work by themselves and may ask several: the nightly one, repairs.
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


def queue_of(instance: dg.DagsterInstance, pipeline: Pipeline, run: dg.DagsterRun) -> str:
    """The provider that a run over partition keys asks, if it is a single one; else GENERAL. Asks no provider. Raises
    one-line errors.
    """
    for chain in CHAINS:
        if _asks(run, chain) and (low := run.tags.get(_FIRST, run.tags.get(_ONE))):
            with pipeline.open() as warehouse:
                names = _providers(instance, warehouse, chain, low, run.tags.get(_LAST, low))
            return names.pop() if len(names) == 1 else GENERAL
    return GENERAL


def _asks(run: dg.DagsterRun, chain: Chain) -> bool:
    if run.asset_selection:
        return dg.AssetKey(bars_asset(chain.base)) in run.asset_selection
    return run.job_name == f"backfill_{chain.name}"


def _providers(instance: dg.DagsterInstance, warehouse: Warehouse, chain: Chain, low: str, high: str) -> set[str]:
    """By name, who serves most sessions of each symbol of a range of keys."""
    grain = warehouse.grain(chain)
    try:
        (one, first), (other, last) = split_key(low, grain), split_key(high, grain)
    except ValueError:
        return set()  # the run will say what is wrong with its keys
    known = [one]
    if one != other:  # a range of symbols goes by the order in which they were added
        every = list(instance.get_dynamic_partitions(symbol_dimension(chain)))
        known = every[every.index(one) : every.index(other) + 1] if {one, other} <= set(every) else []
    with warehouse.conn:
        instruments = get_instruments(warehouse.conn, known)
    found = set()
    for instrument in instruments.values():
        subject = warehouse.subject(instrument, chain)
        chosen = subject.route.choose(warehouse.now())[subject.sessions.rows_between(first.first, last.last)]
        served = Counter(chosen[chosen >= 0].tolist()).most_common(1)
        found.add(subject.route.providers[served[0][0] if served else 0].name)
    return found


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
