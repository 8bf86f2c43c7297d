"""Which runs workers have taken up: PostgreSQL knows it, on whatever machine a worker was, and when that is gone."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)


def take(conn: Connection, run_id: str) -> bool:
    """Be the one process that begins a run, until the connection closes, however it does. False: another is."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(6, hashtext(%s))", (run_id,))
        return bool(cursor.fetchall()[0][0])


def is_taken(conn: Connection, run_id: str) -> bool:
    """Whether a process has taken the run, and lives."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(6, hashtext(%s))", (run_id,))
        return not cursor.fetchall()[0][0]
