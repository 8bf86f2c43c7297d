"""The table `quarantine`: refused rows, kept with the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import Refusal
from backfill_pipeline.domain.windows import to_datetime


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


def _stamp(ts: int) -> datetime | str:
    """A nonsensical row may name a time that no datetime reaches; its jsonb has the number."""
    try:
        return to_datetime(ts)
    except OverflowError:
        return "infinity" if ts > 0 else "-infinity"
