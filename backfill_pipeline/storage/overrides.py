"""The table `calendar_overrides`: days that a calendar calls sessions and that are none. What is only assumed is in
closures.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.closures import UNCONFIRMED
from backfill_pipeline.domain.windows import Window

from .coverage import as_range


@dataclass(frozen=True)
class Override:
    """A row of the table."""

    calendar: str
    session: date
    kind: str
    note: str
    added_at: datetime


def list_overrides(conn: Connection) -> list[Override]:
    """Every day, the newest of each calendar first."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT calendar, session, kind, note, added_at FROM calendar_overrides ORDER BY calendar, session DESC"
        )
        return [Override(*row) for row in cursor.fetchall()]


def symbols_with_bars(conn: Connection, calendar: str, window: Window) -> list[str]:
    """The calendar's symbols of which base bars start in `window`."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT symbol FROM symbols AS y WHERE calendar = %(calendar)s AND EXISTS (SELECT FROM bars AS b"
            " WHERE b.symbol_id = y.symbol_id AND b.timeframe = ANY('{1m,1d}'::timeframe[])"
            " AND b.ts >= lower(%(window)s::tstzrange) AND b.ts < upper(%(window)s::tstzrange)) ORDER BY symbol",
            {"calendar": calendar, "window": as_range(window)},
        )
        return [row[0] for row in cursor.fetchall()]


def closed_days(conn: Connection, calendar: str) -> dict[date, str]:
    """By day of `calendar` that was closed by hand, the note."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, note FROM calendar_overrides WHERE calendar = %s AND kind = 'closed' ORDER BY session",
            (calendar,),
        )
        return dict(cursor.fetchall())


def close_day(conn: Connection, calendar: str, day: date, note: str, now: datetime) -> int:
    """There is no trading on `day`. Its open gaps are closed, its statuses forgotten; in the open transaction. Returns
    how many gaps that were.

    Later processes build the calendar without it; what is wanted, and bars that somebody stored, stay.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO calendar_overrides (calendar, session, kind, note, added_at) VALUES (%s, %s, 'closed', %s, %s)"
            " ON CONFLICT (calendar, session) DO UPDATE"
            " SET kind = 'closed', note = excluded.note, next_attempt_at = NULL",
            (calendar, day, note, now),
        )
        cursor.execute(
            "UPDATE gaps AS g SET resolved_at = %s, resolution = 'closed by override' FROM symbols AS y, sessions AS s"
            " WHERE g.symbol_id = y.symbol_id AND y.calendar = %s AND g.resolved_at IS NULL"
            " AND s.calendar = y.calendar AND s.session = %s"
            " AND g.time_window && tstzrange(s.day_start, s.day_end)",
            (now, calendar, day),
        )
        closed: int = cursor.rowcount
        cursor.execute(
            "DELETE FROM session_status AS t USING symbols AS y"
            " WHERE t.symbol_id = y.symbol_id AND y.calendar = %s AND t.session = %s",
            (calendar, day),
        )
    return closed


def reopen_day(conn: Connection, calendar: str, day: date) -> bool:
    """Trust the calendar about `day` again, in the open transaction. False: it was not closed.

    One that was only taken as closed stays open from now on, however silent it is; its statuses are forgotten.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "DELETE FROM calendar_overrides WHERE calendar = %s AND session = %s AND kind = 'closed'", (calendar, day)
        )
        if cursor.rowcount:
            return True
        cursor.execute(
            "UPDATE calendar_overrides SET kind = 'open', next_attempt_at = NULL"
            " WHERE calendar = %s AND session = %s AND kind = 'unconfirmed'",
            (calendar, day),
        )
        if not cursor.rowcount:
            return False
        cursor.execute(
            "DELETE FROM session_status AS t USING symbols AS y WHERE t.symbol_id = y.symbol_id AND y.calendar = %s"
            " AND t.session = %s AND t.explained ? %s",
            (calendar, day, UNCONFIRMED),
        )
    return True
