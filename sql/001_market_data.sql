-- Bars, what is wanted of them, what was asked and answered, and how complete they are.
-- Grain: stated above each table. Times are timestamptz (UTC); prices in the currency of the listing, unadjusted;
-- volume in shares or coins, possibly fractional. Runs with search_path = market.

CREATE TYPE timeframe AS ENUM ('1m', '5m', '15m', '30m', '1h', '4h', '1d', '1w');
CREATE TYPE segment AS ENUM ('pre', 'regular', 'post');
CREATE TYPE asset_class AS ENUM ('stock', 'etf', 'crypto');

-- One row per instrument.
CREATE TABLE symbols (
    symbol_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol          text COLLATE "C" NOT NULL UNIQUE,
    asset_class     asset_class NOT NULL,
    calendar        text NOT NULL,
    active          boolean NOT NULL DEFAULT true,
    priority        integer NOT NULL DEFAULT 100,
    first_date      date,
    last_date       date,
    lifetime_source text,
    added_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (first_date <= last_date)
);

-- One row per calendar and session. day_start and day_end are midnights of the session's date in the calendar's zone;
-- break_start and break_end equal close where there is no lunch break.
CREATE TABLE sessions (
    calendar    text NOT NULL,
    session     date NOT NULL,
    day_start   timestamptz NOT NULL,
    day_end     timestamptz NOT NULL,
    pre_open    timestamptz NOT NULL,
    open        timestamptz NOT NULL,
    break_start timestamptz NOT NULL,
    break_end   timestamptz NOT NULL,
    close       timestamptz NOT NULL,
    post_close  timestamptz NOT NULL,
    expected_1m integer NOT NULL,
    note        text,
    PRIMARY KEY (calendar, session)
);
CREATE INDEX sessions_day_start ON sessions (calendar, day_start);

-- One row per symbol, base timeframe and stretch that somebody asked to have and keep; stretches never overlap or touch.
CREATE TABLE wanted (
    symbol_id   integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe   timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    time_window tstzrange NOT NULL CHECK (NOT isempty(time_window)),
    PRIMARY KEY (symbol_id, timeframe, time_window)
);

-- One row per symbol, base timeframe and provider: what the provider can serve at all, and why no more.
-- What is wanted beyond it is neither expected nor asked for.
CREATE TABLE served (
    symbol_id   integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe   timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    provider    text NOT NULL,
    time_window tstzrange NOT NULL,
    reason      text NOT NULL,
    PRIMARY KEY (symbol_id, timeframe)
);

-- One row per symbol, timeframe and bar start. No foreign key: it costs a lookup a row in bulk loads, and rows are only
-- written under the symbol's lock. Fixed-width columns first, widest alignment kept, so that a row has no padding.
CREATE TABLE bars (
    symbol_id integer NOT NULL,
    timeframe timeframe NOT NULL,
    ts        timestamptz NOT NULL,
    session   date NOT NULL,
    segment   segment NOT NULL,
    open      double precision NOT NULL,
    high      double precision NOT NULL,
    low       double precision NOT NULL,
    close     double precision NOT NULL,
    volume    double precision NOT NULL,
    vwap      double precision,
    trades    integer,
    final     boolean NOT NULL,
    provider  text COLLATE "C" NOT NULL,
    PRIMARY KEY (symbol_id, timeframe, ts)
);

-- One row per bar that was changed or withdrawn: the values it had.
CREATE TABLE bar_revisions (
    symbol_id  integer NOT NULL,
    timeframe  timeframe NOT NULL,
    ts         timestamptz NOT NULL,
    session    date NOT NULL,
    segment    segment NOT NULL,
    open       double precision NOT NULL,
    high       double precision NOT NULL,
    low        double precision NOT NULL,
    close      double precision NOT NULL,
    volume     double precision NOT NULL,
    vwap       double precision,
    trades     integer,
    final      boolean NOT NULL,
    provider   text COLLATE "C" NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('restated', 'withdrawn')),
    revised_at timestamptz NOT NULL
);
CREATE INDEX bar_revisions_key ON bar_revisions (symbol_id, timeframe, ts);

-- One row per refused row of an answer; the same row refused for the same reason is kept once.
CREATE TABLE quarantine (
    symbol_id integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe timeframe NOT NULL,
    ts        timestamptz NOT NULL,
    "row"     jsonb NOT NULL,
    reason    text NOT NULL,
    provider  text NOT NULL,
    seen_at   timestamptz NOT NULL
);
CREATE UNIQUE INDEX quarantine_once ON quarantine (symbol_id, timeframe, ts, provider, reason, md5("row"::text));

-- One row per answered stretch. settled: fetched after the provider's settle delay, so that absence in it means something.
CREATE TABLE coverage (
    symbol_id     integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe     timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    time_window   tstzrange NOT NULL CHECK (NOT isempty(time_window)),
    provider      text NOT NULL,
    rows_received integer NOT NULL,
    rows_written  integer NOT NULL,
    settled       boolean NOT NULL,
    fetched_at    timestamptz NOT NULL,
    valid_until   timestamptz NOT NULL
);
CREATE INDEX coverage_key ON coverage (symbol_id, timeframe);

-- One row per symbol, base timeframe and session that was looked at. expected = stored + explained + missing, in base
-- bars; derived: regular bars of each derived timeframe that are stored and whole; due_at: when explained not_due ends.
CREATE TABLE session_status (
    symbol_id  integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe  timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    session    date NOT NULL,
    expected   integer NOT NULL,
    stored     integer NOT NULL,
    explained  jsonb NOT NULL,
    missing    integer NOT NULL,
    derived    jsonb NOT NULL,
    provider   text,
    due_at     timestamptz,
    checked_at timestamptz NOT NULL,
    PRIMARY KEY (symbol_id, timeframe, session)
);

-- One row per symbol, timeframe and regular bar. NULL until a column's window is full. Units: the data dictionary.
CREATE TABLE features (
    symbol_id        integer NOT NULL,
    timeframe        timeframe NOT NULL,
    ts               timestamptz NOT NULL,
    return_pct       double precision,
    log_return       double precision,
    volatility_20    double precision,
    atr_14           double precision,
    rsi_14           double precision,
    sma_20           double precision,
    sma_50           double precision,
    ema_12           double precision,
    ema_26           double precision,
    macd_signal_9    double precision,
    bollinger_pct_20 double precision,
    trend_slope_20   double precision,
    volume_z_20      double precision,
    dollar_volume    double precision,
    PRIMARY KEY (symbol_id, timeframe, ts)
);

CREATE VIEW market_data_all AS
SELECT s.symbol, b.timeframe, b.ts, b.session, b.segment, b.open, b.high, b.low, b.close, b.volume, b.vwap, b.trades,
       b.final, b.provider
FROM bars AS b JOIN symbols AS s USING (symbol_id);

CREATE VIEW market_data AS
SELECT symbol, timeframe, ts, session, open, high, low, close, volume, vwap, trades, final, provider
FROM market_data_all WHERE segment = 'regular';

-- The instant of microseconds since 1970-01-01 UTC, exact: how programs pass arrays of times.
CREATE FUNCTION instant(micros bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT timestamptz '1970-01-01 00:00:00+00' + make_interval(secs => (micros / 1000000)::double precision)
         + (micros % 1000000) * interval '1 microsecond'
$$;
