"""The table `looks`: when everything stored was last held against what was written. And what statuses there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base

from .look import Scope


@dataclass(frozen=True)
class Look:
    """A complete look at every followed symbol. `found`: sessions by what was wrong with them; empty for nothing."""

    looked_at: datetime
    sessions: int
    found: Mapping[str, int]


def record_look(conn: Connection, at: datetime, sessions: int, found: Mapping[str, int]) -> None:
    """In the open transaction."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO looks (looked_at, sessions, found) VALUES (%s, %s, %s) ON CONFLICT (looked_at)"
            " DO UPDATE SET sessions = excluded.sessions, found = excluded.found",
            (at, sessions, json.dumps(found)),
        )


def last_look(conn: Connection) -> Look | None:
    """The newest complete look; None: there was none yet."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT looked_at, sessions, found FROM looks ORDER BY looked_at DESC LIMIT 1")
        row = cursor.fetchone()
    return None if row is None else Look(*row)


def count_statuses(conn: Connection, scope: Scope) -> int:
    """Sessions of followed symbols that a look of this scope is about."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM session_status AS t JOIN symbols AS y USING (symbol_id) WHERE y.active"
            " AND (%(since)s IS NULL OR t.checked_at >= %(since)s)"
            " AND (%(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s))",
            {"ids": None if scope.ids is None else list(scope.ids), "since": scope.since},
        )
        return int(cursor.fetchall()[0][0])


def known_sessions(conn: Connection, symbol_id: int, timeframe: Base) -> dict[date, int]:
    """By session that was looked at, ascending, the base bars that it lacks."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, missing FROM session_status WHERE symbol_id = %s AND timeframe = %s ORDER BY session",
            (symbol_id, timeframe),
        )
        return dict(cursor.fetchall())
