-- Days on which a calendar may be wrong: sessions on which nothing traded, and trade on days that are no sessions.

-- kind: closed, no session because a person says so; unconfirmed, taken as closed because nothing traded; open, a session
-- because a person says so, though nothing traded. attempts, next_attempt_at: how often an unconfirmed one was asked for
-- again, and when next; NULL for no more.
ALTER TABLE calendar_overrides DROP CONSTRAINT calendar_overrides_kind_check,
    ADD CONSTRAINT calendar_overrides_kind_check CHECK (kind IN ('closed', 'unconfirmed', 'open')),
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at timestamptz;

-- One row per calendar, day and provider that gave reason to doubt the calendar: the provider's last word on whether
-- anything at all traded on the day.
CREATE TABLE calendar_evidence (
    calendar text NOT NULL,
    day      date NOT NULL,
    provider text COLLATE "C" NOT NULL,
    traded   boolean NOT NULL,
    seen_at  timestamptz NOT NULL,
    PRIMARY KEY (calendar, day, provider)
);
