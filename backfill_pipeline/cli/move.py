"""`backfill db move-to`: everything stored into another PostgreSQL, as from the embedded server to a team's own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Annotated

import typer
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.database_urls import canonical_url, redacted_url, sqlalchemy_url, with_database
from backfill_pipeline.storage.connection import DatabaseError, connect
from backfill_pipeline.storage.databases import DAGSTER
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.moving import Copied, copying, refuse_filled
from backfill_pipeline.storage.progress import connected_for

from .common import CommandError, Environment, counted, err, out, prepare_environment, settings_of_folder


def move_to(
    url: Annotated[str, typer.Argument(help="postgresql://user@host:5432/market: an empty database, 15 or newer.")],
    dagster_url: Annotated[
        str | None, typer.Option(help="Another empty one, for Dagster's history; default: it stays behind.")
    ] = None,
) -> None:
    """Copy everything stored into another PostgreSQL, compare it, and print what to put into .env.

    Nothing is removed here, and nothing half-copied stays there. A password need not be in the URL: PGPASSWORD and
    ~/.pgpass are heeded. No run may be at work; stop `backfill ui`, too.
    """
    target, dagster_target = _checked("URL", url), dagster_url and _checked("--dagster-url", dagster_url)
    began, environment = time.monotonic(), prepare_environment(settings_of_folder())
    databases = environment.databases
    with closing(connect(databases.market_url)) as market:
        if _is_busy(market):
            raise CommandError("a run is at work, or another command; nothing was moved: try again when it is over")
        with _told_of("URL"):
            refuse_filled(target, market)
        if dagster_target:
            with closing(connect(databases.dagster_url)) as dagster, _told_of("--dagster-url"):
                refuse_filled(dagster_target, dagster)
    with _told_of("URL"), ExitStack() as together:
        migrate(target)
        copies = [together.enter_context(copying(databases.market_url, target, "market", skip=("schema_migrations",)))]
        if dagster_target:
            _make_dagster_tables(environment, dagster_target)
            copies.append(together.enter_context(copying(databases.dagster_url, dagster_target, "public")))
        rows = sum(_show(table) for copy in copies for table in copy)
    out.print(f"{counted(rows, 'row')} moved and compared in {time.monotonic() - began:.1f} s; put into .env:")
    _tell(environment, target, dagster_target)


def _is_busy(market: Connection) -> bool:
    """Whether others stay connected: the server lists who has just left for some milliseconds more."""
    deadline = time.monotonic() + 2
    while there := connected_for(market):
        market.rollback()
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    market.rollback()
    return bool(there)


def _checked(name: str, url: str) -> str:
    try:
        return canonical_url(url)
    except ValueError as error:
        raise CommandError(f"{name} ({redacted_url(url)}) {error}") from None


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """Errors about a connection name the argument, and not the setting that it is going to be."""
    try:
        yield
    except DatabaseError as error:
        raise CommandError(str(error).replace("DATABASE_URL", name)) from None


def _show(table: Copied) -> int:
    if table.rows:
        err.print(f"{table.table}: {counted(table.rows, 'row')}")
    return table.rows


def _make_dagster_tables(environment: Environment, url: str) -> None:
    """As Dagster does by itself when it first opens a database."""
    import dagster as dg

    before = os.environ["DAGSTER_DATABASE_URL"]
    os.environ["DAGSTER_DATABASE_URL"] = sqlalchemy_url(url)
    try:
        dg.DagsterInstance.from_config(environment.variables["DAGSTER_HOME"]).dispose()
    finally:
        os.environ["DAGSTER_DATABASE_URL"] = before


def _tell(environment: Environment, target: str, dagster_target: str | None) -> None:
    kept = environment.settings.dagster_database_url
    dagster = dagster_target or kept or with_database(target, DAGSTER)
    out.print(f"DATABASE_URL={redacted_url(target)}")
    out.print(f"DAGSTER_DATABASE_URL={redacted_url(dagster)}")
    if "***" in redacted_url(target) + redacted_url(dagster):
        out.print("with the passwords in place of ***")
    if not (dagster_target or kept):
        out.print(
            "Dagster's history of runs stays behind; after that is in .env, `backfill reconcile` marks partitions anew"
        )
    if environment.databases.embedded:
        out.print(f"the old data stay in {environment.databases.home / 'postgres'} until you delete them")
