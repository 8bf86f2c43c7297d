-- Final sessions that are asked for again: a random sample every month, and those that somebody doubts.

-- One row per month, symbol, base timeframe and session drawn. asked_at: when its answer stopped being believed, so that
-- the next run asks anew. differing: base bars that the new answer changed or withdrew; NULL until there is one.
CREATE TABLE samples (
    month     date NOT NULL CHECK (extract(day FROM month) = 1),
    symbol_id integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe timeframe NOT NULL CHECK (timeframe IN ('1m', '1d')),
    session   date NOT NULL,
    asked_at  timestamptz NOT NULL,
    differing integer,
    PRIMARY KEY (month, symbol_id, timeframe, session)
);

-- Answers about `stretch` are not believed any longer: they end when they were fetched. What else they cover stays as it
-- is. Rows of coverage are cut for that; a piece counts as received what is stored of it.
CREATE FUNCTION expire_coverage(symbol_id_ integer, timeframe_ timeframe, stretch tstzrange) RETURNS void
LANGUAGE sql AS $$
    WITH old AS (
        DELETE FROM coverage
        WHERE symbol_id = symbol_id_ AND timeframe = timeframe_ AND time_window && stretch AND valid_until > fetched_at
        RETURNING *
    ), pieces AS (
        SELECT old.*, time_window * stretch AS piece, fetched_at AS until FROM old
        UNION ALL
        SELECT old.*, unnest(tstzmultirange(time_window) - tstzmultirange(stretch)), valid_until FROM old
    )
    INSERT INTO coverage (symbol_id, timeframe, time_window, provider, rows_received, rows_written, settled, fetched_at,
                          valid_until)
    SELECT p.symbol_id, p.timeframe, p.piece, p.provider, n.bars, least(p.rows_written, n.bars), p.settled,
           p.fetched_at, p.until
    FROM pieces AS p CROSS JOIN LATERAL (
        SELECT count(*)::integer AS bars FROM bars AS b
        WHERE b.symbol_id = p.symbol_id AND b.timeframe = p.timeframe
          AND b.ts >= lower(p.piece) AND b.ts < upper(p.piece)
    ) AS n
$$;

-- A person takes the provider's word: the sessions first to last of a base timeframe are open to correction once more, and
-- the next run asks for them and stores what it hears, however much that withdraws. Returns the bars that are no longer
-- final. Waits for a run that works on the symbol.
CREATE FUNCTION reopen(symbol_ text, timeframe_ timeframe, first_ date, last_ date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    s symbols;
    opened integer;
BEGIN
    SELECT * INTO s FROM symbols WHERE symbol = symbol_;
    IF NOT FOUND OR timeframe_ NOT IN ('1m', '1d') THEN
        RAISE 'reopen: no 1m or 1d bars of %, timeframe %; symbols: backfill symbols list', symbol_, timeframe_;
    END IF;
    PERFORM pg_advisory_xact_lock(CASE timeframe_ WHEN '1m' THEN 1 ELSE 2 END, s.symbol_id);
    PERFORM expire_coverage(s.symbol_id, timeframe_, tstzrange(min(day_start), max(day_end)))
    FROM sessions WHERE calendar = s.calendar AND session BETWEEN first_ AND last_ HAVING count(*) > 0;
    UPDATE bars SET final = false
    WHERE symbol_id = s.symbol_id AND timeframe = timeframe_ AND session BETWEEN first_ AND last_ AND final;
    GET DIAGNOSTICS opened = ROW_COUNT;
    RETURN opened;
END
$$;
