"""Unadjusted daily closes as stored: what other answers are held against."""

from __future__ import annotations

from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.windows import Window, to_datetime


def daily_closes(conn: Connection, symbol_id: int, window: Window) -> dict[date, float]:
    """By session, the close of the daily bars that start in `window`."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, close FROM bars WHERE symbol_id = %s AND timeframe = '1d' AND ts >= %s AND ts < %s",
            (symbol_id, to_datetime(window.start), to_datetime(window.end)),
        )
        return dict(cursor.fetchall())
