-- The completeness view: complete_pct is cut, not rounded, so that 100 means 100. Grain: one row per symbol and timeframe of which anything is wanted. Counts are bars.

-- Regular bars of `minutes` each that a session has: one more for the short one before a lunch break or the close.
CREATE FUNCTION expected_bars(
    open timestamptz, break_start timestamptz, break_end timestamptz, close timestamptz, minutes integer
) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ceil(extract(epoch FROM break_start - open) / (60 * minutes))
          + ceil(extract(epoch FROM close - break_end) / (60 * minutes)))::integer
$$;

-- One row per wanted and servable session that has begun. A session that nobody has looked at yet is missing once it is
-- over, and one that was not due when it was looked at once it is due. The lateral joins make the plan the same whatever the statistics say: fresh tables have none, and without the
-- plan was 40 times slower.
CREATE VIEW wanted_sessions AS
SELECT w.symbol_id, w.timeframe AS base, w.calendar, s.session, s.open, s.break_start, s.break_end, s.close,
       n.expected, coalesce(t.stored, 0) AS stored,
       CASE WHEN NOT u.is_due THEN u.unsettled ELSE 0 END AS not_due,
       coalesce(t.missing, 0) + CASE WHEN u.is_due THEN u.unsettled ELSE 0 END AS missing,
       t.derived
FROM (
    SELECT symbol_id, timeframe, calendar,
           unnest(range_agg(wanted.time_window) * range_agg(coalesce(v.time_window, tstzrange(NULL, NULL)))) AS stretch
    FROM wanted JOIN symbols USING (symbol_id) LEFT JOIN served AS v USING (symbol_id, timeframe)
    GROUP BY symbol_id, timeframe, calendar
) AS w
CROSS JOIN LATERAL (
    SELECT * FROM sessions
    WHERE calendar = w.calendar AND day_start >= coalesce(lower(w.stretch), '-infinity')
      AND day_start < coalesce(upper(w.stretch), 'infinity') AND pre_open <= now()
    OFFSET 0
) AS s
CROSS JOIN LATERAL (SELECT CASE w.timeframe WHEN '1m' THEN s.expected_1m ELSE 1 END AS expected) AS n
LEFT JOIN LATERAL (
    SELECT stored, explained, missing, derived, due_at FROM session_status
    WHERE symbol_id = w.symbol_id AND timeframe = w.timeframe AND session = s.session
    LIMIT 1
) AS t ON true
CROSS JOIN LATERAL (
    SELECT coalesce(t.due_at, s.post_close) <= now() AS is_due,
           CASE WHEN t.missing IS NULL THEN n.expected
                ELSE coalesce((t.explained ->> 'not_due')::integer, 0) END AS unsettled
) AS u;

CREATE VIEW completeness AS
WITH base AS (
    SELECT symbol_id, base AS timeframe, min(session) AS wanted_from, max(session) AS wanted_to,
           sum(expected) AS expected, sum(stored) AS stored, sum(missing) AS missing, sum(not_due) AS not_due
    FROM wanted_sessions GROUP BY symbol_id, base
), derived_sessions AS (
    SELECT w.symbol_id, d.timeframe, w.session,
           expected_bars(w.open, w.break_start, w.break_end, w.close, d.minutes) AS expected,
           coalesce((w.derived ->> d.timeframe::text)::integer, 0) AS stored,
           w.missing > 0 AS is_missing, w.not_due > 0 AS is_not_due
    FROM wanted_sessions AS w
    CROSS JOIN (VALUES ('5m'::timeframe, 5), ('15m', 15), ('30m', 30), ('1h', 60), ('4h', 240)) AS d (timeframe, minutes)
    WHERE w.base = '1m'
), derived AS (
    SELECT symbol_id, timeframe, min(session), max(session), sum(expected), sum(stored),
           sum(expected - stored) FILTER (WHERE is_missing), sum(expected - stored) FILTER (WHERE is_not_due)
    FROM derived_sessions GROUP BY symbol_id, timeframe
), weeks AS (
    SELECT symbol_id, calendar, date_trunc('week', session)::date AS monday, count(*) AS sessions,
           bool_or(missing > 0) AS is_missing, bool_or(not_due > 0) AS is_not_due
    FROM wanted_sessions WHERE base = '1d' GROUP BY symbol_id, calendar, monday
), calendar_weeks AS (
    SELECT calendar, date_trunc('week', session)::date AS monday, count(*) AS sessions
    FROM sessions GROUP BY calendar, monday
), week_counts AS (
    SELECT w.symbol_id, w.monday, w.is_missing, w.is_not_due AND NOT w.is_missing AS is_not_due,
           EXISTS (SELECT FROM bars AS b WHERE b.symbol_id = w.symbol_id AND b.timeframe = '1w' AND b.session = w.monday
                   AND b.ts > w.monday - interval '1 day' AND b.ts < w.monday + interval '1 day') AS is_stored
    FROM weeks AS w JOIN calendar_weeks AS c USING (calendar, monday, sessions)
), weekly AS (
    SELECT symbol_id, '1w'::timeframe, min(monday), max(monday), count(*), count(*) FILTER (WHERE is_stored),
           count(*) FILTER (WHERE is_missing AND NOT is_stored), count(*) FILTER (WHERE is_not_due AND NOT is_stored)
    FROM week_counts GROUP BY symbol_id
), counted AS (
    SELECT * FROM base UNION ALL SELECT * FROM derived UNION ALL SELECT * FROM weekly
)
SELECT y.symbol, c.timeframe, c.wanted_from, c.wanted_to, c.expected::bigint, c.stored::bigint,
       (c.expected - c.stored - coalesce(c.missing, 0) - coalesce(c.not_due, 0))::bigint AS explained,
       coalesce(c.missing, 0)::bigint AS missing, coalesce(c.not_due, 0)::bigint AS not_due,
       CASE WHEN c.expected > coalesce(c.not_due, 0)
            THEN trunc(100.0 * (c.expected - coalesce(c.missing, 0) - coalesce(c.not_due, 0))
                       / (c.expected - coalesce(c.not_due, 0)), 4)
       END AS complete_pct
FROM counted AS c JOIN symbols AS y USING (symbol_id);
