"""`backfill db roles`: who may do what in an external PostgreSQL. What they are is in sql/roles/."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Annotated

import psycopg2
import typer

from backfill_pipeline.database_urls import database_of
from backfill_pipeline.project_files import project_file
from backfill_pipeline.storage.connection import DatabaseError, connect, place, reason
from backfill_pipeline.storage.databases import DAGSTER

from .common import CommandError, dagster_instance, err, out, prepare_environment, settings_of_folder

ROLES = ("owner", "writer", "reader")


def roles(
    prefix: Annotated[str, typer.Option(help="They are called PREFIX_owner, _writer and _reader.")] = "backfill",
    apply: Annotated[bool, typer.Option("--apply", help="Run it, as the roles that the settings' URLs name.")] = False,
) -> None:
    """Print the SQL that makes an owner, a writer and a reader with the least each needs; or run it.

    It may be run again at any time. DATABASE_URL and DAGSTER_DATABASE_URL then name a role that may: a superuser, or
    one with CREATEROLE that owns databases and tables. Passwords are yours to set.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", prefix):
        raise CommandError(f"--prefix {prefix!r}: small letters, digits and _ only, a letter first, 41 at most")
    settings = settings_of_folder()
    if not apply:
        dagster = database_of(settings.dagster_database_url) if settings.dagster_database_url else DAGSTER
        out.print(statements("market", prefix), rf"\connect {dagster}", statements("dagster", prefix), sep="\n")
        return
    if settings.database_url is None:
        raise CommandError(
            "the embedded server lets nobody in but its own user: roles are for a server that DATABASE_URL names"
        )
    environment = prepare_environment(settings)
    with dagster_instance(environment):
        pass  # its tables are made now, by who may
    for part, url in (("market", environment.databases.market_url), ("dagster", environment.databases.dagster_url)):
        _run(url, statements(part, prefix))
        err.print(f"{place(url)}: granted")
    out.print(f"next: give {', '.join(f'{prefix}_{role}' for role in ROLES)} passwords: \\password in psql")


def statements(part: str, prefix: str) -> str:
    """The SQL for the database of market data (`market`) or Dagster's own (`dagster`), with the roles' names in it."""
    text = project_file("sql").joinpath("roles", f"{part}.sql").read_text(encoding="utf-8")
    return re.sub(rf"\bbackfill_({'|'.join(ROLES)})\b", rf"{prefix}_\1", text)


def _run(url: str, text: str) -> None:
    with closing(connect(url)) as conn, conn, conn.cursor() as cursor:
        try:
            cursor.execute(text)
        except psycopg2.Error as error:
            raise DatabaseError(
                f"{place(url)}: {reason(error, url)}; nothing was changed in it: run this as a superuser, or as a role "
                "with CREATEROLE that owns the database and its tables"
            ) from None
