-- Indexes for what is looked up every minute, all day: sessions that wait for something, and those that were judged of
-- late. Among 100,000 sessions either is a few.

CREATE INDEX session_status_open ON session_status (symbol_id, timeframe, session)
    WHERE missing > 0 OR due_at IS NOT NULL;
CREATE INDEX session_status_checked_at ON session_status (checked_at);
