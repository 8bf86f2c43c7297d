"""What Dagster keeps of partition statuses: counted by the run that makes many, and from an index alone."""

import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, StepMaterializationData
from dagster_postgres import PostgresEventLogStorage

from backfill_pipeline.defs.event_log import BulkEventLogStorage
from backfill_pipeline.defs.partitions import chain_partitions
from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.defs.sensors import CUT, withhold
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, red, site

ASSET = dg.AssetKey("bars_1m")
# 210 days up to a week after the one that is withheld: enough to be counted by the run.
FIRST, LAST = date(2023, 10, 30), date(2024, 5, 26)
DAYS = [str(FIRST + timedelta(days=n)) for n in range((LAST - FIRST).days + 1)]
WEEK = DAYS[-7:]


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path: Path) -> Iterator[Site]:
    with site(server, tmp_path, exchange) as made:
        yield made.cut(intraday_start=FIRST)


def kept(desk: Site, asset: str) -> Mapping[str, set[str]] | None:
    """Materialized and pending keys as the instance has them; None: whoever looks next must count."""
    record = desk.instance.get_asset_records([dg.AssetKey(asset)])[0]
    status, partitions = record.asset_entry.cached_status, chain_partitions(desk.pipeline.settings, INTRADAY)
    if status is None:
        return None
    with partition_loading_context(dynamic_partitions_store=desk.instance):
        assert status.partitions_def_id == partitions.get_serializable_unique_identifier()
        return {
            "made": set(status.deserialize_materialized_partition_subsets(partitions).get_partition_keys()),
            "pending": set(status.deserialize_in_progress_partition_subsets(partitions).get_partition_keys()),
        }


def test_a_run_counts_the_many_partitions_it_has_made_and_leaves_a_few_to_the_next_look(
    desk: Site, exchange: Exchange
) -> None:
    desk.register("ABC")
    desk.chain("backfill_intraday", f"{WEEK[0]}|ABC", f"{WEEK[-1]}|ABC")
    assert [kept(desk, asset) for asset in asset_names(INTRADAY)] == [None] * 12

    withhold(exchange, "ABC")
    desk.chain("backfill_intraday", f"{DAYS[0]}|ABC", f"{DAYS[-1]}|ABC", ok=False)
    bad, good = keys("ABC", CUT), keys("ABC", *(day for day in DAYS if day != CUT))
    assert [kept(desk, asset) for asset in asset_names(INTRADAY)] == [{"made": set(good), "pending": set(bad)}] * 12

    # Whoever looks next goes on from there, and sees how the run has ended.
    partitions = chain_partitions(desk.pipeline.settings, INTRADAY)
    found = desk.instance.get_status_by_partition(ASSET, keys("ABC", *DAYS), partitions) or {}
    seen = {str(key): status.value for key, status in found.items() if status}
    assert seen == green(*good) | red(*bad)
    assert seen == desk.colours(INTRADAY, "bars_1m", keys("ABC", *DAYS)), "counted anew"


def event(run_id: str, partition: str, *, made: bool, asset: dg.AssetKey = ASSET, at: float = 1.0) -> dg.EventLogEntry:
    if made:
        data = StepMaterializationData(dg.AssetMaterialization(asset, partition=partition))
        told = DagsterEvent(dg.DagsterEventType.ASSET_MATERIALIZATION.value, "job", event_specific_data=data)
    else:
        planned = AssetMaterializationPlannedData(asset, partition=partition)
        told = DagsterEvent.build_asset_materialization_planned_event("job", "step", planned)
    return dg.EventLogEntry(None, "info", "", run_id, at, "step", "job", told)  # type: ignore[no-untyped-call]


def test_what_is_pending_is_what_dagster_itself_finds(dagster_database_url: str) -> None:
    storage = BulkEventLogStorage(dagster_database_url)
    storage.store_event_batch(
        [
            event("first", "wiped", made=False),
            event("first", "planned", made=False),
            event("first", "done", made=False),
            event("first", "done", made=True),
            event("first", "done and planned again", made=False),
            event("first", "done and planned again", made=True),
            event("first", "planned twice", made=False),
            event("first", "reported", made=True),
            event("first", "another asset's", made=False, asset=dg.AssetKey("bars_5m")),
            event("second", "done and planned again", made=False),
            event("second", "planned twice", made=False),
            event("second", "done by another run", made=False),
            event("third", "done by another run", made=True),
        ]
    )
    own = storage.get_latest_asset_partition_materialization_attempts_without_materializations
    dagsters = PostgresEventLogStorage.get_latest_asset_partition_materialization_attempts_without_materializations

    assert {partition: run_id for partition, (run_id, _) in own(ASSET).items()} == {
        "wiped": "first",
        "planned": "first",
        "planned twice": "second",
        "done and planned again": "second",
    }
    for after in (None, *range(15)):
        assert own(ASSET, after) == dagsters(storage, ASSET, after), after

    storage.wipe_asset(ASSET)
    storage.store_event(event("fourth", "planned", made=False, at=time.time() + 1))
    assert own(ASSET) == dagsters(storage, ASSET)
    assert set(own(ASSET)) == {"planned"}
