"""How far work has come, seen from the database: bars stored of a range, and who is connected to write more."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime


def count_bars(conn: Connection, symbol_id: int, timeframe: Timeframe, window: Window) -> int:
    """Bars of every segment that start in `window`."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM bars WHERE symbol_id = %s AND timeframe = %s AND ts >= %s AND ts < %s",
            (symbol_id, timeframe, to_datetime(window.start), to_datetime(window.end)),
        )
        return int(cursor.fetchall()[0][0])


def connected_for(conn: Connection) -> list[float]:
    """How long each other warehouse has been open on this database, in seconds. A run has one until it ends, however
    it ends: that of a killed process is gone.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp() - backend_start)::float8 FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'backfill' AND pid <> pg_backend_pid()"
        )
        return [row[0] for row in cursor.fetchall()]


def up_for(conn: Connection) -> float:
    """Seconds since the server let connections in: since its start, or since it recovered from the crash of one of its
    processes, which cuts all connections and starts its checkpointer anew.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp() - greatest(pg_postmaster_start_time(), max(backend_start)"
            " FILTER (WHERE backend_type = 'checkpointer')))::float8 FROM pg_stat_activity"
        )
        return float(cursor.fetchall()[0][0])
