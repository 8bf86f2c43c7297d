"""A database of its own for a benchmark, on an embedded server in a temporary home, with fsync on as for a user."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.server import ensure_running, stop


@contextmanager
def fresh_database(name: str) -> Iterator[str]:
    """URL of an empty database; server and files are gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="backfill-bench-"))
    home.chmod(0o711)  # the server's own user must reach it when root runs this
    try:
        server = ensure_running(home)
        with closing(psycopg2.connect(server.url("postgres"))) as admin:
            admin.autocommit = True
            admin.cursor().execute(f"CREATE DATABASE {name}")
        yield server.url(name)
    finally:
        stop(home)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def market_database() -> Iterator[tuple[str, Connection]]:
    """URL of and a connection to an empty, migrated market database."""
    with fresh_database("bench") as url:
        migrate(url)
        with closing(connect(url)) as conn:
            yield url, conn
