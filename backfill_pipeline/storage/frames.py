"""Bulk reads for people: whole columns of bars and features by symbol, for pandas."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL, Composable, Identifier, Literal

from backfill_pipeline.domain.feature_list import FEATURES
from backfill_pipeline.domain.sessions import Segment
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime

from .copying import Kind, NativeColumns, wire_rows

Columns = dict[str, npt.NDArray[np.generic]]

_BARS: tuple[tuple[str, Kind, str], ...] = (
    ("ts", "timestamptz", "ts"),
    ("session", "date", "session"),
    ("open", "float8", "open"),
    ("high", "float8", "high"),
    ("low", "float8", "low"),
    ("close", "float8", "close"),
    ("volume", "float8", "volume"),
    ("vwap", "float8", "coalesce(vwap, 'NaN')"),
    ("trades", "int4", "coalesce(trades, -1)"),
    ("final", "bool", "final"),
)


class Read(NamedTuple):
    """What was read of several symbols: columns of all of them, and which rows are each one's."""

    columns: Columns
    parts: list[slice]


def bar_columns(
    conn: Connection, wanted: Sequence[tuple[int, Window]], timeframe: Timeframe, segment: Segment | None
) -> Read:
    """The bars that start in the window of each symbol_id of `wanted`, ascending; of one segment, or of all (None).

    ts: int64 microseconds UTC; session: datetime64[D]; vwap NaN and trades -1 where unknown.
    """
    condition = SQL("") if segment is None else SQL(" AND segment = {}").format(Literal(segment))
    return _read(conn, "bars", _BARS, wanted, timeframe, condition)


def feature_columns(conn: Connection, wanted: Sequence[tuple[int, Window]], timeframe: Timeframe) -> Read:
    """The features of the bars that start in the window of each symbol_id of `wanted`, ascending; NaN for NULL."""
    columns: list[tuple[str, Kind, str]] = [("ts", "timestamptz", "ts")]
    columns += [(feature.name, "float8", f"coalesce({feature.name}, 'NaN')") for feature in FEATURES]
    return _read(conn, "features", columns, wanted, timeframe, SQL(""))


def closes_before(
    conn: Connection, symbol_id: int, spans: Sequence[tuple[date, Window]]
) -> dict[date, tuple[date, float]]:
    """By date of `spans`, the newest session with a close in the window that stands before it, and that close,
    unadjusted: the daily bar's, else the last regular minute's. Dates without any are left out.
    """
    asked = {
        "id": symbol_id,
        "days": [day for day, _ in spans],
        "lows": [to_datetime(window.start) for _, window in spans],
        "highs": [to_datetime(window.end) for _, window in spans],
    }
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT e.day, b.session, b.close FROM unnest(%(days)s::date[], %(lows)s::timestamptz[],"
            " %(highs)s::timestamptz[]) AS e (day, low, high) CROSS JOIN LATERAL ("
            "  (SELECT session, close, 2 AS rank FROM bars WHERE symbol_id = %(id)s AND timeframe = '1d'"
            "   AND ts >= e.low AND ts < e.high ORDER BY ts DESC LIMIT 1)"
            "  UNION ALL"
            "  (SELECT session, close, 1 FROM bars WHERE symbol_id = %(id)s AND timeframe = '1m'"
            "   AND ts >= e.low AND ts < e.high AND segment = 'regular' ORDER BY ts DESC LIMIT 1)"
            "  ORDER BY session DESC, rank DESC LIMIT 1) AS b",
            asked,
        )
        return {day: (session, close) for day, session, close in cursor.fetchall()}


def _read(
    conn: Connection,
    table: str,
    columns: Sequence[tuple[str, Kind, str]],
    wanted: Sequence[tuple[int, Window]],
    timeframe: Timeframe,
    condition: Composable,
) -> Read:
    kinds = [(name, kind) for name, kind, _ in columns]
    found = NativeColumns(kinds, len(wanted))
    parts = []
    # One symbol's rows are brought into this machine's form while the next one's come in.
    with ThreadPoolExecutor(1) as decoder:
        for symbol_id, window in wanted:
            query = SQL(
                "SELECT {} FROM {} WHERE symbol_id = {} AND timeframe = {} AND ts >= {} AND ts < {}{} ORDER BY ts"
            ).format(
                SQL(", ").join(SQL(expression) for _, _, expression in columns),
                Identifier(table),
                Literal(symbol_id),
                Literal(timeframe),
                Literal(to_datetime(window.start)),
                Literal(to_datetime(window.end)),
                condition,
            )
            parts.append(decoder.submit(found.append, wire_rows(conn, query, kinds)))
    return Read(found.columns(), [part.result() for part in parts])
