"""Connections to migrated databases, and bars as plain dicts, for the tests of the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.windows import DAY, MINUTE, Window
from backfill_pipeline.storage.bars import StoredBars
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.rows import Key

# 2024-05-06 00:00 UTC.
START = 1_714_953_600_000_000
NOW = datetime(2024, 5, 7, 3, tzinfo=UTC)
KEY = Key(1, "1m", Window(START, START + DAY))

# open, high, low, close, volume, vwap, trades, final
Values = tuple[float, float, float, float, float, float | None, int | None, bool]


@contextmanager
def migrated(url: str) -> Iterator[Connection]:
    migrate(url)
    conn = connect(url)
    try:
        yield conn
    finally:
        conn.close()


def rows(conn: Connection, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    with conn.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return [] if cursor.description is None else cursor.fetchall()


def values(seed: int, *, final: bool = False) -> Values:
    low = 10 + seed % 7
    return low + 1.0, low + 3.0, float(low), low + 2.0, 100.0 + seed, None if seed % 3 == 0 else low + 1.5, seed, final


def as_bars(table: Mapping[int, Values]) -> StoredBars:
    """Bars of the minutes after START that are the keys."""
    minutes = sorted(table)
    columns = list(zip(*(table[minute] for minute in minutes), strict=True)) or [()] * 8
    floats = [np.array([np.nan if v is None else v for v in column], dtype=np.float64) for column in columns[:6]]
    trades = np.array([-1 if v is None else v for v in columns[6]], dtype=np.int64)
    ts = np.array([START + minute * MINUTE for minute in minutes], dtype=np.int64)
    bars = Bars(ts, *floats, trades, np.array(columns[7], dtype=bool))
    days = np.full(len(ts), np.datetime64(date(2024, 5, 6), "D"))
    return StoredBars(bars, days, (np.arange(len(ts)) % 3).astype(np.int8))


def stored(conn: Connection, table: str = "bars") -> dict[int, Values]:
    """What is stored of KEY, in the form that `as_bars` takes."""
    found = rows(
        conn,
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, vwap, trades, final"
        f" FROM {table} WHERE symbol_id = 1 AND timeframe = '1m'",
    )
    return {(row[0] - START) // MINUTE: tuple(row[1:]) for row in found}  # type: ignore[operator, misc]  # a row
