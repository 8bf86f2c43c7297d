"""Unadjusted daily closes as stored: what other answers are held against."""

from __future__ import annotations

from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.windows import Window, to_datetime


def daily_closes(conn: Connection, symbol_id: int, window: Window) -> dict[date, float]:
    """By session, the close of the daily bars that start in `window` and that an answer vouches for: one that another
    hand has edited is no witness.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, close FROM bars AS b WHERE symbol_id = %s AND timeframe = '1d' AND ts >= %s AND ts < %s"
            " AND EXISTS (SELECT FROM coverage AS c WHERE c.symbol_id = b.symbol_id AND c.timeframe = b.timeframe"
            "  AND c.time_window @> b.ts)",
            (symbol_id, to_datetime(window.start), to_datetime(window.end)),
        )
        return dict(cursor.fetchall())
