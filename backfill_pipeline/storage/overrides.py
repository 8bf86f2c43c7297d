"""The table `calendar_overrides`: days that a calendar calls sessions and that are none."""

from __future__ import annotations

from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)


def closed_days(conn: Connection, calendar: str) -> dict[date, str]:
    """By day of `calendar` that was closed by hand, the note."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT session, note FROM calendar_overrides WHERE calendar = %s ORDER BY session", (calendar,))
        return dict(cursor.fetchall())


def close_day(conn: Connection, calendar: str, day: date, note: str, now: datetime) -> None:
    """There is no trading on `day`. Its open gaps are closed, its statuses forgotten; in the open transaction.

    Later processes build the calendar without it; what is wanted, and bars that somebody stored, stay.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO calendar_overrides (calendar, session, kind, note, added_at) VALUES (%s, %s, 'closed', %s, %s)"
            " ON CONFLICT (calendar, session) DO UPDATE SET note = excluded.note",
            (calendar, day, note, now),
        )
        cursor.execute(
            "UPDATE gaps AS g SET resolved_at = %s, resolution = 'closed by override' FROM symbols AS y, sessions AS s"
            " WHERE g.symbol_id = y.symbol_id AND y.calendar = %s AND g.resolved_at IS NULL"
            " AND s.calendar = y.calendar AND s.session = %s"
            " AND g.time_window && tstzrange(s.day_start, s.day_end)",
            (now, calendar, day),
        )
        cursor.execute(
            "DELETE FROM session_status AS t USING symbols AS y"
            " WHERE t.symbol_id = y.symbol_id AND y.calendar = %s AND t.session = %s",
            (calendar, day),
        )


def reopen_day(conn: Connection, calendar: str, day: date) -> bool:
    """Trust the calendar about `day` again, in the open transaction. False: it was not closed by hand."""
    with conn.cursor() as cursor:
        cursor.execute("DELETE FROM calendar_overrides WHERE calendar = %s AND session = %s", (calendar, day))
        return bool(cursor.rowcount)
