"""The table `quarantine`: refused rows, kept with the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import Refusal
from backfill_pipeline.domain.windows import Window, to_datetime

# How the reason begins for which `set_aside` keeps rows.
WOULD_WITHDRAW = "would withdraw"


def quarantine(
    conn: Connection, symbol_id: int, timeframe: Base, provider: str, refused: Sequence[Refusal], seen_at: datetime
) -> None:
    """Keep refused rows, in the open transaction; a row refused before for the same reason is kept once."""
    rows = [
        (symbol_id, timeframe, _stamp(r.ts), json.dumps(r.row | {"ts": r.ts}), r.reason, provider, seen_at)
        for r in refused
    ]
    with conn.cursor() as cursor:
        execute_values(
            cursor,
            'INSERT INTO quarantine (symbol_id, timeframe, ts, "row", reason, provider, seen_at) VALUES %s'
            " ON CONFLICT DO NOTHING",
            rows,
        )


def set_aside(
    conn: Connection,
    symbol_id: int,
    timeframe: Base,
    provider: str,
    window: Window,
    rows: Sequence[Refusal],
    now: datetime,
) -> None:
    """Keep the rows of an answer about `window` that would withdraw too much, all for that one reason. They take the
    place of those of an earlier such answer; where its reason is the same to the digit, those stay. In the open
    transaction.
    """
    if not rows:
        return
    there = (
        "FROM quarantine WHERE symbol_id = %s AND timeframe = %s AND provider = %s AND ts >= %s AND ts < %s AND reason"
    )
    place = (symbol_id, timeframe, provider, to_datetime(window.start), to_datetime(window.end))
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT {there} = %s)", (*place, rows[0].reason))
        if cursor.fetchall()[0][0]:
            return
        cursor.execute(f"DELETE {there} LIKE %s", (*place, f"{WOULD_WITHDRAW} %"))
    quarantine(conn, symbol_id, timeframe, provider, rows, now)


def _stamp(ts: int) -> datetime | str:
    """A nonsensical row may name a time that no datetime reaches; its jsonb has the number."""
    try:
        return to_datetime(ts)
    except OverflowError:
        return "infinity" if ts > 0 else "-infinity"
