"""Forward-only migrations: `sql/NNN_what.sql`, each applied once, in order, together with its record or not
at all.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS
from psycopg2.extensions import connection as Connection  # noqa: N812  psycopg2's class has a lower-case name

from backfill_pipeline.project_files import project_file
from backfill_pipeline.storage.connection import connect

LOCK_KEY = 0x6261_636B_6669_6C6C  # "backfill"; advisory locks count per database
LOCK_TIMEOUT = "10min"  # longer than any migration of another process should take

CREATE_RECORDS = """
CREATE SCHEMA IF NOT EXISTS market;
CREATE TABLE IF NOT EXISTS market.schema_migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE market.schema_migrations IS 'One row per applied file of sql/.';
"""
OURS_ALONE = """
SELECT current_database(),
       pg_has_role(d.datdba, 'USAGE')
       AND NOT EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)
       AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE c.relkind IN ('r', 'p', 'v')
                       AND n.nspname !~ '^(pg_|information_schema$|market$)')
FROM pg_database d WHERE d.datname = current_database()
"""


class MigrationError(RuntimeError):
    """The files and the database do not fit, or a file fails. The text is one line and names the file."""


def migrate(url: str, folder: Path | None = None) -> list[str]:
    """Apply what is pending of `folder` (default: the project's sql/) and return the names of the files
    applied.

    Several processes may call this at once: one works, the others wait and find nothing to do. A new database
    that holds nothing else also gets market on its search_path, for psql and notebooks. Raises
    MigrationError, and DatabaseError when there is no connection; what was applied before a failing file
    stays.
    """
    files = migration_files(project_file("sql") if folder is None else folder)
    with closing(connect(url, application_name="backfill migrate")) as connection:
        _lock(connection)
        known = applied(connection)
        waiting = pending(connection, files)
        if not known:
            _prepare(connection)
        for file in waiting:
            _apply(connection, file)
    return [file.name for file in waiting]


def migration_files(folder: Path) -> list[Path]:
    """The folder's migrations in order. Raises MigrationError unless they are numbered 001, 002, … without a
    gap.
    """
    files = sorted(folder.glob("*.sql"))
    for number, file in enumerate(files, start=1):
        if not re.fullmatch(r"\d{3}_\w+\.sql", file.name):
            raise MigrationError(f"{file}: a migration is called like 001_what.sql")
        if int(file.name[:3]) != number:
            raise MigrationError(f"{file}: expected number {number:03d} here; migrations are numbered without a gap")
    return files


def applied(connection: Connection) -> dict[str, str]:
    """sha256 of each applied file by its name, in order. Only reads; empty for a new database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('market.schema_migrations') IS NOT NULL")
        if cursor.fetchone() == (True,):
            cursor.execute("SELECT name, sha256 FROM market.schema_migrations ORDER BY name")
            return dict(cursor.fetchall())
    return {}


def pending(connection: Connection, files: Sequence[Path]) -> list[Path]:
    """The files still to apply, in order. Only reads.

    Raises MigrationError when the database is not at an earlier state of exactly these files: one was
    changed, removed or slipped in, or the database is newer than the code.
    """
    records = applied(connection)
    by_name = {file.name: file for file in files}
    newest_file = max(by_name, default="")
    for name, sha256 in records.items():
        if name not in by_name:
            if name > newest_file:
                raise MigrationError(f"{name} is applied and unknown here: the database is newer, update the program")
            raise MigrationError(f"{name} is applied and its file is gone: restore the file")
        if _sha256(by_name[name]) != sha256:
            raise MigrationError(f"{name} was changed after it was applied: restore it, write the change as a new file")
    waiting = [file for file in files if file.name not in records]
    newest_record = max(records, default="")
    for file in waiting:
        if file.name < newest_record:
            raise MigrationError(f"{file.name} comes before {newest_record}, which is applied: give it the next number")
    return waiting


def _lock(connection: Connection) -> None:
    """Take the lock for the whole connection, so that it spans the transactions."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = %s", [LOCK_TIMEOUT])
        try:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        except psycopg2.errors.LockNotAvailable:
            raise MigrationError(f"another process has been migrating for {LOCK_TIMEOUT}: wait and try again") from None
        cursor.execute("RESET lock_timeout")


def _prepare(connection: Connection) -> None:
    with connection, connection.cursor() as cursor:
        try:
            cursor.execute(CREATE_RECORDS)
            cursor.execute(OURS_ALONE)
            database, is_ours_alone = cursor.fetchone() or ("", False)
            if is_ours_alone:
                name = psycopg2.extensions.quote_ident(database, cursor)
                cursor.execute(f"ALTER DATABASE {name} SET search_path = market, public")
        except psycopg2.errors.InsufficientPrivilege as error:
            raise MigrationError(
                f"the role may not create schema market ({_first_line(error)}): GRANT CREATE ON DATABASE"
            ) from None


def _apply(connection: Connection, file: Path) -> None:
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(file.read_text(encoding="utf-8"))
            if connection.info.transaction_status != TRANSACTION_STATUS_INTRANS:
                raise MigrationError(f"{file.name} ends the transaction itself: take COMMIT and ROLLBACK out of it")
            cursor.execute(
                "INSERT INTO market.schema_migrations (name, sha256) VALUES (%s, %s)",
                [file.name, _sha256(file)],
            )
    except psycopg2.errors.InsufficientPrivilege as error:
        role = connection.info.user
        raise MigrationError(
            f"{file.name} is not applied yet, and role {role} may not ({_first_line(error)}): "
            "run `backfill db migrate` as the tables' owner"
        ) from None
    except psycopg2.Error as error:
        where = f", line {_line(file, error)}" if error.diag.statement_position else ""
        raise MigrationError(f"{file.name}{where}: {_first_line(error)}") from None


def _line(file: Path, error: psycopg2.Error) -> int:
    before = int(error.diag.statement_position or 0)
    return file.read_text(encoding="utf-8")[:before].count("\n") + 1


def _first_line(error: psycopg2.Error) -> str:
    return str(error.diag.message_primary or error).strip().splitlines()[0]


def _sha256(file: Path) -> str:
    """Of the text, with line ends as in the repository: a checkout on Windows has others."""
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
