"""What the asset checks count, one statement each; symbols that are no longer followed do not count.

Every function returns an exact count and a capped sample of lines that name symbol, session and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base

SAMPLE = 20


@dataclass(frozen=True)
class Found:
    """`count`: exact; `sample`: at most SAMPLE lines of them."""

    count: int
    sample: tuple[str, ...]


def standing_refusals(conn: Connection, base: Base) -> Found:
    """Refused rows that no later answer has made good: one that covers their time and left a bar in their place.

    A row is kept from its first sight, so a later answer that brought it again shows only in what it did not store. Of
    a row whose own time is in no answer at all, any later answer of the symbol is one without it.
    """
    return _found(
        conn,
        "SELECT count(*) OVER (), symbol, q.ts::text, q.provider, q.reason FROM quarantine AS q"
        " JOIN symbols USING (symbol_id)"
        " CROSS JOIN LATERAL (SELECT max(c.fetched_at) AS asked,"
        "  max(c.fetched_at) FILTER (WHERE c.time_window @> q.ts) AS covered FROM coverage AS c"
        "  WHERE c.symbol_id = q.symbol_id AND c.timeframe = q.timeframe) AS a"
        " WHERE active AND q.timeframe = %(base)s AND CASE"
        "  WHEN a.covered IS NULL THEN coalesce(a.asked <= q.seen_at, true)"
        "  ELSE a.covered <= q.seen_at OR NOT EXISTS (SELECT FROM bars AS b WHERE b.symbol_id = q.symbol_id"
        "   AND b.timeframe = q.timeframe AND b.ts = date_trunc('minute', q.ts)) END"
        " ORDER BY q.seen_at DESC, symbol, q.ts LIMIT %(most)s",
        "{1} {2} ({3}): {4}",
        base=base,
    )


def incomplete_sessions(conn: Connection, base: Base) -> Found:
    """Wanted, due sessions that lack bars, newest first."""
    return _found(
        conn,
        "SELECT count(*) OVER (), symbol, w.session, w.missing, w.expected FROM wanted_sessions AS w"
        " JOIN symbols USING (symbol_id) WHERE active AND w.base = %(base)s AND w.missing > 0"
        " ORDER BY w.session DESC, symbol LIMIT %(most)s",
        "{1} {2}: {3} of {4} bars are missing",
        base=base,
    )


def open_gaps(conn: Connection, base: Base) -> Found:
    """Open gaps, the longest first."""
    return _found(
        conn,
        "SELECT count(*) OVER (), symbol, gap_id, to_char(lower(time_window), %(form)s),"
        " to_char(upper(time_window), %(form)s), g.expected - found, verdict, attempts,"
        " to_char(next_attempt_at, %(form)s) FROM gaps AS g JOIN symbols USING (symbol_id)"
        " WHERE active AND resolved_at IS NULL AND timeframe = %(base)s"
        " ORDER BY g.expected - found DESC, symbol, gap_id LIMIT %(most)s",
        "{1} gap {2}: {5} bars {6}, {3} to {4}; {7} attempts, next at {8}",
        base=base,
        form='YYYY-MM-DD HH24:MI"Z"',
    )


_DISAGREES = "%s %s: minutes hold %s %% of the day's volume, usually %s %%; prices beyond the day's by %s %%"


@dataclass(frozen=True)
class Agreement:
    """`compared`: sessions that have both. `ratio`: minutes' volume over the day's, the median of all of them."""

    compared: int
    ratio: float | None
    off: Found


def disagreeing_days(conn: Connection, since: datetime, tolerance: float, price: float) -> Agreement:
    """Complete sessions from `since` on whose minutes and day tell different stories: the volumes' ratio is off the
    symbol's median by more than `tolerance`, or a regular minute lies beyond the day's high or low by more than `price`
    (shares both).

    4h bars stand for the minutes: they hold all of their volume, highs and lows in a hundredth of the rows.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH pairs AS ("
            "  SELECT symbol, d.session, m.volume / nullif(d.volume, 0) AS ratio, m.high / d.high - 1 AS above,"
            "   1 - m.low / d.low AS below FROM symbols AS y"
            "  CROSS JOIN LATERAL (SELECT session, sum(volume) AS volume, max(high) FILTER (WHERE segment = 'regular')"
            "   AS high, min(low) FILTER (WHERE segment = 'regular') AS low FROM bars WHERE symbol_id = y.symbol_id"
            "   AND timeframe = '4h' AND ts >= %(since)s GROUP BY session OFFSET 0) AS m"
            "  JOIN bars AS d ON d.symbol_id = y.symbol_id AND d.timeframe = '1d' AND d.session = m.session"
            "   AND d.ts >= %(since)s AND d.provider <> 'derived'"
            "  JOIN session_status AS t ON t.symbol_id = y.symbol_id AND t.timeframe = '1m' AND t.session = m.session"
            "   AND t.missing = 0 AND NOT t.explained ? 'not_due'"
            "  WHERE y.active"
            "), medians AS ("
            "  SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY ratio) AS usual FROM pairs GROUP BY symbol"
            "), judged AS ("
            "  SELECT *, greatest(above, below, 0) AS beyond,"
            "   abs(ratio / usual - 1) > %(tolerance)s OR greatest(above, below) > %(price)s AS is_off"
            "  FROM pairs JOIN medians USING (symbol)"
            ") SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY ratio), count(*) FILTER (WHERE is_off),"
            "  coalesce((array_agg(format(%(line)s, symbol, session, round((100 * ratio)::numeric, 2),"
            "   round((100 * usual)::numeric, 2), round((100 * beyond)::numeric, 3))"
            "   ORDER BY session DESC, symbol) FILTER (WHERE is_off))[1:%(most)s], '{}') FROM judged",
            {"since": since, "tolerance": tolerance, "price": price, "most": SAMPLE, "line": _DISAGREES},
        )
        compared, ratio, off, lines = cursor.fetchall()[0]
    return Agreement(compared, ratio, Found(off, tuple(lines)))


@dataclass(frozen=True)
class CalendarNews:
    """`ends`: last session of each calendar in use. `closed`: days with bars, stored or only seen, that it does not
    have. `silent`: due sessions on which none of at least FEWEST listed symbols traded, taken as closed or not.
    """

    ends: dict[str, date]
    closed: Found
    silent: Found


# Symbols that must all be silent before the calendar is doubted.
FEWEST = 3


def calendar_news(conn: Connection, base: Base, since: date) -> CalendarNews:
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT calendar, (SELECT max(session) FROM sessions AS s WHERE s.calendar = y.calendar)"
            " FROM (SELECT DISTINCT calendar FROM symbols JOIN wanted USING (symbol_id)"
            "  WHERE active AND timeframe = %s) AS y ORDER BY 1",
            (base,),
        )
        ends = dict(cursor.fetchall())
    closed = _found(
        conn,
        "WITH held AS (SELECT y.calendar, b.session AS day, format('%%s symbols have bars', count(*)) AS what"
        "  FROM symbols AS y CROSS JOIN LATERAL (SELECT DISTINCT session FROM bars WHERE symbol_id = y.symbol_id"
        "   AND timeframe = %(sums)s AND ts >= %(since)s OFFSET 0) AS b WHERE y.active GROUP BY 1, 2"
        "), seen AS (SELECT calendar, day, min(provider) || ' has bars of it' AS what FROM calendar_evidence"
        "  WHERE traded AND day >= %(since)s GROUP BY 1, 2"
        ") SELECT count(*) OVER (), calendar, day, what FROM"
        "  (SELECT * FROM held UNION ALL SELECT * FROM seen"
        "   WHERE (calendar, day) NOT IN (SELECT calendar, day FROM held)) AS known"
        " WHERE NOT EXISTS (SELECT FROM sessions AS s WHERE s.calendar = known.calendar"
        "  AND s.session = known.day) ORDER BY day DESC LIMIT %(most)s",
        "{1} {2}: {3}, and it is no session",
        sums="4h" if base == "1m" else "1d",
        since=since,
    )
    silent = _found(
        conn,
        "WITH silent AS (SELECT calendar, session, format('none of %%s symbols traded; if it was closed', count(*))"
        "   AS what FROM wanted_sessions AS w JOIN symbols AS y USING (symbol_id, calendar)"
        "  WHERE active AND w.base = %(base)s AND session >= %(since)s AND not_due = 0"
        "   AND session BETWEEN coalesce(first_date, '-infinity') AND coalesce(last_date, 'infinity')"
        "  GROUP BY calendar, session HAVING sum(stored) = 0 AND sum(missing) > 0 AND count(*) >= %(fewest)s"
        "), assumed AS (SELECT calendar, session, note || '; taken as closed (unconfirmed); if it was closed'"
        "  FROM calendar_overrides"
        "  WHERE kind = 'unconfirmed' AND session >= %(since)s AND (calendar, session) NOT IN"
        "   (SELECT calendar, session FROM silent)"
        ") SELECT count(*) OVER (), * FROM (TABLE silent UNION ALL TABLE assumed) AS both_of"
        " ORDER BY session DESC LIMIT %(most)s",
        "{1} {2}: {3}: backfill calendar close {1} {2} --note why",
        base=base,
        since=since,
        fewest=FEWEST,
    )
    return CalendarNews(ends, closed, silent)


def _found(conn: Connection, query: str, line: str, **values: object) -> Found:
    """The count in the first column, and a line of each row."""
    with conn.cursor() as cursor:
        cursor.execute(query, {"most": SAMPLE, **values})
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return Found(int(rows[0][0]) if rows else 0, tuple(line.format(*row) for row in rows))
