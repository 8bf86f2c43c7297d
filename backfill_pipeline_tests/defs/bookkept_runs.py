"""What the bookkeeping tests share: an instance as users have it, runs through several doors, colours."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from backfill_pipeline.database_urls import sqlalchemy_url
from backfill_pipeline.defs.event_log import BATCH_VARIABLE
from backfill_pipeline_tests.defs.bookkept_chain import ASSETS, KEYS, partitions

ROOT = Path(__file__).parents[2]
CHAIN_FILE = str(Path(__file__).with_name("bookkept_chain.py"))


@contextmanager
def users_instance(home: Path, database_url: str, batch_size: str | None = None) -> Iterator[dg.DagsterInstance]:
    """The instance that the project's own dagster.yaml describes, with the symbol AAPL.

    Unless `batch_size` is given, the environment says nothing of batches, whatever another test left there.
    """
    shutil.copy(ROOT / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv(BATCH_VARIABLE, raising=False)
        if batch_size is not None:
            environment.setenv(BATCH_VARIABLE, batch_size)
        environment.setenv("DAGSTER_DATABASE_URL", sqlalchemy_url(database_url))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.add_dynamic_partitions("bookkept_symbol", ["AAPL"])
            yield instance


def job_execute(instance: dg.DagsterInstance, job: str, tags: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`dagster job execute` in a shell that knows DAGSTER_HOME and the database, nothing else of Dagster."""
    environment = {name: value for name, value in os.environ.items() if name != BATCH_VARIABLE}
    environment |= {"DAGSTER_HOME": instance.root_directory, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", CHAIN_FILE, "-j", job]
    return subprocess.run(
        [*command, "--tags", json.dumps(tags)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def colours(instance: dg.DagsterInstance, asset: str) -> dict[str, str]:
    """Key → MATERIALIZED, FAILED or IN_PROGRESS of the keys that have a colour in Dagster's UI.

    Asked twice, of the status cache as it is and of one built anew: both must agree.
    """
    key = dg.AssetKey(asset)
    cached = instance.get_status_by_partition(key, KEYS, partitions)
    instance.event_log_storage.wipe_asset_cached_status(key)
    anew = instance.get_status_by_partition(key, KEYS, partitions)
    assert cached == anew
    return {str(name): status.value for name, status in (anew or {}).items() if status}


def expected(*, green: list[str], red: list[str] | None = None, busy: list[str] | None = None) -> dict[str, str]:
    return (
        dict.fromkeys(green, "MATERIALIZED")
        | dict.fromkeys(red or [], "FAILED")
        | dict.fromkeys(busy or [], "IN_PROGRESS")
    )


def all_colours(instance: dg.DagsterInstance) -> list[dict[str, str]]:
    return [colours(instance, asset) for asset in ASSETS]


def query(database_url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows
