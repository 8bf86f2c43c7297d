"""What a night left in the tables, for the morning's message. Reads only; times are the writers' clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base


@dataclass(frozen=True)
class Added:
    """Base bars that were written, new or changed, from answers about so many symbols."""

    timeframe: Base
    symbols: int
    rows: int


def added_since(conn: Connection, since: datetime) -> list[Added]:
    """By base timeframe, minutes first."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT timeframe::text, count(DISTINCT symbol_id), sum(rows_written) FROM coverage"
            " WHERE fetched_at >= %s AND rows_written > 0 GROUP BY timeframe ORDER BY timeframe",
            (since,),
        )
        return [Added(timeframe, symbols, int(rows)) for timeframe, symbols, rows in cursor.fetchall()]


@dataclass(frozen=True)
class OpenGaps:
    """One symbol's open gaps of a base timeframe and verdict, on sessions `first` to `last`. `fresh`: how many of the
    `gaps` were found since the night began.
    """

    symbol: str
    timeframe: Base
    verdict: str
    gaps: int
    fresh: int
    bars: int
    first: date
    last: date
    attempts: int
    next_attempt_at: datetime


def gaps_of_followed(conn: Connection, since: datetime) -> list[OpenGaps]:
    """Of active symbols, those with new gaps first, then those that lack most. `since`: when the night began."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT y.symbol, g.timeframe::text, g.verdict, count(*), count(*) FILTER (WHERE g.detected_at >= %s),"
            " sum(g.expected - g.found)::bigint, min(d.first), max(d.last), max(g.attempts), min(g.next_attempt_at)"
            " FROM gaps AS g JOIN symbols AS y USING (symbol_id) CROSS JOIN LATERAL ("
            "   SELECT min(s.session) AS first, max(s.session) AS last FROM sessions AS s"
            "   WHERE s.calendar = y.calendar AND s.open < upper(g.time_window) AND s.close > lower(g.time_window)"
            "   AND s.session BETWEEN lower(g.time_window)::date - 2 AND upper(g.time_window)::date + 2) AS d"
            " WHERE g.resolved_at IS NULL AND y.active AND d.first IS NOT NULL GROUP BY 1, 2, 3"
            " ORDER BY count(*) FILTER (WHERE g.detected_at >= %s) > 0 DESC, 6 DESC, 1, 2, 3",
            (since, since),
        )
        return [OpenGaps(*row) for row in cursor.fetchall()]


def refused_events_since(conn: Connection, since: datetime) -> list[str]:
    """A line for each split, dividend or report of earnings that was first told since and is not believed."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT format('%%s %%s %%s: %%s (%%s)', symbol, day, kind, reason, provider) FROM ("
            " SELECT symbol_id, ex_date AS day, 'split' AS kind, reason, provider, accepted, seen_at FROM splits"
            " UNION ALL SELECT symbol_id, ex_date, 'dividend', reason, provider, accepted, seen_at FROM dividends"
            " UNION ALL SELECT symbol_id, report_date, 'earnings', reason, provider, accepted, seen_at FROM earnings"
            ") AS e JOIN symbols USING (symbol_id) WHERE accepted = false AND seen_at >= %s ORDER BY symbol, day, kind",
            (since,),
        )
        return [row[0] for row in cursor.fetchall()]


def handed_out(conn: Connection) -> dict[str, int]:
    """Slots for requests that providers with a limit have given so far, by provider."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT provider, sum(handed_out)::bigint FROM provider_budget GROUP BY provider")
        return dict(cursor.fetchall())


def paused_providers(conn: Connection) -> list[str]:
    """Those whose requests somebody has paused."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT DISTINCT provider FROM provider_budget WHERE paused_at IS NOT NULL ORDER BY provider")
        return [row[0] for row in cursor.fetchall()]
