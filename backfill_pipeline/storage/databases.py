"""Which databases this project works in: those of the settings, or the embedded server's. Made and migrated
here.
"""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
from psycopg2.extensions import quote_ident

from backfill_pipeline.database_urls import database_of, with_database
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.connection import DatabaseError, connect, place, reason
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.server import ensure_running, reachable_home

__all__ = ["DatabaseError", "Databases", "connect", "open_databases", "open_market"]

MARKET, DAGSTER, MAINTENANCE = "market", "dagster", "postgres"


@dataclass(frozen=True)
class Databases:
    """URLs in libpq's form of the market data and of Dagster's own tables; `home` is where the home really
    is.

    `embedded`: the market data are in the embedded server of that home. `notice`: a line to tell the user, if
    any.
    """

    market_url: str = field(repr=False)
    dagster_url: str = field(repr=False)
    embedded: bool
    home: Path
    notice: str | None = None


def open_databases(settings: Settings, *, sql_folder: Path | None = None) -> Databases:
    """Have both databases up, existing, and the market one migrated. Any number of processes may call this at
    once.

    Without DATABASE_URL the embedded server of the home is started; with one that server's databases are
    used, and made if its role may. `sql_folder` is for tests. Raises DatabaseError, MigrationError,
    ServerError, each one line.
    """
    embedded = settings.database_url is None
    # Only the embedded server's own user has to reach the home.
    home, notice = reachable_home(settings.home) if embedded else (settings.home, None)
    market_url = open_market(settings, sql_folder=sql_folder)
    dagster_url = settings.dagster_database_url or with_database(market_url, DAGSTER)
    via = with_database(dagster_url, MAINTENANCE) if settings.dagster_database_url else market_url
    _ensure_database(dagster_url, via, "DAGSTER_DATABASE_URL")
    return Databases(market_url, dagster_url, embedded, home, notice)


def open_market(settings: Settings, *, sql_folder: Path | None = None) -> str:
    """The market data's database alone, as `open_databases` has it: its URL. Who only reads may not enter Dagster's."""
    url = settings.database_url or ensure_running(reachable_home(settings.home)[0]).url(MARKET)
    _ensure_database(url, with_database(url, MAINTENANCE), "DATABASE_URL")
    migrate(url, sql_folder)
    return url


def _ensure_database(url: str, via: str, variable: str) -> None:
    """Create the database, connected to another one, if there is none of that name; several may try at once."""
    try:
        connect(url).close()
    except DatabaseError as error:
        if f'database "{database_of(url)}" does not exist' not in str(error):
            raise DatabaseError(str(error).replace("DATABASE_URL", variable)) from None
        _create_database(url, via, variable)


def _create_database(url: str, via: str, variable: str) -> None:
    try:
        with closing(connect(via)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                name = quote_ident(database_of(url), cursor)
                # template0: nobody can be connected to it, which would stop the copy.
                cursor.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
        return  # another process was first
    except (psycopg2.Error, DatabaseError) as error:
        why = reason(error, url) if isinstance(error, psycopg2.Error) else str(error).partition("; ")[0]
        raise DatabaseError(f"{place(url)}: does not exist, and {why}; create it, or set {variable}") from None
