-- What instruments are called: a ticker is no identity. It is renamed, swapped and given to other companies.

-- Ranges of text let the constraints below compare text without an extension, which a server may lack.
CREATE TYPE text_range AS RANGE (subtype = text, collation = "C");

-- One row per instrument, provider and period: its ticker there. provider *: every provider of which nothing else is
-- stated for those days. valid_from and valid_to are both included; -infinity: since ever; valid_to NULL: still so.
-- Where nothing is stated, the ticker is the symbol itself. by_hand: a person said so, and no provider overrules it.
CREATE TABLE symbol_names (
    symbol_id  integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    provider   text COLLATE "C" NOT NULL,
    ticker     text COLLATE "C" NOT NULL,
    valid_from date NOT NULL DEFAULT '-infinity',
    valid_to   date,
    by_hand    boolean NOT NULL,
    PRIMARY KEY (symbol_id, provider, valid_from),
    CHECK (valid_from <= valid_to),
    CONSTRAINT one_name_a_day EXCLUDE USING gist (
        int4range(symbol_id, symbol_id, '[]') WITH =,
        text_range(provider, provider, '[]') WITH =,
        daterange(valid_from, valid_to, '[]') WITH &&
    ),
    CONSTRAINT one_instrument_a_day EXCLUDE USING gist (
        text_range(provider, provider, '[]') WITH =,
        text_range(ticker, ticker, '[]') WITH =,
        daterange(valid_from, valid_to, '[]') WITH &&
    )
);
CREATE INDEX symbol_names_ticker ON symbol_names (ticker);

-- One row per instrument and provider that was asked who it is. instrument_id: the provider's own (composite FIGI), which
-- stays when the ticker changes; NULL unknown.
CREATE TABLE symbol_identities (
    symbol_id     integer NOT NULL REFERENCES symbols ON DELETE CASCADE,
    provider      text COLLATE "C" NOT NULL,
    instrument_id text COLLATE "C",
    looked_up_at  timestamptz NOT NULL,
    PRIMARY KEY (symbol_id, provider)
);
