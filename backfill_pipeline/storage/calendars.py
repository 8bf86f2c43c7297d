"""The table `sessions`, filled from the calendars so that SQL can count."""

from __future__ import annotations

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL

from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.windows import MINUTE

from .copying import Column, copy_in

_TIMES = ("day_start", "day_end", "pre_open", "open", "break_start", "break_end", "close", "post_close")


def store_sessions(conn: Connection, sessions: Sessions) -> int:
    """Make the calendar's stored sessions those of `sessions`, unless they say the same already (and maybe more, later
    on). Rows written; commits.
    """
    with conn:
        return put_sessions(conn, sessions)


def put_sessions(conn: Connection, sessions: Sessions) -> int:
    """The same in the open transaction, under a lock, so several processes may do it at once."""
    minutes = int(((sessions.close - sessions.open) // MINUTE).sum()), int(sessions.expected_1m.sum())
    with conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(3, hashtext(%s))", (sessions.calendar,))
        cursor.execute(
            "SELECT count(*), sum(extract(epoch FROM close - open))::bigint / 60, sum(expected_1m), max(session)"
            " FROM sessions WHERE calendar = %s AND session <= %s",
            (sessions.calendar, sessions.session[-1].astype(object)),
        )
        if cursor.fetchone() == (len(sessions), *minutes, sessions.session[-1].astype(object)):
            return 0
        cursor.execute("DELETE FROM sessions WHERE calendar = %s", (sessions.calendar,))
        columns = [
            ("calendar", Column("text", sessions.calendar)),
            ("session", Column("date", sessions.session)),
            *((name, Column("timestamptz", getattr(sessions, name))) for name in _TIMES),
            ("expected_1m", Column("int4", sessions.expected_1m.astype(np.int32))),
        ]
        names = SQL(", ").join(SQL(name) for name, _ in columns)
        copy_in(
            conn,
            SQL("COPY sessions ({}) FROM STDIN (FORMAT binary)").format(names),
            [column for _, column in columns],
            len(sessions),
        )
    return len(sessions)
