-- Progress of backfills, kept while they run by every process that works on one.

-- Days of a set of dates.
CREATE FUNCTION days_in(days datemultirange) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT coalesce(sum(upper(part) - lower(part)), 0)::integer FROM unnest(days) AS part $$;

-- One row per backfill of Dagster, or run that is no part of one, or command that found nothing to do (dagster_id NULL).
-- start_date and end_date both included. progress_pct: settled days of all that is to do, 0 to 100, never falling.
-- Records are rows of bars: fetched from providers, inserted with all that is derived.
CREATE TABLE backfill_jobs (
    id                        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    dagster_id                text UNIQUE,
    origin                    text NOT NULL CHECK (origin IN ('ui', 'schedule', 'sensor', 'shell')),
    symbols                   text[] NOT NULL DEFAULT '{}',
    start_date                date,
    end_date                  date,
    timeframes                text[] NOT NULL DEFAULT '{}',
    status                    text NOT NULL DEFAULT 'queued'
                              CHECK (status IN ('queued', 'running', 'completed', 'failed', 'canceled')),
    progress_pct              double precision NOT NULL DEFAULT 0 CHECK (progress_pct BETWEEN 0 AND 100),
    symbols_completed         integer NOT NULL DEFAULT 0,
    symbols_total             integer NOT NULL DEFAULT 0,
    current_symbol            text,
    current_timeframe         text,
    total_records_fetched     bigint NOT NULL DEFAULT 0,
    total_records_inserted    bigint NOT NULL DEFAULT 0,
    error_message             text,
    created_at                timestamptz NOT NULL,
    started_at                timestamptz,
    completed_at              timestamptz,
    estimated_completion_time timestamptz
);
CREATE INDEX backfill_jobs_newest ON backfill_jobs (created_at DESC);
CREATE INDEX backfill_jobs_open ON backfill_jobs (id) WHERE status IN ('queued', 'running');

-- One row per job, symbol and timeframe of its chains.
CREATE TABLE backfill_job_progress (
    job_id           uuid NOT NULL REFERENCES backfill_jobs ON DELETE CASCADE,
    symbol           text NOT NULL,
    timeframe        text NOT NULL,
    status           text NOT NULL DEFAULT 'pending'
                     CHECK (status IN ('pending', 'running', 'completed', 'failed', 'skipped')),
    records_fetched  bigint NOT NULL DEFAULT 0,
    records_inserted bigint NOT NULL DEFAULT 0,
    error_message    text,
    started_at       timestamptz,
    completed_at     timestamptz,
    duration_seconds double precision,
    PRIMARY KEY (job_id, symbol, timeframe)
);

-- One row per job, symbol and base timeframe. Sets of days, because a union is the same in any order and however often
-- it is told: runs side by side and runs done twice count each day once. moved: rows of bars fetched and written.
CREATE TABLE backfill_job_days (
    job_id       uuid NOT NULL REFERENCES backfill_jobs ON DELETE CASCADE,
    symbol       text NOT NULL,
    timeframe    text NOT NULL CHECK (timeframe IN ('1m', '1d')),
    target       datemultirange NOT NULL,
    settled      datemultirange NOT NULL DEFAULT '{}',
    incomplete   datemultirange NOT NULL DEFAULT '{}',
    target_days  integer GENERATED ALWAYS AS (days_in(target)) STORED,
    settled_days integer GENERATED ALWAYS AS (days_in(settled * target)) STORED,
    moved        bigint NOT NULL DEFAULT 0,
    message      text,
    PRIMARY KEY (job_id, symbol, timeframe)
);

-- One row per Dagster run that works on a job. While its process lives it holds the shared advisory lock
-- (5, hashtext(run_id)); ended_at NULL and nobody holds it: the process is gone.
CREATE TABLE backfill_job_runs (
    run_id     text PRIMARY KEY,
    job_id     uuid NOT NULL REFERENCES backfill_jobs ON DELETE CASCADE,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz
);
CREATE INDEX backfill_job_runs_of ON backfill_job_runs (job_id);
