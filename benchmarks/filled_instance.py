"""A Dagster instance with every asset of the intraday chain materialized, and runs of Dagster from a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date

import psycopg2

from backfill_pipeline_tests.shell import Shell

# One symbol's events once more, as a run of another symbol would have written them: 25 runs would take 10 minutes.
_COPY_EVENTS = """
INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
SELECT %(new_run)s, replace(replace(event, %(old_run)s, %(new_run)s), %(old_key)s, %(new_key)s),
       dagster_event_type, timestamp, step_key, asset_key, replace(partition, %(old)s, %(new)s)
FROM event_logs WHERE run_id = %(old_run)s ORDER BY id
"""
_COPY_RUN = """
INSERT INTO runs (run_id, snapshot_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, start_time,
                  end_time)
SELECT %(new_run)s, snapshot_id, pipeline_name, status,
       replace(replace(run_body, %(old_run)s, %(new_run)s), %(old)s, %(new)s), create_timestamp, update_timestamp,
       start_time, end_time
FROM runs WHERE run_id = %(old_run)s
"""
# The newest event of each asset, as `asset_keys` has it.
_NEWEST = """
UPDATE asset_keys SET last_materialization = newest.event, last_run_id = newest.run_id
FROM (SELECT DISTINCT ON (asset_key) asset_key, event, run_id FROM event_logs
      WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY asset_key, id DESC) AS newest
WHERE newest.asset_key = asset_keys.asset_key
"""


def fill(made: Shell, symbols: int, first: date, last: date) -> None:
    """Days `first` to `last`: of the first symbol by a real run of the chain's job, of the others as copies of what it
    wrote.
    """
    names = [f"S{number:02d}" for number in range(symbols)]
    assert made.quick("symbols", "add", *names, "--bars", "1m").returncode == 0
    run(made, chain_command(names[0], first, last))
    with closing(psycopg2.connect(made.variables["DAGSTER_DATABASE_URL"])) as conn:
        _copy(conn, names)


def change(made: Shell, statement: str) -> None:
    """Change something in Dagster's database."""
    with closing(psycopg2.connect(made.variables["DAGSTER_DATABASE_URL"])) as conn, conn, conn.cursor() as cursor:
        cursor.execute(statement)


def chain_command(symbol: str, first: date, last: date) -> list[str]:
    """Dagster's own command for a run of the intraday chain's job over one symbol's days."""
    tags = {
        "dagster/asset_partition_range_start": f"{first}|{symbol}",
        "dagster/asset_partition_range_end": f"{last}|{symbol}",
    }
    job = ["-m", "dagster", "job", "execute", "-m", "backfill_pipeline.definitions", "-j", "backfill_intraday"]
    return [sys.executable, *job, "--tags", json.dumps(tags)]


def run(made: Shell, command: Sequence[str]) -> None:
    """A command in an environment in which bare `dagster …` works; its output is shown only if it fails."""
    exports = made.quick("env").stdout.splitlines()
    variables = dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in exports)
    ran = subprocess.run(command, env=made.environment | variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]


def _copy(conn: psycopg2.extensions.connection, names: list[str]) -> None:
    with conn, conn.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        cursor.execute("SELECT run_id FROM runs")
        old_run = cursor.fetchall()[0][0]
        for number, name in enumerate(names[1:], start=1):
            values = {
                "old_run": old_run,
                "new_run": f"{old_run[:-4]}{number:04d}",
                "old": names[0],
                "new": name,
                "old_key": f'|{names[0]}"',
                "new_key": f'|{name}"',
            }
            cursor.execute(_COPY_RUN, values)
            cursor.execute(_COPY_EVENTS, values)
        cursor.execute(_NEWEST)
    conn.autocommit = True
    conn.cursor().execute("VACUUM (ANALYZE) event_logs")  # autovacuum would, while something is measured
