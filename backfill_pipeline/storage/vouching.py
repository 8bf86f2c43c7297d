"""Which stored sessions an answer vouches for, and taking that back where rows are no longer what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import DateTimeTZRange

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window

from .coverage import as_range
from .look import Scope


def unvouched(conn: Connection, scope: Scope, now: datetime) -> list[tuple[int, Base, date]]:
    """(symbol_id, base, session) of those that coverage vouches for fewer bars of than their status counts, ascending;
    followed symbols only.

    Only sessions that coverage does not hold from the start of their day to their last close are counted anew.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH answered AS ("
            "  SELECT symbol_id, timeframe, range_agg(time_window) AS covered FROM coverage"
            "  WHERE %(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s) GROUP BY symbol_id, timeframe"
            "), bare AS MATERIALIZED ("
            "  SELECT t.symbol_id, t.timeframe, t.session, t.stored, s.day_start, s.day_end,"
            "   coalesce(a.covered, '{}') AS covered FROM session_status AS t JOIN symbols AS y USING (symbol_id)"
            "  JOIN sessions AS s USING (calendar, session) LEFT JOIN answered AS a USING (symbol_id, timeframe)"
            "  WHERE y.active AND t.stored > 0 AND NOT t.explained ?| '{not_due,not_listed}'"
            "   AND (%(since)s IS NULL OR t.checked_at >= %(since)s)"
            "   AND (%(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s))"
            "   AND NOT tstzrange(s.day_start, least(s.post_close, %(now)s)) <@ coalesce(a.covered, '{}')"
            ") SELECT symbol_id, timeframe::text, session FROM bare AS t CROSS JOIN LATERAL ("
            "  SELECT count(*) AS bars FROM bars AS b WHERE b.symbol_id = t.symbol_id AND b.timeframe = t.timeframe"
            "   AND b.ts >= t.day_start AND b.ts < t.day_end AND b.segment = 'regular' AND b.ts <@ t.covered) AS v"
            " WHERE v.bars < t.stored ORDER BY 1, 2, 3",
            {"ids": None if scope.ids is None else list(scope.ids), "since": scope.since, "now": now},
        )
        return [(row[0], row[1], row[2]) for row in cursor.fetchall()]


def cut_coverage(conn: Connection, symbol_id: int, timeframe: Base, windows: Sequence[Window]) -> None:
    """Nothing vouches for `windows` any longer, in the open transaction. What else the answers cover stays as it is; a
    piece counts as received what is stored of it.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH gone AS (SELECT range_agg(r) AS stretch FROM unnest(%(windows)s::tstzrange[]) AS r), old AS ("
            "  DELETE FROM coverage USING gone WHERE symbol_id = %(id)s AND timeframe = %(tf)s"
            "  AND time_window && stretch RETURNING coverage.*, stretch"
            "), pieces AS (SELECT old.*, unnest(tstzmultirange(time_window) - stretch) AS piece FROM old)"
            " INSERT INTO coverage (symbol_id, timeframe, time_window, provider, rows_received, rows_written, settled,"
            "  fetched_at, valid_until)"
            " SELECT p.symbol_id, p.timeframe, p.piece, p.provider, n.bars, least(p.rows_written, n.bars), p.settled,"
            "  p.fetched_at, p.valid_until FROM pieces AS p CROSS JOIN LATERAL ("
            "  SELECT count(*)::integer AS bars FROM bars AS b WHERE b.symbol_id = p.symbol_id"
            "  AND b.timeframe = p.timeframe AND b.ts >= lower(p.piece) AND b.ts < upper(p.piece)) AS n",
            {"id": symbol_id, "tf": timeframe, "windows": _ranges(windows)},
        )


def withdraw_impossible(conn: Connection, symbol_id: int, timeframe: Base, days: Sequence[date], now: datetime) -> None:
    """Take out what no answer could have brought of the sessions `days`: bars whose prices are none, whose start is not
    theirs, or that are labelled as another session's or segment's. They go to bar_revisions; in the open transaction.

    Nothing can be derived of such rows, and an answer would not overwrite them all: labels follow from the start.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH gone AS (DELETE FROM bars AS b USING symbols AS y, sessions AS s"
            "  WHERE y.symbol_id = b.symbol_id AND s.calendar = y.calendar AND s.session = ANY(%(days)s)"
            "  AND b.symbol_id = %(id)s AND b.timeframe = %(tf)s"
            "  AND (b.session = s.session OR b.ts >= s.day_start AND b.ts < s.day_end) AND NOT ("
            "   b.session = s.session AND least(b.open, high, low, b.close) > 0"
            "   AND greatest(b.open, high, low, b.close, volume) < 'Infinity' AND volume >= 0 AND CASE b.timeframe"
            "   WHEN '1d' THEN b.ts = s.day_start AND segment = 'regular'"
            "   ELSE b.ts >= s.pre_open AND b.ts < s.post_close AND date_trunc('minute', b.ts) = b.ts"
            "    AND NOT (b.ts >= s.break_start AND b.ts < s.break_end)"
            "    AND segment = CASE WHEN b.ts < s.open THEN 'pre'::segment"
            "     WHEN b.ts < s.close THEN 'regular' ELSE 'post' END END"
            "  ) RETURNING b.*)"
            " INSERT INTO bar_revisions SELECT gone.*, 'withdrawn', %(now)s FROM gone",
            {"id": symbol_id, "tf": timeframe, "days": list(days), "now": now},
        )


def doubt_gaps(
    conn: Connection, symbol_id: int, timeframe: Base, evidence: Mapping[Window, Mapping[str, object]], now: datetime
) -> None:
    """The open gaps of these sessions' days are asked for at once, and their evidence says what `evidence` does; in the
    open transaction.
    """
    with conn.cursor() as cursor:
        for window, words in evidence.items():
            cursor.execute(
                "UPDATE gaps SET evidence = evidence || %s::jsonb, next_attempt_at = %s WHERE symbol_id = %s"
                " AND timeframe = %s AND resolved_at IS NULL AND time_window <@ %s",
                (json.dumps(words), now, symbol_id, timeframe, as_range(window)),
            )


def fill_sums(conn: Connection, scope: Scope) -> int:
    """Note what is stored of sessions of which no sums were kept, as if that had been written; their number.

    In the open transaction. Needs no lock: a run that writes such a session meanwhile writes its sums, too.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE session_status AS t SET bars = n.bars, price_sum = n.prices, volume_sum = n.volume"
            " FROM session_status AS u JOIN symbols USING (symbol_id) JOIN sessions AS s USING (calendar, session)"
            " CROSS JOIN LATERAL (SELECT count(*) AS bars,"
            "  coalesce(sum(open + 2 * high + 3 * low + 5 * close + 7 * coalesce(vwap, 0)), 0) AS prices,"
            "  coalesce(sum(volume), 0) AS volume FROM bars AS b WHERE b.symbol_id = u.symbol_id"
            "  AND b.timeframe = u.timeframe AND b.ts >= s.day_start AND b.ts < s.day_end) AS n"
            " WHERE u.bars IS NULL AND NOT u.explained ? 'not_listed'"
            " AND (%(ids)s::integer[] IS NULL OR u.symbol_id = ANY(%(ids)s))"
            " AND t.symbol_id = u.symbol_id AND t.timeframe = u.timeframe AND t.session = u.session AND t.bars IS NULL",
            {"ids": None if scope.ids is None else list(scope.ids)},
        )
        return cursor.rowcount


def _ranges(windows: Sequence[Window]) -> list[DateTimeTZRange]:
    return [as_range(window) for window in windows]
