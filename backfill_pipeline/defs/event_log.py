"""Dagster's event log on PostgreSQL, written in bulk: the storage class that `dagster.yaml` names.

Nothing of the pipeline goes in here; what a step does with the log is in `bookkeeping`.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from dagster import AssetKey, DagsterEventType, EventLogEntry
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster_postgres import PostgresEventLogStorage
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from .dagster_storage import Pooled

# Dagster hands events to `store_event_batch` only where this variable is set. A batch of 1,000 events is
# 1 to 2 MB; 5,000 made a run of 16 assets and 726 days 4 % faster.
BATCH_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
BATCH_SIZE = 1000

# One writer at a time. Readers (the partition status cache, a backfill's progress, sensors) remember the
# highest id they saw and look only past it, so an id that becomes visible late is never seen at all.
_IN_ORDER = sqlalchemy.text(
    # A writer whose machine vanished must not hold the others up for longer than a minute.
    "SELECT set_config('idle_in_transaction_session_timeout', '60000', true),"
    " pg_advisory_xact_lock(7089052745236442220)"
)
_event_logs = SqlEventLogStorageTable


class BulkEventLogStorage(Pooled, PostgresEventLogStorage):
    """PostgreSQL event log that stores any batch of events in one transaction, in the order of their ids.

    A batch may hold several assets and several kinds of events. Either all of it is stored, with the row of
    each of its assets, or nothing: Dagster's retry, event by event, then stores each event once.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # Here, because every process that creates or executes a run (webserver, daemon, shell, worker) makes
        # this object first, and Dagster looks the variable up anew for every event.
        os.environ.setdefault(BATCH_VARIABLE, str(BATCH_SIZE))
        super().__init__(*arguments, **named)

    def store_event(self, event: EventLogEntry) -> None:
        self._store([event])

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        # Dagster's open-source storages have no place for failed-to-materialize events.
        kept = [event for event in events if not event.get_dagster_event().is_asset_failed_to_materialize]
        if kept:
            self._store(kept)

    def _store(self, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]  # before the lock: most of the time goes here
        with self.index_transaction() as conn:
            conn.execute(_IN_ORDER)
            inserted = conn.execute(
                sqlalchemy.insert(_event_logs).returning(_event_logs.c.id, sort_by_parameter_order=True), rows
            )
            ids = [int(row[0]) for row in inserted]
            self._store_assets(conn, events, ids)
            for event, event_id in zip(events, ids, strict=True):
                if event.is_dagster_event and event.dagster_event_type in ASSET_CHECK_EVENTS:
                    self.store_asset_check_event(event, event_id)

    def _store_assets(self, conn: Connection, events: Sequence[EventLogEntry], ids: Sequence[int]) -> None:
        """Tags of every asset event; of each asset and kind the last event goes to the asset's own row."""
        of_assets = [
            (asset_key, event, event_id)
            for event, event_id in zip(events, ids, strict=True)
            if event.dagster_event
            and event.dagster_event_type in ASSET_EVENTS
            and (asset_key := event.dagster_event.asset_key)
        ]
        if not of_assets:
            return
        self._store_asset_event_tags(conn, [event for _, event, _ in of_assets], [i for _, _, i in of_assets])
        last = {(key, event.dagster_event_type): (event, event_id) for key, event, event_id in of_assets}
        for event, event_id in last.values():
            self._store_asset_event(conn, event, event_id)

    def delete_planned(self, run_id: str, partitions: Mapping[AssetKey, Collection[str]]) -> int:
        """Take back that `run_id` planned these partitions; returns the number of planned events deleted.

        The partition status cache needs no repair while the run goes on: it holds these keys only as in
        progress, which is computed anew each time it is read.
        """
        planned = DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value
        deleted = 0
        with self.index_transaction() as conn:
            for asset_key, keys in partitions.items():
                result = conn.execute(
                    sqlalchemy.delete(_event_logs).where(
                        _event_logs.c.run_id == run_id,
                        _event_logs.c.dagster_event_type == planned,
                        _event_logs.c.asset_key == asset_key.to_string(),
                        _event_logs.c.partition == _any(keys),
                    )
                )
                deleted += result.rowcount
        return deleted

    def materialized(self, asset_keys: Collection[AssetKey], partitions: Collection[str]) -> set[tuple[AssetKey, str]]:
        """Which of these (asset, partition) have a materialization that was not wiped."""
        names = {key.to_string(): key for key in asset_keys}
        query = (
            sqlalchemy.select(_event_logs.c.asset_key, _event_logs.c.partition)
            .where(
                _event_logs.c.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value,
                _event_logs.c.asset_key == _any(names),
                _event_logs.c.partition == _any(partitions),
            )
            .distinct()
        )
        keys = list(asset_keys)
        query = self._add_assets_wipe_filter_to_query(query, self._get_assets_details(keys), keys)
        with self.index_connection() as conn:
            return {(names[name], partition) for name, partition in conn.execute(query)}

    def attempts(
        self, asset_keys: Collection[AssetKey], partitions: Collection[str]
    ) -> dict[tuple[AssetKey, str], tuple[bool, str | None]]:
        """Of these (asset, partition) with any event: whether there is a materialization, and the run that planned one
        after it and has not made it; None: no run has.
        """
        names = {key.to_string(): key for key in asset_keys}
        made = DagsterEventType.ASSET_MATERIALIZATION.value
        of = _event_logs.c
        latest = (
            sqlalchemy.select(of.asset_key, of.partition, of.dagster_event_type, sqlalchemy.func.max(of.id).label("id"))
            .where(
                of.dagster_event_type.in_([made, DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value]),
                of.asset_key == _any(names),
                of.partition == _any(partitions),
            )
            .group_by(of.asset_key, of.partition, of.dagster_event_type)
        )
        keys = list(asset_keys)
        found = self._add_assets_wipe_filter_to_query(latest, self._get_assets_details(keys), keys).subquery()
        query = sqlalchemy.select(
            found.c.asset_key, found.c.partition, found.c.dagster_event_type, of.run_id, found.c.id
        ).join(_event_logs, of.id == found.c.id)
        state: dict[tuple[AssetKey, str], tuple[bool, str | None]] = {}
        with self.index_connection() as conn:
            for name, partition, kind, run_id, _ in sorted(conn.execute(query), key=lambda row: row[4]):
                place = names[name], partition
                is_made = kind == made or state.get(place, (False, None))[0]
                state[place] = is_made, None if kind == made else run_id
        return state

    def get_latest_asset_partition_materialization_attempts_without_materializations(
        self, asset_key: AssetKey, after_storage_id: int | None = None
    ) -> Mapping[str, tuple[str, int]]:
        """By partition, the run that planned it after its last materialization, and that event's id: Dagster's own
        answer, from an index alone. Dagster fetches every event's row, twice, whenever somebody looks at an asset for
        the first time: of 27,400 green partitions 54,800 rows, in 30 times as long.
        """
        made, planned = DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        latest = self._latest_event_ids_by_partition_subquery(asset_key, [made, planned], after_cursor=after_storage_id)
        kind, newest = latest.c.dagster_event_type, sqlalchemy.func.max(latest.c.id)
        made_id, planned_id = newest.filter(kind == made.value), newest.filter(kind == planned.value)
        pending = (
            sqlalchemy.select(planned_id.label("id"))
            .group_by(latest.c.partition)
            .having(sqlalchemy.or_(made_id.is_(None), planned_id > made_id))
            .subquery()
        )
        of = _event_logs.c
        query = sqlalchemy.select(of.partition, of.run_id, of.id).join(pending, of.id == pending.c.id)
        with self.index_connection() as conn:
            return {partition: (run_id, event_id) for partition, run_id, event_id in conn.execute(query)}


def _any(values: Collection[str]) -> sqlalchemy.CollectionAggregate[bool]:
    """`= ANY(array)`: one parameter however many values, and an index search per value."""
    return sqlalchemy.any_(sqlalchemy.literal(list(values), ARRAY(sqlalchemy.Text)))
