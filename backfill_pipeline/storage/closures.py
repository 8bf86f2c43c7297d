"""What is known of days on which a calendar may be wrong: assumptions, the market's word, and who was silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.closures import UNCONFIRMED
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base


@dataclass(frozen=True)
class SessionWord:
    """What the tables say of one session. `silent`: symbols that were answered without a bar; `witnesses`: those that
    were not so the session before or after. `traded`: some bar, refused row or word of a market is there; `market`: a
    provider said that nothing traded.
    """

    day: date
    silent: int
    witnesses: int
    traded: bool
    market: bool


def assumed_closed(conn: Connection, calendar: str) -> list[date]:
    """Sessions that are taken as closed because nothing traded, ascending."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session FROM calendar_overrides WHERE calendar = %s AND kind = 'unconfirmed' ORDER BY session",
            (calendar,),
        )
        return [row[0] for row in cursor.fetchall()]


def assume_closed(
    conn: Connection, calendar: str, day: date, note: str, next_attempt_at: datetime | None, now: datetime
) -> bool:
    """Take `day` as closed from now on, in the open transaction. False: something is known of it already."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO calendar_overrides (calendar, session, kind, note, added_at, next_attempt_at)"
            " VALUES (%s, %s, 'unconfirmed', %s, %s, %s) ON CONFLICT DO NOTHING",
            (calendar, day, note, now, next_attempt_at),
        )
        return bool(cursor.rowcount)


def forget_assumption(conn: Connection, calendar: str, day: date, now: datetime) -> set[tuple[int, str]]:
    """A session after all, in the open transaction: to be asked for again, and missing for symbols that were
    answered without a bar. Returns these (symbol_id, timeframe); others were never asked, and nothing is known of them.
    """
    values = {"calendar": calendar, "day": day, "now": now, "word": UNCONFIRMED}
    with conn.cursor() as cursor:
        cursor.execute(
            "DELETE FROM calendar_overrides WHERE calendar = %(calendar)s AND session = %(day)s"
            " AND kind = 'unconfirmed'",
            values,
        )
        cursor.execute(
            "WITH answers AS (SELECT DISTINCT ON (t.symbol_id, t.timeframe) t.symbol_id, t.timeframe, c.provider"
            "  FROM symbols AS y JOIN session_status AS t USING (symbol_id)"
            "  JOIN sessions AS s USING (calendar, session)"
            "  JOIN coverage AS c ON (c.symbol_id, c.timeframe) = (t.symbol_id, t.timeframe) AND c.settled"
            "   AND c.time_window && tstzrange(s.open, s.close)"
            "  WHERE y.calendar = %(calendar)s AND t.session = %(day)s AND t.explained ? %(word)s"
            "  ORDER BY t.symbol_id, t.timeframe, c.fetched_at DESC"
            "), expired AS (UPDATE coverage AS c SET valid_until = %(now)s FROM answers AS a, sessions AS s"
            "  WHERE (c.symbol_id, c.timeframe) = (a.symbol_id, a.timeframe) AND c.valid_until > %(now)s"
            "  AND s.calendar = %(calendar)s AND s.session = %(day)s AND c.time_window && tstzrange(s.open, s.close)"
            ") UPDATE session_status AS t SET explained = '{}', missing = expected, provider = a.provider,"
            "  checked_at = %(now)s FROM answers AS a WHERE (t.symbol_id, t.timeframe) = (a.symbol_id, a.timeframe)"
            "  AND t.session = %(day)s RETURNING t.symbol_id, t.timeframe::text",
            values,
        )
        silent: set[tuple[int, str]] = set(cursor.fetchall())
        cursor.execute(
            "DELETE FROM session_status AS t USING symbols AS y WHERE t.symbol_id = y.symbol_id"
            " AND y.calendar = %(calendar)s AND t.session = %(day)s AND t.explained ? %(word)s",
            values,
        )
    return silent


def close_gaps(conn: Connection, symbol_id: int, timeframe: Base, days: Sequence[date], now: datetime) -> None:
    """Resolve the symbol's open gaps of the sessions `days`, in the open transaction."""
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE gaps AS g SET resolved_at = %s, resolution = %s FROM symbols AS y JOIN sessions AS s"
            " USING (calendar) WHERE y.symbol_id = %s AND g.symbol_id = y.symbol_id AND g.timeframe = %s"
            " AND g.resolved_at IS NULL AND s.session = ANY(%s) AND g.time_window && tstzrange(s.day_start, s.day_end)",
            (now, UNCONFIRMED, symbol_id, timeframe, list(days)),
        )


def note_trade(conn: Connection, calendar: str, day: date, provider: str, now: datetime, *, traded: bool) -> bool:
    """Keep a provider's word on whether anything traded on `day`, in the open transaction. True: that is news."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO calendar_evidence AS e (calendar, day, provider, traded, seen_at) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (calendar, day, provider) DO UPDATE SET traded = excluded.traded, seen_at = excluded.seen_at"
            " WHERE e.traded <> excluded.traded",
            (calendar, day, provider, traded, now),
        )
        return bool(cursor.rowcount)


def session_words(
    conn: Connection, calendar: str, days: Sequence[date], before: Sequence[date], after: Sequence[date]
) -> list[SessionWord]:
    """Of the sessions `days`; `before` and `after`: the ones next to each.

    A refused row says that there was trade; an answer that somebody declared worth nothing says nothing.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH asked AS (SELECT * FROM unnest(%(days)s::date[], %(before)s::date[], %(after)s::date[])"
            "  AS d (session, before, after) JOIN sessions AS s USING (session) WHERE s.calendar = %(calendar)s"
            "), silent AS ("
            "  SELECT a.session, t.symbol_id, NOT EXISTS (SELECT FROM session_status AS n"
            "    WHERE (n.symbol_id, n.timeframe) = (t.symbol_id, t.timeframe) AND n.session IN (a.before, a.after)"
            "    AND n.stored = 0 AND n.missing > 0) AS is_witness"
            "  FROM asked AS a JOIN symbols AS y ON y.calendar = %(calendar)s AND y.active"
            "  JOIN session_status AS t ON t.symbol_id = y.symbol_id AND t.session = a.session AND t.stored = 0"
            "   AND (t.missing > 0 OR t.explained ? %(word)s)"
            "  WHERE (SELECT range_agg(c.time_window) FROM coverage AS c"
            "   WHERE (c.symbol_id, c.timeframe) = (t.symbol_id, t.timeframe) AND c.settled"
            "   AND c.time_window && tstzrange(a.open, a.close)) @> tstzrange(a.open, a.close)"
            ") SELECT a.session, count(DISTINCT symbol_id), count(DISTINCT symbol_id) FILTER (WHERE is_witness),"
            "  EXISTS (SELECT FROM symbols AS y WHERE y.calendar = %(calendar)s AND ("
            "   EXISTS (SELECT FROM bars AS b WHERE b.symbol_id = y.symbol_id"
            "    AND b.timeframe = ANY('{1m,1d}'::timeframe[]) AND b.ts >= a.day_start AND b.ts < a.day_end)"
            "   OR EXISTS (SELECT FROM quarantine AS q WHERE q.symbol_id = y.symbol_id"
            "    AND q.ts >= a.day_start AND q.ts < a.day_end)))"
            "  OR EXISTS (SELECT FROM calendar_evidence AS e WHERE e.calendar = %(calendar)s AND e.day = a.session"
            "   AND e.traded),"
            "  EXISTS (SELECT FROM calendar_evidence AS e WHERE e.calendar = %(calendar)s AND e.day = a.session"
            "   AND NOT e.traded)"
            " FROM asked AS a LEFT JOIN silent USING (session)"
            " GROUP BY a.session, a.day_start, a.day_end ORDER BY a.session",
            {
                "calendar": calendar,
                "days": list(days),
                "before": list(before),
                "after": list(after),
                "word": UNCONFIRMED,
            },
        )
        return [SessionWord(*row) for row in cursor.fetchall()]


def due_rechecks(conn: Connection, now: datetime) -> list[tuple[str, date, int]]:
    """Days taken as closed that are to be asked for again: calendar, day, how often that was done."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT calendar, session, attempts FROM calendar_overrides"
            " WHERE kind = 'unconfirmed' AND next_attempt_at <= %s ORDER BY calendar, session DESC",
            (now,),
        )
        return cursor.fetchall()


def count_recheck(conn: Connection, calendar: str, day: date, next_attempt_at: datetime | None) -> None:
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE calendar_overrides SET attempts = attempts + 1, next_attempt_at = %s"
            " WHERE calendar = %s AND session = %s",
            (next_attempt_at, calendar, day),
        )


def wanting(conn: Connection, calendar: str, day: date) -> list[tuple[Instrument, Base]]:
    """Followed symbols that want the session, with the base timeframe: those never asked for it first, then those with
    most bars around it.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT y.symbol_id, symbol, asset_class::text, y.calendar, first_date, last_date, w.timeframe::text"
            " FROM symbols AS y JOIN wanted AS w USING (symbol_id) JOIN sessions AS s USING (calendar)"
            " CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM coverage AS c WHERE c.symbol_id = y.symbol_id"
            "   AND c.timeframe = w.timeframe AND c.time_window && tstzrange(s.open, s.close)) AS asked,"
            "  (SELECT coalesce(sum(t.stored), 0) FROM session_status AS t WHERE t.symbol_id = y.symbol_id"
            "   AND t.timeframe = w.timeframe AND t.session BETWEEN s.session - 7 AND s.session + 7) AS bars) AS k"
            " WHERE y.active AND y.calendar = %s AND s.session = %s AND w.time_window @> s.day_start"
            " ORDER BY k.asked, k.bars DESC, priority, symbol, w.timeframe",
            (calendar, day),
        )
        return [(Instrument(*row[:6]), row[6]) for row in cursor.fetchall()]
