-- One row at most: the mark that this database and Dagster's both carry while they are of the same day, and the grains that
-- Dagster's partitions were last brought in line with. Dagster's half of the mark is in its table kvs.
CREATE TABLE dagster_stamp (
    one_row        boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    stamp          text NOT NULL,
    intraday_grain text NOT NULL CHECK (intraday_grain IN ('day', 'week', 'month')),
    daily_grain    text NOT NULL CHECK (daily_grain IN ('day', 'week', 'month')),
    stamped_at     timestamptz NOT NULL
);
