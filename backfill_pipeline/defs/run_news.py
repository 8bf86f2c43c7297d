"""What became of runs and of backfills, as messages. Reads Dagster; steps/messages.py words and cuts them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from backfill_pipeline.domain.grain import Grain
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.messages import Message, run_command

from .partitions import split_key
from .resources import grain_of
from .running import asset_names

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset

# Runs that a backfill's message quotes; each has a line.
_MOST_RUNS = 5
_MOST_LINES = 10
_ENDED = {
    BulkActionStatus.COMPLETED_SUCCESS: "completed",
    BulkActionStatus.COMPLETED_FAILED: "completed with failures",
    BulkActionStatus.FAILED: "failed",
    BulkActionStatus.CANCELED: "was canceled",
}
# Of these Dagster tells which partitions failed; a partition not due yet is none. Of the others nobody got to all.
_COUNTED = (BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.COMPLETED_FAILED)

Keys = Mapping[str, set[str]]  # chain's name → partition keys


def is_over(backfill: PartitionBackfill) -> bool:
    """COMPLETED is not among the ends: with it Dagster counts up the runs, and then says how it ended."""
    return backfill.status in _ENDED


def failure_message(instance: dg.DagsterInstance, settings: Settings, run: dg.DagsterRun, at: datetime) -> Message:
    """Of a failed run: why, which partitions it has left undone, and the command that does them."""
    keys, lines = undone(instance, run.run_id), failure_lines(instance, run.run_id)
    failed = listed(keys)
    what = f": {len(failed):,} partition{'s' * (len(failed) > 1)} not complete" if failed else ""
    return Message(
        "run_failure",
        f"{run.job_name} failed{what}" if run.job_name != "__ASSET_JOB" else f"a run of assets failed{what}",
        tuple(lines[:_MOST_LINES]) or ("it gave no reason; see the run in Dagster's UI",),
        at,
        command=command_for(settings, keys, at) or "backfill doctor",
        run_id=run.run_id,
        symbols=_symbols(failed),
        failed=failed,
    )


def backfill_message(instance: dg.DagsterInstance, settings: Settings, backfill: PartitionBackfill) -> Message:
    """Of a backfill that is over: how it ended, what of it is not green, why, and the command that repairs."""
    data = backfill.asset_backfill_data
    target = _by_chain(_keys_of(data.target_subset)) if data else {}
    green = _by_chain(_keys_of(data.materialized_subset)) if data else {}
    if backfill.status in _COUNTED:
        left = _by_chain(_keys_of(data.failed_and_downstream_subset)) if data else {}
    else:
        left = {name: keys - green.get(name, set()) for name, keys in target.items()}
    symbols = _symbols(listed(target))
    total, done = (sum(map(len, keys.values())) for keys in (target, green))
    lines = [f"{done:,} of {total:,} partitions of {_some(symbols)} are green"]
    if backfill.error is not None:
        lines.append(backfill.error.message.strip().splitlines()[0])
    red = dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}, statuses=[dg.DagsterRunStatus.FAILURE])
    for run in instance.get_runs(red, limit=_MOST_RUNS):
        lines += failure_lines(instance, run.run_id)[:_MOST_LINES]
    end = backfill.backfill_end_timestamp or backfill.backfill_timestamp
    at = datetime.fromtimestamp(end, UTC)
    return Message(
        "backfill_completion",
        f"backfill {backfill.backfill_id} {_ENDED[backfill.status]}",
        tuple(lines),
        at,
        command=command_for(settings, left, at),
        backfill_id=backfill.backfill_id,
        symbols=symbols,
        failed=listed(left),
    )


def undone(instance: dg.DagsterInstance, run_id: str) -> Keys:
    """The partitions that a run announced and did not complete, by chain."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    done = instance.get_asset_partitions_for_run(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    return _by_chain(
        {
            asset: {key for key in keys if key is not None and key not in done.get(asset, ())}
            for asset, keys in instance.get_asset_partitions_for_run(run_id, planned).items()
        }
    )


def failure_lines(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Why a run failed, in its own words: what it listed as incomplete, or the first line of its error."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    lines: list[str] = []
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.get_dagster_event()
        if event.is_step_failure:
            data = event.step_failure_data
            told, error = data.user_failure_data, data.error
            while error is not None and error.cause is not None:
                error = error.cause  # Dagster's own error says no more than in which step
            lines += failure_parts(told.description if told else error.message if error else None)
        elif not lines and event.message:
            lines += failure_parts(event.message)
    return lines


def failure_parts(description: str | None) -> list[str]:
    """A failure's description, a line for each thing that it lists."""
    return [part.strip() for part in (description or "").strip().partition("\n")[0].split("; ") if part.strip()]


def command_for(settings: Settings, keys: Keys, now: datetime) -> str:
    """What asks again for these partitions; empty for none. Sessions that have not begun are left out."""
    parted = [
        (chain, *split_key(key, grain))
        for chain in CHAINS
        if (grain := grain_of(settings, chain))
        for key in keys.get(chain.name, ())
        if _is_key(key, grain)
    ]
    if not parted:
        return ""
    symbols = {symbol for _, symbol, _ in parted}
    bases = {chain.base for chain, _, _ in parted}
    first = min(period.first for *_, period in parted)
    last = min(max(period.last for *_, period in parted), max(first, now.date()))
    return run_command(symbols, bases, first, last)


def _is_key(key: str, grain: Grain) -> bool:
    """False for keys of a grain that was set before."""
    try:
        split_key(key, grain)
    except ValueError:
        return False
    return True


def _keys_of(subset: "AssetGraphSubset") -> dict[dg.AssetKey, set[str]]:
    return {asset: set(keys.get_partition_keys()) for asset, keys in subset.partitions_subsets_by_asset_key.items()}


def _by_chain(of_assets: Mapping[dg.AssetKey, Iterable[str]]) -> dict[str, set[str]]:
    """The keys of any asset of the chain."""
    found: dict[str, set[str]] = {}
    for chain in CHAINS:
        names = set(asset_names(chain))
        keys = {str(key) for asset, of in of_assets.items() if asset.to_user_string() in names for key in of}
        if keys:
            found[chain.name] = keys
    return found


def listed(keys: Keys) -> tuple[str, ...]:
    """Newest first, as the keys begin with their dates."""
    return tuple(sorted((key for of_chain in keys.values() for key in of_chain), reverse=True))


def _symbols(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({key.partition("|")[2] for key in keys}))


def _some(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - _MOST_LINES:,} more" if len(symbols) > _MOST_LINES else ""
    return f"{', '.join(symbols[:_MOST_LINES])}{more}"
