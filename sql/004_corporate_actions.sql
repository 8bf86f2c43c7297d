-- Splits, dividends, earnings: what providers tell, and what of it is believed. accepted: true is used, false is
-- refused or suspicious, NULL cannot be judged yet; reason says why in words, with the figures. Nothing told is ever
-- deleted.

-- One row per told split. split_to new shares for split_from old ones. Several rows of a symbol and date contradict
-- each other; at most one of them is accepted.
CREATE TABLE splits (
    symbol_id       integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    ex_date         date NOT NULL,
    split_from      double precision NOT NULL,
    split_to        double precision NOT NULL,
    adjustment_type text NOT NULL,
    provider_id     text NOT NULL,
    provider        text NOT NULL,
    accepted        boolean,
    reason          text NOT NULL,
    seen_at         timestamptz NOT NULL,
    withdrawn_at    timestamptz,
    CHECK (accepted IS NOT true OR (split_from > 0 AND split_to > 0 AND split_from <> split_to)),
    PRIMARY KEY (symbol_id, ex_date, provider, split_from, split_to)
);
CREATE UNIQUE INDEX splits_one_accepted ON splits (symbol_id, ex_date, provider) WHERE accepted;

-- One row per told payment; a regular and a special one may share a day. cash_amount per share of the ex-date.
CREATE TABLE dividends (
    symbol_id         integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    ex_date           date NOT NULL,
    cash_amount       double precision NOT NULL,
    currency          text NOT NULL,
    declaration_date  date,
    record_date       date,
    pay_date          date,
    distribution_type text NOT NULL,
    frequency         integer,
    provider_id       text NOT NULL,
    provider          text NOT NULL,
    accepted          boolean,
    reason            text NOT NULL,
    seen_at           timestamptz NOT NULL,
    withdrawn_at      timestamptz,
    PRIMARY KEY (symbol_id, ex_date, provider, cash_amount, currency, distribution_type)
);

-- One row per told report of earnings.
CREATE TABLE earnings (
    symbol_id         integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    report_date       date NOT NULL,
    report_time       text NOT NULL,
    date_status       text NOT NULL,
    fiscal_year       integer,
    fiscal_period     text NOT NULL,
    currency          text NOT NULL,
    actual_eps        double precision,
    estimated_eps     double precision,
    actual_revenue    double precision,
    estimated_revenue double precision,
    provider_id       text NOT NULL,
    provider          text NOT NULL,
    accepted          boolean,
    reason            text NOT NULL,
    seen_at           timestamptz NOT NULL,
    withdrawn_at      timestamptz,
    PRIMARY KEY (symbol_id, report_date, provider, provider_id)
);

-- One row per kind of event, provider, account (its address and a hash of the key) and symbol: everything from
-- asked_from on was asked, at asked_at for the last time.
CREATE TABLE events_asked (
    kind       text NOT NULL CHECK (kind IN ('splits', 'dividends', 'earnings')),
    provider   text NOT NULL,
    account    text NOT NULL,
    symbol_id  integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    asked_from date NOT NULL,
    asked_at   timestamptz NOT NULL,
    PRIMARY KEY (kind, provider, account, symbol_id)
);

-- One row per symbol and base timeframe (for its chain) whose accepted splits changed: features of sessions from
-- `since` on are to be computed anew, which takes the row away.
CREATE TABLE features_stale (
    symbol_id integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    since     date NOT NULL,
    marked_at timestamptz NOT NULL,
    PRIMARY KEY (symbol_id, timeframe)
);

CREATE AGGREGATE product(double precision) (SFUNC = float8mul, STYPE = double precision, INITCOND = '1');

-- The stretches of sessions between a symbol's accepted splits, from since to before until, and what a price in them is
-- multiplied by to compare with prices after the newest. Providers that tell the same split count once.
CREATE FUNCTION split_periods(symbol_id_ integer) RETURNS TABLE (since date, until date, factor double precision)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 3 AS $$
    WITH told AS (
        SELECT DISTINCT ex_date, split_to / split_from AS ratio FROM splits WHERE symbol_id = symbol_id_ AND accepted
    )
    SELECT coalesce(lag(ex_date) OVER (ORDER BY ex_date), '-infinity'), ex_date,
           1 / product(ratio) OVER (ORDER BY ex_date ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    FROM told
    UNION ALL
    SELECT coalesce(max(ex_date), '-infinity'), 'infinity', 1 FROM told
$$;

-- Regular bars on the share basis after the newest accepted split: prices × factor, volume ÷ factor, trades as is.
-- A week is stored as built from unadjusted days: with an ex-date inside, its early days are on another basis than its
-- late ones, and no factor mends it. Such a week is built here from its adjusted days.
-- The bounds on ts, wider than any time zone, say nothing new and let each stretch be one range of the index.
CREATE VIEW bars_adjusted AS
SELECT s.symbol, b.timeframe, b.ts, b.session, b.open * p.factor AS open, b.high * p.factor AS high,
       b.low * p.factor AS low, b.close * p.factor AS close, b.volume / p.factor AS volume, b.vwap * p.factor AS vwap,
       b.trades, p.factor, b.final, b.provider
FROM symbols AS s CROSS JOIN LATERAL split_periods(s.symbol_id) AS p
JOIN bars AS b ON b.symbol_id = s.symbol_id AND b.session >= p.since AND b.session < p.until
              AND b.ts > p.since - interval '2 days' AND b.ts < p.until + interval '2 days'
WHERE b.segment = 'regular' AND NOT (b.timeframe = '1w' AND EXISTS (
    SELECT FROM splits AS x
    WHERE x.symbol_id = b.symbol_id AND x.ex_date > b.session AND x.ex_date < b.session + 7 AND x.accepted
))
UNION ALL
SELECT s.symbol, w.timeframe, w.ts, w.session, d.open, d.high, d.low, d.close, d.volume, d.vwap, d.trades,
       p.factor, w.final, w.provider
FROM symbols AS s CROSS JOIN LATERAL split_periods(s.symbol_id) AS p
JOIN bars AS w ON w.symbol_id = s.symbol_id AND w.session + 6 >= p.since AND w.session + 6 < p.until
CROSS JOIN LATERAL (
    SELECT (array_agg(a.open * f.factor ORDER BY a.ts))[1] AS open, max(a.high * f.factor) AS high,
           min(a.low * f.factor) AS low, (array_agg(a.close * f.factor ORDER BY a.ts DESC))[1] AS close,
           sum(a.volume / f.factor) AS volume,
           CASE WHEN sum(a.volume / f.factor) FILTER (WHERE a.vwap IS NOT NULL) >= 0.95 * sum(a.volume / f.factor)
                THEN sum(a.vwap * a.volume) / nullif(sum(a.volume / f.factor) FILTER (WHERE a.vwap IS NOT NULL), 0)
           END AS vwap,
           CASE WHEN bool_and(a.trades IS NOT NULL) THEN sum(a.trades)::integer END AS trades
    FROM bars AS a JOIN split_periods(s.symbol_id) AS f ON a.session >= f.since AND a.session < f.until
    WHERE a.symbol_id = s.symbol_id AND a.timeframe = '1d' AND a.session BETWEEN w.session AND w.session + 6
      AND a.ts BETWEEN w.ts AND w.ts + interval '7 days'
) AS d
WHERE w.timeframe = '1w' AND EXISTS (
    SELECT FROM splits AS x
    WHERE x.symbol_id = w.symbol_id AND x.ex_date > w.session AND x.ex_date < w.session + 7 AND x.accepted
);
