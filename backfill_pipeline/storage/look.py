"""Whether the tables are still what our own writing left: one statement a question, over everything or over a part.

What is known of a session stands in `session_status`, and coverage vouches for it; both are held against the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base, Timeframe

Kind = Literal["changed", "derived", "features", "stray"]

# Of a session's sum: 1440 numbers added in another order differ by 1.6e-13 of it at most, while the smallest edit of a
# price (0.0001 of 500 in one of 960 bars) changes it by 1.2e-11. Volumes of coarser bars were added up twice.
_SAME, _SAME_TWICE = 1e-12, 1e-11


@dataclass(frozen=True)
class Scope:
    """What is looked at: the followed symbols `ids` (None: all), and of them the sessions whose status was written
    from `since` on (None: all that is stored).
    """

    ids: Sequence[int] | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Doubt:
    """Rows that are not what was written. `session` None: some of this timeframe; of a week, its Monday.

    changed: base bars of the session. derived, features: those of `timeframe`. stray: base bars of a session that
    nobody has looked at.
    """

    kind: Kind
    symbol_id: int
    base: Base
    timeframe: Timeframe
    session: date | None
    detail: str


# Bars by session. `stamps`: starts of regular bars in seconds, whole numbers, so that no order of adding matters.
_COUNTED = """
SELECT symbol_id, timeframe, session, count(*) AS bars, count(*) FILTER (WHERE segment = 'regular') AS regular,
       sum(date_part('epoch', ts)) FILTER (WHERE segment = 'regular') AS stamps,
       sum(open + 2 * high + 3 * low + 5 * close + 7 * coalesce(vwap, 0)) AS prices, sum(volume) AS volume
FROM {bars} GROUP BY symbol_id, timeframe, session
"""
_FEATURES = "SELECT symbol_id, timeframe, count(*) AS rows, sum(date_part('epoch', ts)) AS stamps FROM {features}"

_EVERY = {
    "bars": "bars AS b WHERE %(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s)",
    "features": "features AS f WHERE %(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s)",
}
# OFFSET 0 keeps the joins as they are written, an index range each, whatever the statistics of a fresh table say.
_SPANS = """(SELECT b.* FROM (
    SELECT symbol_id, c.timeframe, day_start, day_end
    FROM session_status AS t JOIN symbols USING (symbol_id) JOIN sessions USING (calendar, session)
    JOIN (VALUES ('1m'::timeframe, '1m'::timeframe), ('1m', '5m'), ('1m', '15m'), ('1m', '30m'), ('1m', '1h'),
                 ('1m', '4h'), ('1d', '1d')) AS c (base, timeframe) ON c.base = t.timeframe
    WHERE t.checked_at >= %(since)s AND (%(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s))
    OFFSET 0
) AS s CROSS JOIN LATERAL (
    SELECT x.* FROM {} AS x WHERE x.symbol_id = s.symbol_id AND x.timeframe = s.timeframe
    AND x.ts >= s.day_start AND x.ts < s.day_end OFFSET 0
) AS b) AS b"""
_WRITTEN = {name: _SPANS.format(name) for name in ("bars", "features")}

_DOUBTS = """
WITH counted AS MATERIALIZED ({counted}),
known AS MATERIALIZED (
    SELECT t.symbol_id, t.timeframe, t.session, t.bars AS written, t.derived, coalesce(c.bars, 0) AS bars,
           coalesce(c.volume, 0) AS volume,
           t.bars <> coalesce(c.bars, 0) OR coalesce(c.regular, 0) < t.stored
             OR NOT abs(coalesce(c.prices, 0) - t.price_sum) <= %(same)s * t.price_sum
             OR NOT abs(coalesce(c.volume, 0) - t.volume_sum) <= %(same)s * t.volume_sum AS differs
    FROM session_status AS t LEFT JOIN counted AS c USING (symbol_id, timeframe, session)
    WHERE NOT t.explained ? 'not_listed' AND (%(since)s IS NULL OR t.checked_at >= %(since)s)
      AND (%(ids)s::integer[] IS NULL OR t.symbol_id = ANY(%(ids)s))
),
changed AS (
    SELECT 'changed', k.symbol_id, k.timeframe, k.timeframe, k.session,
           CASE WHEN k.bars <> k.written THEN format('%%s bars stored, %%s written', k.bars, k.written)
                ELSE 'prices or volumes are others than were written' END
    FROM known AS k JOIN symbols AS y USING (symbol_id) JOIN sessions AS s USING (calendar, session)
    WHERE k.differs AND EXISTS (
        SELECT FROM coverage AS v WHERE v.symbol_id = k.symbol_id AND v.timeframe = k.timeframe
        AND v.time_window && tstzrange(s.day_start, s.day_end))
),
derived AS (
    SELECT 'derived', k.symbol_id, k.timeframe, d.timeframe, k.session, ''
    FROM known AS k
    CROSS JOIN (VALUES ('5m'::timeframe), ('15m'), ('30m'), ('1h'), ('4h')) AS d (timeframe)
    LEFT JOIN counted AS c
      ON c.symbol_id = k.symbol_id AND c.timeframe = d.timeframe AND c.session = k.session
    WHERE k.timeframe = '1m' AND (
        coalesce(c.regular, 0) < coalesce((k.derived ->> d.timeframe::text)::integer, 0)
        OR NOT abs(coalesce(c.volume, 0) - k.volume) <= %(same_twice)s * k.volume)
),
weeks AS (
    SELECT 'derived', w.symbol_id, '1d'::timeframe, w.timeframe, w.session, ''
    FROM counted AS w LEFT JOIN (
        SELECT symbol_id, date_trunc('week', session)::date AS monday, sum(volume) AS volume
        FROM counted WHERE timeframe = '1d' GROUP BY symbol_id, monday
    ) AS d ON d.symbol_id = w.symbol_id AND d.monday = w.session
    WHERE w.timeframe = '1w' AND NOT abs(w.volume - coalesce(d.volume, 0)) <= %(same_twice)s * coalesce(d.volume, 0)
),
features AS (
    SELECT 'features', symbol_id, CASE WHEN timeframe IN ('1d', '1w') THEN '1d'::timeframe ELSE '1m' END, timeframe,
           NULL::date, ''
    FROM (SELECT symbol_id, timeframe, sum(regular) AS rows, sum(stamps) AS stamps FROM counted
          GROUP BY symbol_id, timeframe HAVING sum(regular) > 0) AS c
    FULL JOIN ({features} GROUP BY symbol_id, timeframe) AS f USING (symbol_id, timeframe)
    WHERE (c.rows, c.stamps) IS DISTINCT FROM (f.rows, f.stamps)
),
stray AS (
    SELECT 'stray', c.symbol_id, c.timeframe, c.timeframe, c.session,
           c.bars || CASE c.bars WHEN 1 THEN ' bar' ELSE ' bars' END
    FROM counted AS c LEFT JOIN session_status AS t USING (symbol_id, timeframe, session)
    WHERE c.timeframe IN ('1m', '1d') AND t.symbol_id IS NULL
)
SELECT d.kind, d.symbol_id, d.base::text, d.timeframe::text, d.session, d.detail FROM (
    TABLE changed UNION ALL TABLE derived UNION ALL TABLE weeks UNION ALL TABLE features UNION ALL TABLE stray
) AS d (kind, symbol_id, base, timeframe, session, detail)
JOIN symbols AS y USING (symbol_id) WHERE y.active ORDER BY y.symbol, d.base, d.session, d.timeframe
"""


def doubts(conn: Connection, scope: Scope) -> list[Doubt]:
    """Where bars and features are others than were written, by symbol, base and session; followed symbols only.

    Reads every row once. Weeks that are absent altogether: `absent_weeks`.
    """
    source = _EVERY if scope.since is None else _WRITTEN
    statement = _DOUBTS.format(counted=_COUNTED.format(**source), features=_FEATURES.format(**source))
    with conn.cursor() as cursor:
        # A group for each symbol, timeframe and session: 100 symbols and 5 years are 900,000 of some 100 bytes.
        cursor.execute("SET LOCAL work_mem = '128MB'")
        cursor.execute(statement, _values(scope) | {"same": _SAME, "same_twice": _SAME_TWICE})
        return [Doubt(*row) for row in cursor.fetchall()]


def _values(scope: Scope) -> dict[str, Any]:
    return {"ids": None if scope.ids is None else list(scope.ids), "since": scope.since}


def absent_weeks(conn: Connection, scope: Scope) -> list[Doubt]:
    """Weeks that have no bar, though all their sessions are wanted and complete and have one."""
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH whole AS ("
            "  SELECT symbol_id, calendar, date_trunc('week', session)::date AS monday FROM wanted_sessions"
            "  WHERE base = '1d' AND (%(ids)s::integer[] IS NULL OR symbol_id = ANY(%(ids)s))"
            "  GROUP BY symbol_id, calendar, monday HAVING sum(missing + not_due) = 0 AND sum(stored) > 0"
            "  AND count(*) = (SELECT count(*) FROM sessions AS s WHERE s.calendar = wanted_sessions.calendar"
            "   AND s.session BETWEEN date_trunc('week', min(wanted_sessions.session))::date"
            "   AND date_trunc('week', min(wanted_sessions.session))::date + 6)"
            ") SELECT symbol_id, monday FROM whole JOIN symbols AS y USING (symbol_id) WHERE y.active"
            " AND NOT EXISTS (SELECT FROM bars AS b WHERE b.symbol_id = whole.symbol_id AND b.timeframe = '1w'"
            "  AND b.session = monday AND b.ts > monday - interval '1 day' AND b.ts < monday + interval '1 day')",
            _values(scope),
        )
        return [Doubt("derived", symbol_id, "1d", "1w", monday, "") for symbol_id, monday in cursor.fetchall()]


def feature_days(conn: Connection, symbol_id: int, timeframe: Timeframe, zone: str) -> list[date]:
    """Days in `zone`, ascending, on which regular bars have no features, or features no such bar."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT (ts AT TIME ZONE %(zone)s)::date FROM ("
            "  SELECT ts, true AS there FROM bars"
            "  WHERE symbol_id = %(id)s AND timeframe = %(tf)s AND segment = 'regular') AS b"
            " FULL JOIN (SELECT ts, true AS there FROM features WHERE symbol_id = %(id)s AND timeframe = %(tf)s) AS f"
            " USING (ts) WHERE b.there IS NULL OR f.there IS NULL ORDER BY 1",
            {"id": symbol_id, "tf": timeframe, "zone": zone},
        )
        return [row[0] for row in cursor.fetchall()]
