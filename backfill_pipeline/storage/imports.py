"""What the tables know of imported files: providers called `import:NAME`, which nobody can ask."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window, to_micros

from .coverage import as_range

PREFIX = "import:"


def imports_served(conn: Connection, symbol_id: int, timeframe: Base) -> list[tuple[str, Window, str]]:
    """Of every import of the symbol: provider, from its first to its last session, and a word on it for people."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT provider, lower(time_window), upper(time_window), reason FROM served"
            " WHERE symbol_id = %s AND timeframe = %s AND starts_with(provider, %s)",
            (symbol_id, timeframe, PREFIX),
        )
        return [(name, Window(to_micros(low), to_micros(high)), why) for name, low, high, why in cursor.fetchall()]


def record_import(conn: Connection, symbol_id: int, timeframe: Base, provider: str, window: Window) -> None:
    """What was imported can be had, whatever other providers have. In the open transaction."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO served AS s (symbol_id, timeframe, provider, time_window, reason) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (symbol_id, timeframe, provider) DO UPDATE SET"
            " time_window = range_merge(s.time_window, excluded.time_window)"
            " WHERE NOT s.time_window @> excluded.time_window",
            (symbol_id, timeframe, provider, as_range(window), f"{provider} has what was imported"),
        )
