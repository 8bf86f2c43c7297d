"""Everything stored around one bar: its values, its parts, who answered for it, what was changed or refused.

Reads only. Lists are capped; `count` beside them is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base, Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime

from .coverage import as_range

_MOST = 10
Row = TypeVar("Row")


@dataclass(frozen=True)
class Listed(Generic[Row]):
    """The newest or nearest rows of `count`."""

    count: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class StoredBar:
    """A row of `bars`, the symbol and timeframe aside. vwap, trades None: unknown."""

    ts: datetime
    session: date
    segment: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trades: int | None
    final: bool
    provider: str


@dataclass(frozen=True)
class Parts:
    """Stored base bars of a stretch and segment: how many, and the starts of the first and last."""

    stored: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class Answered:
    """A row of `coverage`: `start` to `end` was answered. `valid_until` None: for ever."""

    provider: str
    start: datetime
    end: datetime
    settled: bool
    fetched_at: datetime
    valid_until: datetime | None


@dataclass(frozen=True)
class Revised:
    """A bar as it was until `revised_at`. `kind`: restated or withdrawn."""

    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    provider: str
    kind: str
    revised_at: datetime


@dataclass(frozen=True)
class Refused:
    """A row of `quarantine`. `ts`: as the row has it."""

    ts: datetime
    reason: str
    provider: str
    seen_at: datetime
    row: dict[str, Any]


def bar_at(conn: Connection, symbol_id: int, timeframe: Timeframe, ts: int) -> StoredBar | None:
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT ts, session, segment::text, open, high, low, close, volume, vwap, trades, final, provider FROM bars"
            " WHERE symbol_id = %s AND timeframe = %s AND ts = %s",
            (symbol_id, timeframe, to_datetime(ts)),
        )
        row = cursor.fetchone()
    return None if row is None else StoredBar(*row)


def parts_in(conn: Connection, symbol_id: int, base: Base, window: Window) -> Parts:
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), min(ts), max(ts) FROM bars WHERE symbol_id = %s AND timeframe = %s"
            " AND ts >= %s AND ts < %s",
            (symbol_id, base, to_datetime(window.start), to_datetime(window.end)),
        )
        return Parts(*cursor.fetchall()[0])


def answers_about(conn: Connection, symbol_id: int, base: Base, window: Window) -> Listed[Answered]:
    """Answers that share time with `window`, newest first."""
    rows = _newest(
        conn,
        "SELECT count(*) OVER (), provider, lower(time_window), upper(time_window), settled, fetched_at,"
        " nullif(valid_until, 'infinity') FROM coverage"
        " WHERE symbol_id = %s AND timeframe = %s AND time_window && %s::tstzrange ORDER BY fetched_at DESC LIMIT %s",
        (symbol_id, base, as_range(window), _MOST),
    )
    return Listed(_count(rows), tuple(Answered(*row[1:]) for row in rows))


def revisions_in(conn: Connection, symbol_id: int, base: Base, window: Window) -> Listed[Revised]:
    """Base bars of `window` that were changed or withdrawn, newest first."""
    rows = _newest(
        conn,
        "SELECT count(*) OVER (), ts, open, high, low, close, volume, provider, kind, revised_at FROM bar_revisions"
        " WHERE symbol_id = %s AND timeframe = %s AND ts >= %s AND ts < %s ORDER BY revised_at DESC, ts LIMIT %s",
        (symbol_id, base, to_datetime(window.start), to_datetime(window.end), _MOST),
    )
    return Listed(_count(rows), tuple(Revised(*row[1:]) for row in rows))


def refused_in(conn: Connection, symbol_id: int, base: Base, window: Window) -> Listed[Refused]:
    """Refused rows that start in `window`, ascending."""
    rows = _newest(
        conn,
        'SELECT count(*) OVER (), ts, reason, provider, seen_at, "row" FROM quarantine'
        " WHERE symbol_id = %s AND timeframe = %s AND ts >= %s AND ts < %s ORDER BY ts, seen_at LIMIT %s",
        (symbol_id, base, to_datetime(window.start), to_datetime(window.end), _MOST),
    )
    return Listed(_count(rows), tuple(Refused(*row[1:]) for row in rows))


def wanted_stretches(conn: Connection, symbol_id: int, base: Base) -> list[tuple[datetime | None, datetime | None]]:
    """What is wanted, ascending, [start, end) each; None: without that end."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT lower(time_window), upper(time_window) FROM wanted WHERE symbol_id = %s AND timeframe = %s"
            " ORDER BY time_window",
            (symbol_id, base),
        )
        return [tuple(row) for row in cursor.fetchall()]


def _newest(conn: Connection, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    with conn.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def _count(rows: Sequence[tuple[Any, ...]]) -> int:
    return int(rows[0][0]) if rows else 0
