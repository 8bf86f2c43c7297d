"""What is stored around absent minutes: one query for each kind of evidence. What it means is in domain/verdicts.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL, Literal

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.verdicts import SHARED_MINUTES
from backfill_pipeline.domain.windows import MINUTE, Window, to_datetime, to_micros

from .copying import copy_out
from .coverage import as_range

# Other symbols that are looked at: five are needed, and some are illiquid.
MOST_OTHERS = 12


def neighbours(conn: Connection, symbol_id: int, first: date, last: date, most: int) -> list[date]:
    """Sessions of minutes that are settled and hold bars, ascending: those of [first, last] and the `most` nearest on
    either side.
    """
    known = (
        "SELECT session FROM session_status WHERE symbol_id = %(id)s AND timeframe = '1m'"
        " AND stored > 0 AND NOT explained ? 'not_due' AND session"
    )
    with conn.cursor() as cursor:
        cursor.execute(
            f"({known} < %(first)s ORDER BY session DESC LIMIT %(most)s) UNION ALL"
            f" ({known} BETWEEN %(first)s AND %(last)s) UNION ALL"
            f" ({known} > %(last)s ORDER BY session LIMIT %(most)s) ORDER BY session",
            {"id": symbol_id, "first": first, "last": last, "most": most},
        )
        return [row[0] for row in cursor.fetchall()]


def explained_or_lacking(conn: Connection, symbol_id: int, timeframe: Base, first: date, last: date) -> list[date]:
    """Sessions of [first, last] whose absent bars were judged, ascending: other evidence may judge them otherwise."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session FROM session_status WHERE symbol_id = %s AND timeframe = %s AND session BETWEEN %s AND %s"
            " AND (missing > 0 OR explained ?| ARRAY['no_trade', 'halt']) ORDER BY session",
            (symbol_id, timeframe, first, last),
        )
        return [row[0] for row in cursor.fetchall()]


def minute_volumes(
    conn: Connection, symbol_id: int, window: Window
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Start (microseconds UTC, ascending) and volume of the minutes of all segments in `window`."""
    query = SQL(
        "SELECT ts, volume FROM bars WHERE symbol_id = {} AND timeframe = '1m' AND ts >= {} AND ts < {} ORDER BY ts"
    ).format(Literal(symbol_id), Literal(to_datetime(window.start)), Literal(to_datetime(window.end)))
    found = copy_out(conn, query, [("ts", "timestamptz"), ("volume", "float8")])
    return found["ts"].astype(np.int64), found["volume"].astype(np.float64)


def day_volumes(conn: Connection, symbol_id: int, window: Window) -> dict[date, float]:
    """By session, the volume of the daily bars that start in `window`."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, volume FROM bars WHERE symbol_id = %s AND timeframe = '1d' AND ts >= %s AND ts < %s",
            (symbol_id, to_datetime(window.start), to_datetime(window.end)),
        )
        return dict(cursor.fetchall())


def settled_windows(conn: Connection, symbol_id: int, timeframe: Base, window: Window) -> list[Window]:
    """The parts of `window` that answers after the settle delay vouch for; disjoint and ascending."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT lower(r), upper(r) FROM unnest((SELECT range_agg(time_window * %(window)s::tstzrange) FROM coverage"
            " WHERE symbol_id = %(id)s AND timeframe = %(tf)s AND settled AND time_window && %(window)s::tstzrange)"
            ") AS r",
            {"id": symbol_id, "tf": timeframe, "window": as_range(window)},
        )
        return [Window(to_micros(low), to_micros(high)) for low, high in cursor.fetchall()]


def refused_minutes(conn: Connection, symbol_id: int, window: Window) -> list[Window]:
    """The minutes of refused rows: something was told of them, so that their absence is not silence."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ts FROM quarantine WHERE symbol_id = %s AND timeframe = '1m' AND ts >= %s AND ts < %s",
            (symbol_id, to_datetime(window.start), to_datetime(window.end)),
        )
        starts = {to_micros(row[0]) // MINUTE * MINUTE for row in cursor.fetchall()}
        return [Window(start, start + MINUTE) for start in sorted(starts)]


@dataclass(frozen=True)
class Seen:
    """What one other symbol has in some minutes of a session and in the whole of it: bars in the minutes, their volume,
    that of all minutes of the session, and the daily bar's (None: there is none).
    """

    symbol_id: int
    session: date
    bars: int
    volume: float
    total: float
    day: float | None


def other_symbols(
    conn: Connection, symbol_id: int, calendar: str, spans: Sequence[tuple[date, Window, Window]]
) -> list[Seen]:
    """Of at most 12 other symbols of the calendar whose first session of `spans` is settled and holds bars: what
    they have in each span's (session, minutes, day).
    """
    columns = {
        "id": symbol_id,
        "calendar": calendar,
        "most": MOST_OTHERS,
        "session": spans[0][0],
        "sessions": [session for session, _, _ in spans],
        "lows": [to_datetime(minutes.start) for _, minutes, _ in spans],
        "highs": [to_datetime(minutes.end) for _, minutes, _ in spans],
        "starts": [to_datetime(day.start) for _, _, day in spans],
        "ends": [to_datetime(day.end) for _, _, day in spans],
    }
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH peers AS ("
            "  SELECT t.symbol_id FROM session_status AS t JOIN symbols AS y USING (symbol_id)"
            "  WHERE y.calendar = %(calendar)s AND t.timeframe = '1m' AND t.session = %(session)s AND t.stored > 0"
            "  AND NOT t.explained ? 'not_due' AND t.symbol_id <> %(id)s ORDER BY y.symbol LIMIT %(most)s"
            ") SELECT p.symbol_id, s.session, m.bars, m.volume, t.total, d.volume"
            " FROM peers AS p"
            " CROSS JOIN unnest(%(sessions)s::date[], %(lows)s::timestamptz[], %(highs)s::timestamptz[],"
            "  %(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS s (session, low, high, day_start, day_end)"
            " CROSS JOIN LATERAL ("
            "  SELECT count(*) AS bars, coalesce(sum(b.volume), 0) AS volume"
            "  FROM bars AS b WHERE b.symbol_id = p.symbol_id AND b.timeframe = '1m'"
            "  AND b.ts >= s.low AND b.ts < s.high) AS m"
            " CROSS JOIN LATERAL ("  # the sum that was noted when the session was written, else a new one
            "  SELECT coalesce((SELECT t.volume_sum FROM session_status AS t WHERE t.symbol_id = p.symbol_id"
            "    AND t.timeframe = '1m' AND t.session = s.session),"
            "   (SELECT sum(b.volume) FROM bars AS b WHERE b.symbol_id = p.symbol_id AND b.timeframe = '1m'"
            "    AND b.ts >= s.day_start AND b.ts < s.day_end), 0) AS total) AS t"
            " LEFT JOIN LATERAL ("
            "  SELECT b.volume FROM bars AS b WHERE b.symbol_id = p.symbol_id AND b.timeframe = '1d'"
            "  AND b.ts >= s.day_start AND b.ts < s.day_end LIMIT 1) AS d ON true"
            " ORDER BY p.symbol_id, s.session",
            columns,
        )
        return [Seen(*row) for row in cursor.fetchall()]


def judged_by_others(
    conn: Connection, calendar: str, mine: Sequence[str], sessions: Sequence[date], spared: Sequence[date]
) -> dict[str, list[date]]:
    """By followed symbol, those of the `sessions` of which other symbols tell, `mine` among them, why minutes are
    absent: its halts and gaps that others were asked about, and no trade where one of `mine` has such a halt or gap.

    `spared`: sessions whose halts are known from a list. Left out are sessions of which so many symbols are stored that
    come before `mine` that these are never asked.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH looked AS ("
            "  SELECT y.symbol, t.session, t.explained, t.explained ? 'halt' AND t.session <> ALL(%(spared)s::date[])"
            "   OR t.missing > 0 AND EXISTS (SELECT FROM gaps AS g JOIN sessions AS s ON s.calendar = y.calendar"
            "    AND s.session = t.session WHERE g.symbol_id = t.symbol_id AND g.timeframe = '1m'"
            "    AND g.resolved_at IS NULL AND g.evidence ? 'others' AND g.time_window && tstzrange(s.open, s.close))"
            "   AS shared"
            "  FROM session_status AS t JOIN symbols AS y USING (symbol_id)"
            "  WHERE y.calendar = %(calendar)s AND y.active AND t.timeframe = '1m' AND t.session = ANY(%(sessions)s)"
            "  AND (t.missing > 0 OR t.explained ?| ARRAY['halt', 'no_trade'])"
            "), of_mine AS (SELECT DISTINCT session FROM looked WHERE shared AND symbol = ANY(%(mine)s))"
            " SELECT symbol, session FROM looked AS k WHERE (shared OR session IN (SELECT session FROM of_mine)"
            "   AND coalesce((explained ->> 'no_trade')::integer, 0) >= %(fewest)s)"
            " AND (SELECT count(*) FROM session_status AS t JOIN symbols AS y USING (symbol_id)"
            "   WHERE y.calendar = %(calendar)s AND t.timeframe = '1m' AND t.session = k.session AND t.stored > 0"
            "   AND y.symbol < (SELECT min(m) FROM unnest(%(mine)s) AS m)) <= %(most)s"
            " ORDER BY symbol, session",
            {
                "calendar": calendar,
                "mine": list(mine),
                "sessions": list(sessions),
                "spared": list(spared),
                "fewest": SHARED_MINUTES,
                "most": MOST_OTHERS,
            },
        )
        found: dict[str, list[date]] = {}
        for symbol, session in cursor.fetchall():
            found.setdefault(symbol, []).append(session)
        return found
