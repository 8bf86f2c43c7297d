"""A database that goes away under a command: one line, whichever database and whoever asked it."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg2

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.jobs import hold, open_job
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell

LINE = "backfill: the database went away; what is stored stays, the same command goes on from there"


@contextmanager
def watching(desk: Shell) -> Iterator["subprocess.Popen[str]"]:
    """`backfill status --watch` of a job that goes on as long as we hold it."""
    name = secrets.token_hex(8)
    with closing(connect(desk.variables["DATABASE_URL"])) as conn:
        with conn:
            open_job(conn, name, "shell", datetime.now(UTC))
        hold(conn, name)
        with desk.start("status", name, "--watch") as running:
            assert running.stdout is not None
            assert running.stdout.readline().startswith("queued")  # it looks every second from here on
            yield running
            running.kill()


def test_the_bars_database_goes_away(desk: Shell) -> None:
    with watching(desk) as running:
        ended = desk.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'backfill status'"
        )
        assert ended == [(True,)]
        assert running.communicate(timeout=60)[1].splitlines() == [LINE]
    assert running.returncode == 1


def test_dagsters_database_goes_away(desk: Shell, server: EmbeddedServer) -> None:
    """Its own reads, of which there is one every five seconds, tell of it by other errors."""
    name = urlsplit(desk.variables["DAGSTER_DATABASE_URL"]).path.lstrip("/")
    with (
        watching(desk) as running,
        closing(psycopg2.connect(server.url("postgres"))) as admin,
        admin.cursor() as cursor,
    ):
        admin.autocommit = True
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        began = time.monotonic()
        told = running.communicate(timeout=60)[1]
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert told.splitlines() == [LINE]
    assert (running.returncode, time.monotonic() - began < 45) == (1, True)
