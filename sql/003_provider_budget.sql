-- The request budget that all processes share, and what was learned about a key's plan. Clock: the database's.

-- One row per provider, base URL and key. next_at: the first moment that is not handed out yet. passed_over: slots in a
-- row that went past an older caller. paused_at: handing out has stopped. key_fingerprint: a hash, never the key.
CREATE TABLE provider_budget (
    provider        text NOT NULL,
    base_url        text NOT NULL,
    key_fingerprint text NOT NULL,
    next_at         timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00',
    handed_out      bigint NOT NULL DEFAULT 0,
    passed_over     integer NOT NULL DEFAULT 0,
    paused_at       timestamptz,
    budget_id       integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    PRIMARY KEY (provider, base_url, key_fingerprint)
);

-- One row per caller that waits for a slot; tickets are drawn in the order of arrival. rank: 0 nightly, 1 repair,
-- 2 backfill. back_at: when it asks again; one that does not is dead and stops counting. Worth nothing after a crash.
CREATE UNLOGGED TABLE provider_queue (
    ticket    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget_id integer NOT NULL,
    rank      smallint NOT NULL,
    back_at   timestamptz NOT NULL
);

-- One row per provider, base URL, key and limit: the day a limit is about, and when it was learned. day NULL: looked for,
-- and not to be known.
CREATE TABLE provider_limits (
    provider        text NOT NULL,
    base_url        text NOT NULL,
    key_fingerprint text NOT NULL,
    name            text NOT NULL,
    day             date,
    learned_at      timestamptz NOT NULL,
    PRIMARY KEY (provider, base_url, key_fingerprint, name)
);

-- The budget's row, made where there is none, locked until the end of the transaction.
CREATE FUNCTION locked_budget(provider_ text, base_url_ text, key_ text) RETURNS provider_budget
LANGUAGE plpgsql AS $$
DECLARE
    b provider_budget;
BEGIN
    LOOP
        SELECT * INTO b FROM provider_budget
        WHERE provider = provider_ AND base_url = base_url_ AND key_fingerprint = key_ FOR UPDATE;
        IF FOUND THEN
            RETURN b;
        END IF;
        INSERT INTO provider_budget (provider, base_url, key_fingerprint) VALUES (provider_, base_url_, key_)
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Live callers of a budget that come before the caller (rank_, ticket_) at time t: by rank, then by arrival; after
-- four slots in a row that passed somebody older, by arrival alone, so that nobody waits for ever.
CREATE FUNCTION callers_before(b provider_budget, rank_ integer, ticket_ bigint, t timestamptz, grace interval)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM provider_queue AS q
    WHERE q.budget_id = b.budget_id AND q.ticket <> ticket_ AND q.back_at > t - grace
      AND CASE WHEN b.passed_over >= 4 THEN q.ticket < ticket_
               ELSE (q.rank, q.ticket) < (rank_, ticket_) END
$$;

-- Hand out the next slot, or say when to ask again. ticket_ NULL: the first time. Slots are handed out `lead` seconds
-- ahead at most, so that one that is handed out is soon used and a more urgent caller never stands behind a long queue.
-- granted: sleep `wait` seconds, then go. Else: `wait` seconds are expected; ask again with `ticket` after `pause`.
CREATE FUNCTION take_slot(
    provider_ text, base_url_ text, key_ text, rank_ integer, ticket_ bigint,
    gap double precision, lead double precision,
    OUT granted boolean, OUT wait double precision, OUT pause double precision, OUT ticket bigint, OUT is_paused boolean
) LANGUAGE plpgsql AS $$
DECLARE
    b provider_budget := locked_budget(provider_, base_url_, key_);
    t timestamptz := clock_timestamp();
    grace interval := make_interval(secs => least(1, greatest(gap, 0.1)));
    newest bigint := coalesce(ticket_, 9223372036854775807);
    slot timestamptz := greatest(b.next_at, t);
    ahead bigint := callers_before(b, rank_, newest, t, grace);
BEGIN
    is_paused := b.paused_at IS NOT NULL;
    wait := extract(epoch FROM slot - t) + ahead * gap;
    ticket := ticket_;
    granted := NOT is_paused AND ahead = 0 AND wait <= lead;
    IF granted THEN
        UPDATE provider_budget SET
            next_at = slot + make_interval(secs => gap),
            handed_out = b.handed_out + 1,
            passed_over = CASE WHEN EXISTS (
                SELECT FROM provider_queue AS q
                WHERE q.budget_id = b.budget_id AND q.ticket < newest AND q.back_at > t - grace
            ) THEN b.passed_over + 1 ELSE 0 END
        WHERE budget_id = b.budget_id;
        IF ticket_ IS NOT NULL THEN
            DELETE FROM provider_queue AS q WHERE q.ticket = ticket_ OR q.back_at < t - interval '1 minute';
        END IF;
        RETURN;
    END IF;
    -- A second at most: a pause, and whoever came in between, are noticed soon.
    pause := CASE WHEN is_paused THEN 1 ELSE least(1, greatest(wait - lead, 0.005)) END;
    UPDATE provider_queue AS q SET back_at = t + make_interval(secs => pause) WHERE q.ticket = ticket_;
    IF NOT FOUND THEN
        INSERT INTO provider_queue AS q (budget_id, rank, back_at)
        VALUES (b.budget_id, rank_, t + make_interval(secs => pause)) RETURNING q.ticket INTO ticket;
    END IF;
END
$$;

-- Seconds a newcomer of that rank would wait now, a pause aside.
CREATE FUNCTION slot_wait(provider_ text, base_url_ text, key_ text, rank_ integer, gap double precision)
RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT greatest(0, extract(epoch FROM b.next_at - clock_timestamp()))
         + gap * callers_before(b, rank_, 9223372036854775807, clock_timestamp(),
                                make_interval(secs => least(1, greatest(gap, 0.1))))
    FROM provider_budget AS b
    WHERE b.provider = provider_ AND b.base_url = base_url_ AND b.key_fingerprint = key_
$$;
