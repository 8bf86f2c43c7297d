"""Which sessions wait to be asked for again, and which were judged of late: two queries for all symbols at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base

# What is kept complete and became due within so many days is news; what is older, and was never asked for, is left to
# the night: following a symbol for two years back is no emergency.
NEWLY = timedelta(days=3)


@dataclass(frozen=True)
class Waiting:
    """A session that lacks bars and whose next attempt has come. `attempts`: how many were made since it was found."""

    symbol: str
    timeframe: Base
    session: date
    attempts: int


@dataclass(frozen=True)
class Judged:
    """A session that was judged at `checked_at`. `is_missing`: it lacks bars."""

    symbol: str
    timeframe: Base
    session: date
    is_missing: bool
    checked_at: datetime


_WAITING = """
WITH of_gaps AS MATERIALIZED (
    SELECT g.symbol_id, g.timeframe, s.session, min(g.next_attempt_at) AS next_attempt_at, max(g.attempts) AS attempts
    FROM gaps AS g JOIN symbols USING (symbol_id)
    CROSS JOIN LATERAL (
        SELECT session FROM sessions WHERE sessions.calendar = symbols.calendar AND day_start <= lower(g.time_window)
        ORDER BY day_start DESC LIMIT 1
    ) AS s
    WHERE g.resolved_at IS NULL
    GROUP BY g.symbol_id, g.timeframe, s.session
)
SELECT y.symbol, t.timeframe::text, t.session, coalesce(g.attempts, 0)
FROM session_status AS t JOIN symbols AS y USING (symbol_id)
LEFT JOIN of_gaps AS g USING (symbol_id, timeframe, session)
JOIN sessions AS s USING (calendar, session)
WHERE (t.missing > 0 OR t.due_at IS NOT NULL) AND (t.missing > 0 OR t.due_at <= %(now)s) AND y.active
  AND (coalesce(g.next_attempt_at, '-infinity') <= %(now)s
       OR s.post_close > %(since)s AND NOT EXISTS (
           SELECT FROM coverage AS c WHERE c.symbol_id = t.symbol_id AND c.timeframe = t.timeframe
              AND c.time_window && tstzrange(s.day_start, s.day_end)))
UNION ALL
SELECT y.symbol, w.timeframe::text, s.session, 0
FROM wanted AS w JOIN symbols AS y USING (symbol_id)
JOIN sessions AS s ON s.calendar = y.calendar AND s.day_start >= lower(w.time_window)
 AND s.post_close > %(since)s AND s.post_close <= %(now)s AND s.day_start > %(since)s - interval '2 days'
WHERE upper_inf(w.time_window) AND y.active
  AND NOT EXISTS (SELECT FROM session_status AS t
                  WHERE t.symbol_id = w.symbol_id AND t.timeframe = w.timeframe AND t.session = s.session)
ORDER BY 1, 2, 3
"""

_JUDGED = """
SELECT y.symbol, t.timeframe::text, t.session, t.missing > 0, t.checked_at
FROM (SELECT * FROM session_status WHERE checked_at > %(since)s ORDER BY checked_at
      FETCH FIRST %(most)s ROWS WITH TIES) AS t
JOIN symbols AS y USING (symbol_id) WHERE y.active
ORDER BY t.checked_at, y.symbol, t.timeframe, t.session
"""


def waiting_sessions(conn: Connection, now: datetime) -> list[Waiting]:
    """Sessions of followed symbols that lack bars and wait for no later attempt, or ended of late and got no answer at
    all: nothing was attempted. Those that have become due since they were looked at. And those of what is kept complete
    that ended of late and nobody has looked at: whether they are due is the provider's word. By symbol, timeframe and
    session.
    """
    with conn.cursor() as cursor:
        cursor.execute(_WAITING, {"now": now, "since": now - NEWLY})
        return [Waiting(*row) for row in cursor.fetchall()]


def judged_since(conn: Connection, since: datetime, most: int) -> list[Judged]:
    """The first `most` sessions of followed symbols (more where several were judged at the same time) that were judged
    after `since`, in that order.
    """
    with conn.cursor() as cursor:
        cursor.execute(_JUDGED, {"since": since, "most": most})
        return [Judged(*row) for row in cursor.fetchall()]


def wanted_chains(conn: Connection) -> list[tuple[Instrument, Base]]:
    """Followed instruments with the base timeframes of which anything is wanted, by priority and name."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT priority, symbol_id, symbol, asset_class::text, calendar, first_date, last_date,"
            " timeframe::text FROM symbols JOIN wanted USING (symbol_id) WHERE active"
            " ORDER BY priority, symbol, timeframe DESC"
        )
        return [(Instrument(*row[1:7]), row[7]) for row in cursor.fetchall()]
