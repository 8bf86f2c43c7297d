-- What our own writing left of each session, so that rows which were deleted or edited by another hand are found.

-- Over all base bars stored of the session, of every segment: how many they are, the sum of open + 2 high + 3 low
-- + 5 close + 7 vwap (0 where unknown), and the sum of volume. NULL: written before these were kept.
ALTER TABLE session_status
    ADD COLUMN bars integer,
    ADD COLUMN price_sum double precision,
    ADD COLUMN volume_sum double precision;
