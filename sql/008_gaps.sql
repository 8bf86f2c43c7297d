-- Gaps: absent bars that nothing explains, what is done about them and what became of them; and days on which a calendar
-- is wrong.

-- One row per run of absent base bars: open while resolved_at is NULL, kept afterwards. expected bars in time_window, of
-- which found are there. verdict: outage where volume, or other symbols, prove that the provider lost them; missing
-- otherwise. evidence: what the verdict rests on. attempts: complete answers since that lacked them, too.
CREATE TABLE gaps (
    gap_id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol_id       integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe       timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    time_window     tstzrange NOT NULL CHECK (NOT isempty(time_window)),
    expected        integer NOT NULL CHECK (expected > found),
    found           integer NOT NULL,
    verdict         text NOT NULL CHECK (verdict IN ('missing', 'outage')),
    evidence        jsonb NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    detected_at     timestamptz NOT NULL,
    resolved_at     timestamptz,
    resolution      text,
    CHECK ((resolved_at IS NULL) = (resolution IS NULL))
);
CREATE UNIQUE INDEX gaps_open ON gaps (symbol_id, timeframe, time_window) WHERE resolved_at IS NULL;
CREATE INDEX gaps_due ON gaps (next_attempt_at) WHERE resolved_at IS NULL;
-- Those that explain their bars from then on; all others of the past are only history.
CREATE INDEX gaps_explained ON gaps (symbol_id, timeframe) WHERE resolution IN ('accepted', 'agreed no_trade');

-- One row per calendar and day that is no session whatever the calendar says. kind: closed.
CREATE TABLE calendar_overrides (
    calendar text NOT NULL,
    session  date NOT NULL,
    kind     text NOT NULL CHECK (kind = 'closed'),
    note     text NOT NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (calendar, session)
);
