-- What can be served: a row per provider, because several may serve one symbol, each its own stretch. Grain: one row per
-- symbol, base timeframe and provider.

ALTER TABLE served DROP CONSTRAINT served_pkey, ADD PRIMARY KEY (symbol_id, timeframe, provider);
