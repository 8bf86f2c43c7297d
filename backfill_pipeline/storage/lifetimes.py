"""What the tables say of instruments that may have ended, and making them say what a lifetime explains."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.closures import FEWEST, UNCONFIRMED
from backfill_pipeline.domain.timeframe import Base

# Statuses that tell neither of trade nor of its absence.
_SAY_NOTHING = ["not_due", "not_listed", UNCONFIRMED]


def known_sessions(conn: Connection, symbol_id: int, before: date, count: int) -> list[tuple[date, bool]]:
    """The newest `count` sessions before `before` that were answered, ascending, and whether there is any bar."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, sum(stored) > 0 FROM session_status WHERE symbol_id = %s AND session < %s"
            " AND NOT explained ?| %s AND (stored > 0 OR missing > 0) GROUP BY session ORDER BY session DESC LIMIT %s",
            (symbol_id, before, _SAY_NOTHING, count),
        )
        return [(row[0], row[1]) for row in reversed(cursor.fetchall())]


def market_trades(conn: Connection, symbol_id: int, days: Sequence[date]) -> bool:
    """Whether others trade while this symbol does not: False where 3 or more other symbols of its calendar were
    answered without a bar on all of `days` too, and nobody has one.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT o.symbol_id) FILTER (WHERE t.stored = 0 AND t.missing > 0) < %(fewest)s"
            " OR coalesce(bool_or(t.stored > 0), false)"
            " FROM symbols AS y LEFT JOIN symbols AS o ON o.calendar = y.calendar AND o.symbol_id <> y.symbol_id"
            "  AND o.active LEFT JOIN session_status AS t ON t.symbol_id = o.symbol_id AND t.session = ANY(%(days)s)"
            " WHERE y.symbol_id = %(id)s",
            {"id": symbol_id, "days": list(days), "fewest": FEWEST},
        )
        return bool(cursor.fetchall()[0][0])


def ended(conn: Connection, looked_by: datetime, since: date) -> list[str]:
    """Followed symbols whose last day, `since` or later and in the past, a provider told by `looked_by`."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT symbol FROM symbols AS y JOIN wanted AS w USING (symbol_id)"
            " JOIN symbol_identities AS i ON i.symbol_id = y.symbol_id AND i.provider = y.lifetime_source"
            " WHERE y.active AND upper_inf(w.time_window) AND y.last_date >= %s AND i.looked_up_at <= %s ORDER BY 1",
            (since, looked_by),
        )
        return [row[0] for row in cursor.fetchall()]


def forget_relisted(conn: Connection, symbol_id: int, timeframe: Base) -> int:
    """Delete what a lifetime explained that is another one now, in the open transaction: nobody has looked there."""
    with conn.cursor() as cursor:
        cursor.execute(
            "DELETE FROM session_status AS t USING symbols AS y WHERE y.symbol_id = %s AND t.symbol_id = y.symbol_id"
            " AND t.timeframe = %s AND t.explained ? 'not_listed'"
            " AND t.session BETWEEN coalesce(y.first_date, '-infinity') AND coalesce(y.last_date, 'infinity')",
            (symbol_id, timeframe),
        )
        return cursor.rowcount


def close_unlisted_gaps(conn: Connection, symbol_id: int, timeframe: Base, now: datetime) -> int:
    """Resolve open gaps outside of the symbol's lifetime, in the open transaction; how many."""
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE gaps AS g SET resolved_at = %s, resolution = 'explained not_listed'"
            " FROM symbols AS y JOIN sessions AS s USING (calendar)"
            " WHERE y.symbol_id = %s AND g.symbol_id = y.symbol_id AND g.timeframe = %s AND g.resolved_at IS NULL"
            " AND g.time_window && tstzrange(s.day_start, s.day_end) AND NOT"
            "  s.session BETWEEN coalesce(y.first_date, '-infinity') AND coalesce(y.last_date, 'infinity')",
            (now, symbol_id, timeframe),
        )
        return cursor.rowcount
