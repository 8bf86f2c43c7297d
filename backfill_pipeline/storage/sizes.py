"""What takes how much disk: tables with their indexes, and bars and features by timeframe and symbol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

_BIG: tuple[Literal["bars", "features"], ...] = ("bars", "features")


@dataclass(frozen=True)
class TableSize:
    """`bytes`: with indexes, of which `index_bytes`."""

    table: str
    bytes: int
    index_bytes: int


@dataclass(frozen=True)
class Share:
    """Rows of `bars` or `features` of one symbol and timeframe. `bytes`: their part of the table, indexes included."""

    table: str
    symbol: str
    timeframe: str
    rows: int
    bytes: int


def database_bytes(conn: Connection) -> int:
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchall()[0][0])


def table_sizes(conn: Connection) -> list[TableSize]:
    """Every table of schema market, the largest first."""
    with conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, pg_total_relation_size(c.oid), pg_indexes_size(c.oid) FROM pg_class AS c"
            " WHERE c.relnamespace = 'market'::regnamespace AND c.relkind = 'r' ORDER BY 2 DESC, 1"
        )
        return [TableSize(*row) for row in cursor.fetchall()]


def shares(conn: Connection, sizes: Iterable[TableSize]) -> list[Share]:
    """How `bars` and `features` are shared among symbols and timeframes, by counting their rows: rows of one table are
    of about one size. Some 2 s for 10 million rows.
    """
    total = {size.table: size.bytes for size in sizes}
    found = []
    for table in _BIG:
        with conn, conn.cursor() as cursor:
            cursor.execute(
                f"SELECT coalesce(s.symbol, 'symbol ' || b.symbol_id), b.timeframe::text, b.rows FROM"  # noqa: S608  (a constant)
                f" (SELECT symbol_id, timeframe, count(*) AS rows FROM {table} GROUP BY 1, 2) AS b"
                " LEFT JOIN symbols AS s USING (symbol_id) ORDER BY b.timeframe, 1"
            )
            rows = cursor.fetchall()
        everything = sum(count for _, _, count in rows)
        found += [Share(table, name, tf, count, total[table] * count // everything) for name, tf, count in rows]
    return found
