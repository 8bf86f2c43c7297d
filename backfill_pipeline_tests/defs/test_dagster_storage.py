"""Dagster's three storages share one connection of their process."""

import multiprocessing
from collections.abc import Sequence
from contextlib import closing

import dagster as dg
import psycopg2
import pytest

from backfill_pipeline.defs.dagster_storage import PooledRunStorage, PooledScheduleStorage
from backfill_pipeline.defs.event_log import BulkEventLogStorage

_CONNECTED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def ask(instance: dg.DagsterInstance) -> None:
    """A question to each of the storages."""
    assert instance.get_runs() == []
    assert not instance.all_asset_keys()
    assert not instance.all_instigator_state()


def connected(dagster_database_url: str, statement: str = _CONNECTED) -> Sequence[int]:
    with closing(psycopg2.connect(dagster_database_url)) as conn, conn.cursor() as cursor:
        cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


def test_dagster_yaml_names_the_storages_that_keep_a_connection(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_storage, PooledRunStorage)
    assert isinstance(instance.event_log_storage, BulkEventLogStorage)
    assert isinstance(instance.schedule_storage, PooledScheduleStorage)


def test_a_process_keeps_one_connection_for_all_questions(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    ask(instance)
    kept = connected(dagster_database_url)
    for _ in range(10):
        ask(instance)
    assert len(kept) == 1
    assert connected(dagster_database_url) == kept


def test_a_connection_that_was_cut_is_replaced_before_anybody_notices(
    instance: dg.DagsterInstance, dagster_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask(instance)
    before = connected(dagster_database_url)
    connected(dagster_database_url, _CONNECTED.replace("SELECT pid", "SELECT pg_terminate_backend(pid, 5000)::int"))
    ask(instance)
    assert len(after := connected(dagster_database_url)) == 1
    assert after != before
    assert caplog.text == ""


def test_a_forked_process_has_a_connection_of_its_own(instance: dg.DagsterInstance, dagster_database_url: str) -> None:
    ask(instance)
    parents = connected(dagster_database_url)
    context = multiprocessing.get_context("fork")
    arrived, go_on = context.Event(), context.Event()

    def child() -> None:
        ask(instance)
        arrived.set()
        go_on.wait(30)

    process = context.Process(target=child)
    process.start()
    assert arrived.wait(30)
    assert set(parents) < set(connected(dagster_database_url))
    go_on.set()
    process.join(30)
    assert process.exitcode == 0
    ask(instance)
    assert parents[0] in connected(dagster_database_url)


def test_the_webserver_keeps_one_connection_too_and_ends_questions_that_take_too_long(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    ask(instance)
    instance.optimize_for_webserver(statement_timeout=1234, pool_recycle=3600, max_overflow=5)
    ask(instance)
    assert len(connected(dagster_database_url)) == 1
    assert isinstance(instance.event_log_storage, BulkEventLogStorage)
    with instance.event_log_storage.index_connection() as conn:
        assert conn.exec_driver_sql("SHOW statement_timeout").scalar_one() == "1234ms"
