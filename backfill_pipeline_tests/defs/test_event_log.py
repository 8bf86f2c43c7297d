"""The event log storage: bulk through every door that creates runs, all or nothing, in the order of ids."""

import asyncio
import datetime
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster_graphql.schema import create_schema

from backfill_pipeline.defs.event_log import BulkEventLogStorage
from backfill_pipeline_tests.defs.bookkept_chain import ASSETS, KEYS, RANGE, chain_job
from backfill_pipeline_tests.defs.bookkept_runs import (
    CHAIN_FILE,
    all_colours,
    expected,
    job_execute,
    query,
    users_instance,
)

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::DeprecationWarning")
PAIRS = len(ASSETS) * len(KEYS)


def announced(dagster_database_url: str) -> list[tuple[object, ...]]:
    """(planned events, transactions that stored them) of every run."""
    return query(
        dagster_database_url,
        "SELECT count(*), count(DISTINCT xmin::text) FROM event_logs"
        " WHERE dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' GROUP BY run_id",
    )


def test_runs_in_this_process_announce_in_one_transaction(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    chain_job().execute_in_process(instance=instance, tags=RANGE)
    dg.execute_job(dg.reconstructable(chain_job), instance, tags=RANGE)

    assert announced(dagster_database_url) == [(PAIRS, 1), (PAIRS, 1)]


def test_a_run_from_the_shell_announces_in_one_transaction(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    succeeded = job_execute(instance, "chain_job", RANGE)

    assert succeeded.returncode == 0, succeeded.stderr
    assert announced(dagster_database_url) == [(PAIRS, 1)]
    assert all_colours(instance) == [expected(green=KEYS)] * 3


def ask_webserver(workspace: WorkspaceProcessContext, document: str, **variables: object) -> object:
    """The answer to a query of the UI, from the schema that the webserver serves."""
    context = workspace.create_request_context()
    result = asyncio.run(create_schema().execute_async(document, context_value=context, variables=variables))
    assert not result.errors
    return result.data


LAUNCH = """mutation ($keys: [String!]!, $assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {partitionNames: $keys, assetSelection: $assets}) { __typename }
}"""
COUNTS = """query ($assets: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assets) { partitionStats { numMaterialized numFailed numMaterializing } }
}"""


@pytest.fixture
def workspace(instance: dg.DagsterInstance) -> Iterator[WorkspaceProcessContext]:
    """A code server for the chain, as the webserver and the daemon start one."""
    target = PythonFileTarget(CHAIN_FILE, attribute="defs", working_directory=None, location_name="chain")
    with create_test_daemon_workspace_context(target, instance) as workspace:
        yield workspace
        code_servers = psutil.Process().children(recursive=True)
    psutil.wait_procs(code_servers, timeout=20)


def test_a_ui_backfill_a_sensor_and_a_schedule_announce_in_one_transaction_each(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, dagster_database_url: str
) -> None:
    assets = [{"path": [asset]} for asset in ASSETS]
    logger = logging.getLogger("daemon")
    launched = ask_webserver(workspace, LAUNCH, keys=KEYS, assets=assets)
    assert launched == {"launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess"}}
    list(execute_backfill_iteration(workspace, logger))
    assert announced(dagster_database_url) == [(PAIRS, 1)]

    with QueuedRunCoordinatorDaemon(interval_seconds=1) as queue:
        list(queue.run_iteration(workspace))
    _wait_for_the_run(instance)
    counts = {"numMaterialized": 10, "numFailed": 0, "numMaterializing": 0}
    assert ask_webserver(workspace, COUNTS, assets=assets) == {"assetNodes": [{"partitionStats": counts}] * 3}
    list(execute_backfill_iteration(workspace, logger))
    assert [backfill.status.value for backfill in instance.get_backfills()] == ["COMPLETED_SUCCESS"]

    list(execute_sensor_iteration(workspace, logger, None, None))
    assert announced(dagster_database_url) == [(PAIRS, 1)] * 2

    now = datetime.datetime.now(datetime.UTC)
    list(launch_scheduled_runs(workspace, logger, now, {}))  # notes when the schedule was started
    list(launch_scheduled_runs(workspace, logger, now + datetime.timedelta(days=1), {}))
    assert announced(dagster_database_url) == [(PAIRS, 1)] * 3


def _wait_for_the_run(instance: dg.DagsterInstance) -> None:
    deadline = time.monotonic() + 60
    while (status := instance.get_runs()[0].status) != dg.DagsterRunStatus.SUCCESS:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def test_the_users_own_batch_size_stands(tmp_path: Path, dagster_database_url: str) -> None:
    with users_instance(tmp_path, dagster_database_url, batch_size="12") as instance:
        chain_job().execute_in_process(instance=instance, tags=RANGE)

    assert announced(dagster_database_url) == [(PAIRS, 3)]


def test_a_batch_may_announce_assets_and_checks_together(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    days = dg.StaticPartitionsDefinition(["mon", "tue"])
    checks = [dg.AssetCheckSpec("not_empty", asset="priced")]

    @dg.asset(partitions_def=days, check_specs=checks, backfill_policy=dg.BackfillPolicy.single_run())
    def priced() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    week = {"dagster/asset_partition_range_start": "mon", "dagster/asset_partition_range_end": "tue"}
    dg.materialize([priced], instance=instance, tags=week)

    kinds = "('ASSET_MATERIALIZATION_PLANNED', 'ASSET_CHECK_EVALUATION_PLANNED')"
    stored = f"SELECT count(*), count(DISTINCT xmin::text) FROM event_logs WHERE dagster_event_type IN {kinds}"
    assert query(dagster_database_url, stored) == [(3, 1)]
    checked = "SELECT execution_status, count(*) FROM asset_check_executions GROUP BY 1"
    assert query(dagster_database_url, checked) == [("SUCCEEDED", 1)]
    assert instance.get_materialized_partitions(dg.AssetKey("priced")) == {"mon", "tue"}


def planned(asset: str, partition: str) -> dg.EventLogEntry:
    data = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=partition)
    event = DagsterEvent.build_asset_materialization_planned_event("job", "step", data)
    return dg.EventLogEntry(None, "info", "", "a run", 1.0, "step", "job", event)  # type: ignore[no-untyped-call]


def on_asset_rows(dagster_database_url: str, action: str) -> None:
    """Has the server do `action` (PL/pgSQL) whenever the row of an asset is written."""
    query(
        dagster_database_url,
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {action}; RETURN NEW; END $$;"
        " CREATE TRIGGER act BEFORE INSERT OR UPDATE ON asset_keys FOR EACH ROW EXECUTE FUNCTION act()",
    )


def test_a_batch_that_fails_half_way_is_stored_once_by_the_retry(
    instance: dg.DagsterInstance, dagster_database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    query(dagster_database_url, "CREATE SEQUENCE attempts")
    on_asset_rows(dagster_database_url, "IF nextval('attempts') = 2 THEN RAISE 'disk full'; END IF")

    created = instance.create_run_for_job(chain_job(), tags=RANGE)

    assert "disk full" in capfd.readouterr().err
    count = "SELECT count(*), count(DISTINCT (asset_key, partition)) FROM event_logs WHERE run_id = "
    assert query(dagster_database_url, f"{count} '{created.run_id}'") == [(PAIRS, PAIRS)]


def test_no_id_becomes_visible_before_a_smaller_one(instance: dg.DagsterInstance, dagster_database_url: str) -> None:
    storage = instance.event_log_storage
    assert isinstance(storage, BulkEventLogStorage)
    on_asset_rows(dagster_database_url, "PERFORM pg_sleep(CASE WHEN NEW.asset_key LIKE '%slow%' THEN 1 ELSE 0 END)")
    slow = threading.Thread(target=storage.store_event_batch, args=([planned("slow", str(day)) for day in range(5)],))
    slow.start()
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    while query(dagster_database_url, sleeping) == [(0,)]:
        time.sleep(0.01)
    storage.store_event(planned("quick", "0"))

    visible = query(dagster_database_url, "SELECT asset_key::json->>0 FROM event_logs ORDER BY id")
    slow.join()
    assert visible == [("slow",)] * 5 + [("quick",)]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_any_spelling_of_the_url_will_do(dagster_database_url: str, scheme: str) -> None:
    url = dagster_database_url.replace("postgresql", scheme, 1)
    storage = BulkEventLogStorage.from_config_value(None, {"postgres_url": url})
    storage.store_event(planned("bars_1m", "2024-01-01|AAPL"))

    assert storage.get_asset_partitions_for_run("a run") == {dg.AssetKey("bars_1m"): {"2024-01-01|AAPL"}}
    assert isinstance(storage, BulkEventLogStorage)


def test_another_process_gets_the_same_storage_from_the_reference(instance: dg.DagsterInstance) -> None:
    with dg.DagsterInstance.from_ref(instance.get_ref()) as other:
        assert isinstance(other.event_log_storage, BulkEventLogStorage)
