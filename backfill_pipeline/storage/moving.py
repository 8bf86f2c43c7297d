"""Copies the tables of a schema from one database to another, over two connections and nothing else: no dump program,
no file. Which databases, and what is said about it, is decided elsewhere.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from .connection import DatabaseError, connect, place, reason

# What a database holds from the start: written by migrations, or by Dagster when it makes its tables.
_FROM_THE_START = (
    *("schema_migrations", "alembic_version", "secondary_indexes", "instance_info", "kvs"),
    *("asset_daemon_asset_evaluations", "daemon_heartbeats"),
)
# As long as a vacuum of the server takes to give way; whoever writes is not waited for.
_LOCK_TIMEOUT = "10s"
# So that a row's text is the same on both sides, whatever the servers are set to. Bytes, for the network.
_SAME_TEXT = (
    "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'"
)


@dataclass(frozen=True)
class Copied:
    """One table that is the same on both sides. `rows`: counted on both."""

    table: str
    rows: int


def refuse_filled(url: str, but: Connection) -> None:
    """Raises DatabaseError if the database of `url` cannot be had, holds any row, or is the one that `but` is in."""
    with closing(connect(url)) as conn, conn, conn.cursor() as cursor:
        key = secrets.randbits(62)
        with but, but.cursor() as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (key,))
            if cursor.fetchone() != (True,):  # such locks count per database
                raise DatabaseError(f"{place(url)}: is where the data are already; name another database")
        filled = [name for schema, name in _all_tables(conn) if _holds_rows(conn, schema, name)]
        if filled:
            more = f" and {len(filled) - 1} more tables" if filled[1:] else ""
            raise DatabaseError(
                f"{place(url)}: is not empty, {filled[0]}{more} hold rows; make an empty one: CREATE DATABASE …"
            )


def _all_tables(conn: Connection) -> list[tuple[str, str]]:
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema$)' AND NOT c.relname = ANY(%s)"
            " ORDER BY 1, 2",
            (list(_FROM_THE_START),),
        )
        return cursor.fetchall()


def _holds_rows(conn: Connection, schema: str, table: str) -> bool:
    with conn.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table)))
        return cursor.fetchone() == (True,)


@contextmanager
def copying(source_url: str, target_url: str, schema: str, skip: Collection[str] = ()) -> Iterator[Iterator[Copied]]:
    """Copies every table of `schema` that the target has, but `skip`, as they are taken from what this yields.

    One transaction of the target, ended with the block: all tables are there then, or after an error none. The source's
    are locked against writing meanwhile. Raises DatabaseError, one line.
    """
    with closing(connect(source_url)) as source, closing(connect(target_url)) as target:
        try:
            with source, target:
                tables = _ordered(target, schema, skip)
                _lock(source, schema, tables, "SHARE")
                _lock(target, schema, tables, "ACCESS EXCLUSIVE")
                with target.cursor() as cursor:
                    names = sql.SQL(", ").join(sql.Identifier(schema, table) for table in tables)
                    cursor.execute(sql.SQL("TRUNCATE {}").format(names))  # what was there from the start
                yield (_copy_table(source, target, schema, table) for table in tables)
        except psycopg2.errors.LockNotAvailable:
            raise DatabaseError(
                f"{place(source_url)}: somebody writes to it; nothing was moved: stop the runs and `backfill ui`"
            ) from None
        except psycopg2.Error as error:
            raise DatabaseError(f"{place(target_url)}: {reason(error, target_url)}; nothing was moved") from None


def _ordered(conn: Connection, schema: str, skip: Collection[str]) -> list[str]:
    """The tables of a schema, those before others that refer to them."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, array(SELECT f.confrelid::regclass::oid FROM pg_constraint AS f WHERE f.conrelid = c.oid"
            " AND f.contype = 'f' AND f.confrelid <> c.oid), c.oid FROM pg_class AS c"
            " WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND NOT c.relname = ANY(%s) ORDER BY 1",
            (schema, list(skip)),
        )
        found = cursor.fetchall()
    return [
        name
        for oid in TopologicalSorter({oid: list(refers) for _, refers, oid in found}).static_order()
        for name, _, its in found
        if its == oid
    ]


def _lock(conn: Connection, schema: str, tables: Sequence[str], mode: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute(_SAME_TEXT)
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        names = sql.SQL(", ").join(sql.Identifier(schema, table) for table in tables)
        cursor.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(names, sql.SQL(mode)))


def _copy_table(source: Connection, target: Connection, schema: str, table: str) -> Copied:
    columns = _columns(source, schema, table)
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    name = sql.Identifier(schema, table)
    read = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT binary)").format(name, listed)
    write = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(name, listed)
    ends = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read_into, source, read, ends[1])
        with os.fdopen(ends[0], "rb") as stream, target.cursor() as cursor:
            cursor.copy_expert(write, stream)
        reading.result()  # a stream that was cut short looks complete to the target
        for sequence, value, called in _sequences(source, schema, table, columns):
            with target.cursor() as cursor:
                cursor.execute("SELECT setval(%s, %s, %s)", (sequence, value, called))
        theirs = pool.submit(_sum, source, name, listed)
        mine, expected = _sum(target, name, listed), theirs.result()
    if mine != expected:
        what = "other values" if mine[0] == expected[0] else f"{mine[0]:,} rows"
        raise DatabaseError(f"{table}: {expected[0]:,} rows arrived as {what}; nothing was moved")
    return Copied(table, mine[0])


def _read_into(source: Connection, read: sql.Composable, end: int) -> None:
    with os.fdopen(end, "wb") as stream, source.cursor() as cursor:
        cursor.copy_expert(read, stream)


def _columns(conn: Connection, schema: str, table: str) -> list[str]:
    """Those that are stored, and not generated from others."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass"
            " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            (schema, table),
        )
        return [row[0] for row in cursor.fetchall()]


def _sequences(conn: Connection, schema: str, table: str, columns: Sequence[str]) -> list[tuple[str, int, bool]]:
    """Sequences of identity and serial columns: name, last value, and whether it was used."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT s FROM unnest(%s) AS c, pg_get_serial_sequence(format('%%I.%%I', %s::text, %s::text), c) AS s"
            " WHERE s IS NOT NULL",
            (list(columns), schema, table),
        )
        names = [row[0] for row in cursor.fetchall()]
        found = []
        for name in names:
            cursor.execute(f"SELECT last_value, is_called FROM {name}")  # noqa: S608  (quoted by the server)
            found.append((name, *cursor.fetchall()[0]))
    return found


def _sum(conn: Connection, name: sql.Composable, columns: sql.Composable) -> tuple[int, str]:
    """Number of rows, and the sum of 60 bits of each row's md5: the same in whatever order rows lie."""
    with conn.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(('x' || left(md5(ROW({})::text), 15))::bit(60)::bigint), 0)::text"
                " FROM {}"
            ).format(columns, name)
        )
        rows, total = cursor.fetchall()[0]
        return int(rows), str(total)
