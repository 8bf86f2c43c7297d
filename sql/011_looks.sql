-- When everything stored was held against what had been written.

-- One row per complete look at all followed symbols. sessions: how many were looked at; found: sessions by what was wrong
-- with them (changed, unvouched, forgotten, derived, features, stray); empty: nothing.
CREATE TABLE looks (
    looked_at timestamptz PRIMARY KEY,
    sessions  integer NOT NULL,
    found     jsonb NOT NULL
);
