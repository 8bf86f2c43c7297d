"""A job is all of its backfill, both chains of it, from before its first bar to after its last check."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.selector import PartitionRangeSelector, PartitionsByAssetSelector, PartitionsSelector
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.reconcile_runs import reconcile
from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, TIMEFRAMES, Chain
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.defs.test_backfill_target import launched, part
from backfill_pipeline_tests.defs.test_progress import DAYS, end, job_of, master
from backfill_pipeline_tests.sites import NOW, Exchange, Site, site

pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("jobs"), Exchange()) as made:
        yield made


def launched_both(desk: Site, ranges: dict[Chain, tuple[str, str]]) -> str:
    """A backfill of several chains, as the UI launches it, by the first and the last key of each; its id."""
    with partition_loading_context(dynamic_partitions_store=desk.instance):
        backfill = PartitionBackfill.from_partitions_by_assets(
            backfill_id=f"both{time.monotonic_ns()}",
            asset_graph=build_definitions(desk.pipeline).resolve_asset_graph(),
            backfill_timestamp=NOW.timestamp(),
            tags={},
            dynamic_partitions_store=desk.instance,
            partitions_by_assets=[
                PartitionsByAssetSelector(
                    asset_key=dg.AssetKey(name),
                    partitions=PartitionsSelector(ranges=[PartitionRangeSelector(start=first, end=last)]),
                )
                for chain, (first, last) in ranges.items()
                for name in asset_names(chain)
            ],
            title=None,
            description=None,
            run_config=None,
        )
    desk.instance.add_backfill(backfill)
    return str(backfill.backfill_id)


def statuses(desk: Site, dagster_id: str) -> dict[str, str]:
    """Symbol and timeframe → status; one symbol's that all have the same are one entry."""
    rows = job_of(desk, dagster_id)[1]
    return {f"{row.symbol} {row.timeframe}": row.status for row in rows if row.timeframe in ("1m", "1d")}


def test_a_backfill_of_both_chains_is_one_job_that_its_first_run_does_not_fill(desk: Site) -> None:
    desk.register("BOTH")
    days, months = (f"{DAYS[0]}|BOTH", f"{DAYS[1]}|BOTH"), ("2024-03|BOTH", "2024-04|BOTH")
    backfill = launched_both(desk, {INTRADAY: days, DAILY: months})

    part(desk, backfill, INTRADAY, *days)
    half, rows = job_of(desk, backfill)
    assert (half.status, half.symbols_completed, half.symbols_total) == ("running", 0, 1)
    assert half.progress_pct == 3.17, "2 days of 2 and of the 61 of two months"
    assert (half.timeframes, str(half.start_date), str(half.end_date)) == (list(TIMEFRAMES), "2024-03-01", DAYS[1])
    assert statuses(desk, backfill) == {"BOTH 1m": "completed", "BOTH 1d": "pending"}

    part(desk, backfill, DAILY, *months)
    assert job_of(desk, backfill)[0].status == "running"
    end(desk, backfill, BulkActionStatus.COMPLETED_SUCCESS)
    done, rows = job_of(desk, backfill)
    assert (done.status, done.progress_pct, done.symbols_completed) == ("completed", 100, 1)
    assert {row.status for row in rows} == {"completed"}


def started_all(desk: Site, backfill: str) -> None:
    """As Dagster's daemon notes it when it has started the last run."""
    stored = desk.instance.get_backfill(backfill)
    assert stored is not None
    data = stored.asset_backfill_data
    assert data is not None
    graph = build_definitions(desk.pipeline).resolve_asset_graph()
    noted = stored.with_asset_backfill_data(data.replace_requested_subset(data.target_subset), desk.instance, graph)
    desk.instance.update_backfill(noted)


def looked_at(desk: Site, backfill: str) -> str:
    with closing(connect(desk.url)) as conn:
        reconcile(desk.instance, conn, NOW)
    return job_of(desk, backfill)[0].status


def test_a_backfill_ends_with_its_last_run_and_not_when_dagster_looks_at_it_again(desk: Site) -> None:
    desk.register("ENDS", bars=["1m"])
    keys = (f"{DAYS[0]}|ENDS", f"{DAYS[1]}|ENDS")
    backfill = launched(desk, keys, asset_names(INTRADAY))
    part(desk, backfill, INTRADAY, *keys)
    assert looked_at(desk, backfill) == "running", "Dagster may be about to start more runs"
    started_all(desk, backfill)
    definition = build_definitions(desk.pipeline).resolve_job_def("backfill_intraday")
    last = desk.instance.create_run_for_job(definition, tags={"dagster/backfill": backfill})
    assert looked_at(desk, backfill) == "running", "a run is yet to begin"
    desk.instance.delete_run(last.run_id)

    assert looked_at(desk, backfill) == "completed"
    stored = desk.instance.get_backfill(backfill)
    assert stored is not None
    assert stored.status is BulkActionStatus.REQUESTED


def test_a_backfill_of_which_a_run_failed_ends_with_it_unless_it_is_to_be_tried_again(desk: Site) -> None:
    desk.register("FAILS", bars=["1m"])
    backfill = launched(desk, [f"{DAYS[0]}|FAILS"], asset_names(INTRADAY))
    started_all(desk, backfill)
    definition = build_definitions(desk.pipeline).resolve_job_def("backfill_intraday")
    tags = {"dagster/backfill": backfill}
    run = desk.instance.create_run_for_job(definition, tags=tags)
    desk.instance.report_run_failed(run, "killed")
    assert looked_at(desk, backfill) == "queued"

    again = desk.instance.create_run_for_job(definition, tags={**tags, "dagster/max_retries": "0"})
    desk.instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": again.run_id})
    assert looked_at(desk, backfill) == "queued"
    desk.instance.report_run_failed(again, "killed again")
    assert looked_at(desk, backfill) == "failed"


def test_a_backfill_of_what_is_not_due_yet_is_completed_whatever_dagster_says(desk: Site) -> None:
    desk.register("TODAY", bars=["1m"])
    keys = (f"{NOW:%Y-%m-%d}|TODAY", f"{NOW:%Y-%m-%d}|TODAY")
    backfill = launched_both(desk, {INTRADAY: keys})
    part(desk, backfill, INTRADAY, *keys)
    end(desk, backfill, BulkActionStatus.COMPLETED_FAILED)
    assert job_of(desk, backfill)[0].status == "completed"


def test_skipped_is_what_was_complete_before_and_not_what_another_run_has_done_meanwhile(desk: Site) -> None:
    desk.register("BEFORE", "MEANWHILE", bars=["1m"])
    master(desk, "BEFORE")
    keys = [f"{day}|{symbol}" for day in DAYS for symbol in ("BEFORE", "MEANWHILE")]
    backfill = launched(desk, keys, asset_names(INTRADAY))
    part(desk, backfill, INTRADAY, f"{DAYS[0]}|BEFORE", f"{DAYS[1]}|BEFORE")
    assert statuses(desk, backfill) == {"BEFORE 1m": "skipped", "MEANWHILE 1m": "pending"}

    other = master(desk, "MEANWHILE")
    part(desk, backfill, INTRADAY, f"{DAYS[0]}|MEANWHILE", f"{DAYS[1]}|MEANWHILE")

    assert statuses(desk, backfill) == {"BEFORE 1m": "skipped", "MEANWHILE 1m": "completed"}
    rows = {row.symbol: row for row in job_of(desk, backfill)[1]}
    assert (rows["BEFORE"].completed_at, rows["BEFORE"].records_fetched) == (None, 0)
    assert (rows["MEANWHILE"].completed_at, rows["MEANWHILE"].records_inserted) == (NOW, 0)
    assert statuses(desk, other.run_id) == {"MEANWHILE 1m": "completed"}


def test_what_only_had_to_be_explained_was_not_skipped(desk: Site) -> None:
    """Nothing is fetched, no bar is written; the second time there is nothing left to explain."""
    desk.register("SILENT", bars=["1m"])
    with desk.pipeline.open() as warehouse, warehouse.conn as conn, conn.cursor() as cursor:
        cursor.execute("UPDATE symbols SET last_date = '2024-05-10' WHERE symbol = 'SILENT'")
    result = master(desk, "SILENT")
    rows = job_of(desk, result.run_id)[1]
    assert {(row.status, row.records_fetched) for row in rows} == {("completed", 0)}
    assert {row.status for row in job_of(desk, master(desk, "SILENT").run_id)[1]} == {"skipped"}


def test_a_job_ends_with_its_run_and_not_with_its_bars(desk: Site) -> None:
    """By a clock that goes on, half a year ahead of Dagster's."""
    ahead = NOW - datetime.now(UTC)
    real = replace(desk, pipeline=replace(desk.pipeline, now=lambda: datetime.now(UTC) + ahead))
    real.register("CHECKED", bars=["1m"])
    result = master(real, "CHECKED")
    completed_at = job_of(real, result.run_id)[0].completed_at
    assert completed_at is not None
    checks = [
        datetime.fromtimestamp(entry.timestamp, UTC)
        for entry in real.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    ]
    assert checks
    assert completed_at - ahead > max(checks)
    record = real.instance.get_run_record_by_id(result.run_id)
    assert record is not None
    assert record.end_time is not None
    assert abs(datetime.fromtimestamp(record.end_time, UTC) - (completed_at - ahead)) < timedelta(seconds=5)
