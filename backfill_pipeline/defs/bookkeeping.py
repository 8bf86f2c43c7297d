"""What a run tells Dagster about thousands of (asset, partition) pairs: done, planned, not due yet.

With `event_log` the only module that touches Dagster's internals. Where they are not as expected, or the
event log is not a `BulkEventLogStorage`, the same is done event by event, some ten times slower, and the
run's log says so once. Whether a partition is good is decided elsewhere.
"""

import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import dagster as dg
from dagster._check import CheckError

if TYPE_CHECKING:
    from dagster._core.definitions.metadata import RawMetadataValue

    from backfill_pipeline.defs.event_log import BulkEventLogStorage

Context = dg.AssetExecutionContext | dg.OpExecutionContext
Metadata = Mapping[str, "RawMetadataValue"]
Colour = Literal["green", "red"]

# Pairs kept in memory before they are stored, under 1 MB at 1.5 kB each: what a killed run leaves out of the
# log, never out of the tables.
BATCH = 500
# How a changed internal shows: a name, an argument or a type is not what it was.
_CHANGED = (ImportError, AttributeError, TypeError, ValueError, LookupError, CheckError, dg.DagsterError)
_warned_runs: set[str] = set()


class Recorder:
    """Records (asset, partition) pairs as materialized, in bulk, while the step that makes them goes on.

    A context manager: leaving it, by an exception too, stores what is left. Each pair is stored once; a
    second `record` of the same pair is ignored. The step must not yield these materializations as well.
    """

    def __init__(self, context: Context, *, batch: int = BATCH) -> None:
        self._context = context
        self._batch = batch
        self._log = _open_log(context)
        self._seen: set[tuple[str, str]] = set()
        self._buffer: list[tuple[float, str, str, Metadata]] = []
        self._newest: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def record(self, asset: str, partition: str, metadata: Metadata) -> None:
        """Note that `partition` of `asset` is complete; visible after the next flush."""
        # A plain string, because Dagster adds rows of tags to a MultiPartitionKey that nothing reads.
        pair = (asset, str(partition))
        if pair in self._seen:
            return
        self._seen.add(pair)
        # The UI tells an asset's events apart by the millisecond: of two in one it would show one.
        at = self._newest[asset] = max(time.time(), self._newest.get(asset, 0.0) + 0.001)
        self._buffer.append((at, *pair, metadata))
        if len(self._buffer) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """Store everything recorded so far: its partitions turn green, although the run goes on."""
        if self._log is not None:
            self._log.store([self._log.materialization(*item) for item in self._buffer])
            self._buffer.clear()
        while self._buffer:
            _, asset, partition, metadata = self._buffer.pop(0)
            self._context.log_event(dg.AssetMaterialization(asset, partition=partition, metadata=metadata))


def plan(context: Context, assets: Iterable[str], partitions: Iterable[str]) -> None:
    """Announce for a plain op what an asset run announces by itself: every partition of every asset.

    If the run then fails, exactly the announced pairs without a materialization are red. What this run has
    announced before (a retried step) is left alone: announced anew, it would be red although it is recorded.
    """
    log = _open_log(context)
    if log is None:
        return  # the warning is in the run's log: failed partitions will not be red
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    known = context.instance.get_asset_partitions_for_run(context.run.run_id, planned)
    keys = sorted({str(partition) for partition in partitions})
    for asset in sorted(set(assets)):
        done = known.get(dg.AssetKey.from_user_string(asset), set())
        entries = [log.planned(asset, key) for key in keys if key not in done]
        for start in range(0, len(entries), BATCH):
            log.store(entries[start : start + BATCH])


def forget_plans(context: Context, partitions: Mapping[str, Collection[str]]) -> None:
    """Take this run's announcement of these partitions (asset → keys) back: they are not due yet.

    Neither green nor red after the run, however it ends. What an earlier run left stays: a green key stays
    green, a red one red. With another event log than ours nothing happens but a warning.
    """
    storage = _bulk_storage(context.instance)
    if storage is None:
        _warn_once(context, "partitions that are not due yet will be red if this run fails")
        return
    keys = {dg.AssetKey.from_user_string(asset): [str(key) for key in of] for asset, of in partitions.items()}
    storage.delete_planned(context.run.run_id, keys)


def recorded(instance: dg.DagsterInstance, assets: Iterable[str], partitions: Iterable[str]) -> set[tuple[str, str]]:
    """Which of these (asset, partition) have a materialization, whatever became of later runs."""
    asset_keys = [dg.AssetKey.from_user_string(asset) for asset in assets]
    wanted = {str(partition) for partition in partitions}
    storage = _bulk_storage(instance)
    if storage is not None:
        pairs = storage.materialized(asset_keys, wanted)
    else:
        pairs = {(key, p) for key in asset_keys for p in instance.get_materialized_partitions(key) & wanted}
    return {(key.to_user_string(), partition) for key, partition in pairs}


def colours(
    instance: dg.DagsterInstance, assets: Iterable[str], partitions: Iterable[str]
) -> dict[tuple[str, str], Colour]:
    """Which of these (asset, partition) the UI shows as green or red; others are neither. A run that is under way
    changes nothing yet. Cheap for thousands; without our event log, as costly as the UI's own look.
    """
    asset_keys = [dg.AssetKey.from_user_string(asset) for asset in assets]
    wanted = {str(partition) for partition in partitions}
    storage = _bulk_storage(instance)
    state = _attempts(instance, asset_keys, wanted) if storage is None else storage.attempts(asset_keys, wanted)
    runs = list({run_id for _, run_id in state.values() if run_id is not None})
    failed = {
        run.run_id
        for start in range(0, len(runs), BATCH)
        for run in instance.get_runs(
            dg.RunsFilter(run_ids=runs[start : start + BATCH], statuses=[dg.DagsterRunStatus.FAILURE])
        )
    }
    found: dict[tuple[str, str], Colour] = {}
    for (key, partition), (is_made, run_id) in state.items():
        if run_id in failed:
            found[key.to_user_string(), partition] = "red"
        elif is_made:
            found[key.to_user_string(), partition] = "green"
    return found


def _attempts(
    instance: dg.DagsterInstance, asset_keys: Iterable[dg.AssetKey], partitions: Collection[str]
) -> dict[tuple[dg.AssetKey, str], tuple[bool, str | None]]:
    """As the event log of ours has it, from any other."""
    state: dict[tuple[dg.AssetKey, str], tuple[bool, str | None]] = {}
    log = instance.event_log_storage
    for key in asset_keys:
        pending = log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        made = instance.get_materialized_partitions(key)
        for partition in partitions:
            if partition in made or partition in pending:
                run_id = pending[partition][0] if partition in pending else None
                state[key, partition] = partition in made, run_id
    return state


def keep_statuses(
    instance: dg.DagsterInstance, assets: Iterable[str], partitions: dg.PartitionsDefinition[str]
) -> None:
    """Have Dagster count the assets' partitions now. Else it does so when somebody opens a page next, who waits for it:
    a second an asset for 25,000 new partitions.
    """
    with suppress(*_CHANGED):
        from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

        for asset in assets:
            get_and_update_asset_status_cache_value(instance, dg.AssetKey.from_user_string(asset), partitions)


class _Log:
    """Builds event log entries as Dagster does for a step, and stores many at once."""

    def __init__(self, context: Context) -> None:
        from dagster._core.events import (
            AssetMaterializationPlannedData,
            DagsterEvent,
            StepMaterializationData,
        )

        self._event, self._data, self._plan = (
            DagsterEvent,
            StepMaterializationData,
            AssetMaterializationPlannedData,
        )
        self._instance, self._storage = context.instance, _bulk_storage(context.instance)
        self._run_id, self._job = context.run.run_id, context.run.job_name
        self._step = context.get_step_execution_context().step
        self._check()
        if self._storage is None:
            _warn_once(context, f"the event log is a {type(context.instance.event_log_storage).__name__}")

    def _check(self) -> None:
        """Raises one of `_CHANGED` unless entries are what the rest of Dagster reads."""
        from dagster._serdes import deserialize_value, serialize_value

        done = self.materialization(0.0, "asset", "key", {"rows": 1})
        planned = self.planned("asset", "key")
        for entry in (done, planned):
            if deserialize_value(serialize_value(entry), dg.EventLogEntry) != entry:
                raise ValueError("an event log entry does not survive being stored")
            event = entry.get_dagster_event()
            if (event.asset_key, event.partition) != (dg.AssetKey("asset"), "key"):
                raise ValueError("an event does not name its asset and partition")
        if not done.get_dagster_event().is_step_materialization:
            raise ValueError("a materialization is not taken for one")
        if not planned.get_dagster_event().is_asset_materialization_planned:
            raise ValueError("a planned materialization is not taken for one")

    def materialization(self, at: float, asset: str, partition: str, metadata: Metadata) -> dg.EventLogEntry:
        """The entry of a partition made at `at` (seconds since 1970)."""
        # Not through the step's logger, which would write a line to the run's captured output for each.
        event = self._event(
            event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name=self._job,
            step_handle=self._step.handle,
            node_handle=self._step.node_handle,
            step_kind_value=self._step.kind.value,
            event_specific_data=self._data(dg.AssetMaterialization(asset, partition=partition, metadata=metadata)),
            message=f"Materialized {asset} {partition}.",
            pid=os.getpid(),
        )
        return self._entry(event, at)

    def planned(self, asset: str, partition: str) -> dg.EventLogEntry:
        data = self._plan(dg.AssetKey.from_user_string(asset), partition=partition)
        event = self._event.build_asset_materialization_planned_event(self._job, self._step.key, data)
        return self._entry(event, time.time())

    def _entry(self, event: dg.DagsterEvent, at: float) -> dg.EventLogEntry:
        return dg.EventLogEntry(  # type: ignore[no-untyped-call]  # its __new__ has no annotations
            error_info=None,
            level=logging.DEBUG,
            user_message="",
            run_id=self._run_id,
            timestamp=at,
            step_key=self._step.key,
            job_name=self._job,
            dagster_event=event,
        )

    def store(self, entries: Sequence[dg.EventLogEntry]) -> None:
        if self._storage is not None:
            self._storage.store_event_batch(entries)
            return
        for entry in entries:
            self._instance.handle_new_event(entry)


def _open_log(context: Context) -> _Log | None:
    try:
        return _Log(context)
    except _CHANGED as error:
        _warn_once(context, f"Dagster {dg.__version__} is not as expected ({type(error).__name__}: {error})")
        return None


def _bulk_storage(instance: dg.DagsterInstance) -> "BulkEventLogStorage | None":
    try:
        from backfill_pipeline.defs.event_log import BulkEventLogStorage
    except ImportError:
        return None
    storage = instance.event_log_storage
    return storage if isinstance(storage, BulkEventLogStorage) else None


def _warn_once(context: Context, what: str) -> None:
    """One warning a run, whichever function of this module finds the first reason."""
    if context.run.run_id in _warned_runs:
        return
    _warned_runs.add(context.run.run_id)
    context.log.warning(
        "Bookkeeping is slow or incomplete in this run: %s. Stored bars are not affected. Name"
        " backfill_pipeline.defs.event_log.BulkEventLogStorage in dagster.yaml and use the pinned Dagster.",
        what,
    )
