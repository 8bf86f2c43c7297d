"""Databases on the test session's server. Most are copies: making an empty one and migrating it takes twice as long,
making Dagster's tables six times as long, and more than a thousand tests want one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Literal

import psycopg2

from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.server import EmbeddedServer

Kind = Literal["empty", "market", "dagster"]


@contextmanager
def database(server: EmbeddedServer, kind: Kind = "market") -> Iterator[str]:
    """URL (libpq form) of a new database of a random name, dropped in the end whoever is still connected.

    `market` has the project's tables, `dagster` Dagster's, `empty` none.
    """
    name = f"test_{secrets.token_hex(8)}"
    template = "template0" if kind == "empty" else _template(server, kind)
    # A third of the time of the other strategy, which writes it all to the log.
    made = [f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"]
    if kind == "market":
        made.append(f"ALTER DATABASE {name} SET search_path = market, public")  # a database's settings are not copied
    administer(server, *made)
    try:
        yield server.url(name)
    finally:
        administer(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def administer(server: EmbeddedServer, *statements: str) -> None:
    with closing(psycopg2.connect(server.url("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@cache
def _template(server: EmbeddedServer, kind: Literal["market", "dagster"]) -> str:
    """The database to copy, made by whichever worker wants it first."""
    name = f"template_{kind}"
    with closing(psycopg2.connect(server.url("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(2)")
            cursor.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [name])
            if cursor.fetchone() != (False,):  # none, or one that nobody finished
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
                _FILL[kind](server.url(name))
                # Whoever is connected would stop a copy.
                cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
                cursor.execute(ended, [name])
    return name


def _make_dagsters_tables(url: str) -> None:
    # Not at the top: tests of the domain alone would wait for Dagster's import.
    from backfill_pipeline.defs.dagster_storage import PooledRunStorage, PooledScheduleStorage
    from backfill_pipeline.defs.event_log import BulkEventLogStorage

    for storage in (PooledRunStorage, BulkEventLogStorage, PooledScheduleStorage):
        storage(url).dispose()


_FILL: dict[str, Callable[[str], object]] = {"market": migrate, "dagster": _make_dagsters_tables}
