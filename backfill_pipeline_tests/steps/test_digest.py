"""The morning's message, from tables that a night has filled."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backfill_pipeline.steps.digest import digest, evening
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, ProviderKey
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate

BEGAN = datetime(2024, 6, 5, 2, tzinfo=UTC)
OVER = BEGAN + timedelta(minutes=7, seconds=24)

BEFORE = """
INSERT INTO symbols (symbol, asset_class, calendar) VALUES ('ABC', 'stock', 'XNYS'), ('<D&F>', 'stock', 'XNYS');
INSERT INTO sessions (calendar, session, day_start, day_end, pre_open, open, break_start, break_end, close,
                      post_close, expected_1m)
SELECT 'XNYS', d, d + time '04:00', d + interval '28h', d + time '08:00', d + time '13:30', d + time '20:00',
       d + time '20:00', d + time '20:00', d + interval '24h', 390
FROM (SELECT (date '2024-06-03' + n) AS d FROM generate_series(0, 1) AS n) AS days;
INSERT INTO provider_budget (provider, base_url, key_fingerprint, handed_out) VALUES ('polygon', 'u', 'f', 100);
INSERT INTO gaps (symbol_id, timeframe, time_window, expected, found, verdict, evidence, attempts, next_attempt_at,
                  detected_at)
SELECT symbol_id, '1m', '[2024-06-03 13:30Z,2024-06-03 13:40Z)', 10, 0, 'outage', '{}', 2, '2024-06-11 02:00Z',
       '2024-06-04 02:00Z' FROM symbols WHERE symbol = 'ABC';
"""
AT_NIGHT = """
UPDATE provider_budget SET handed_out = 137, paused_at = now();
INSERT INTO gaps (symbol_id, timeframe, time_window, expected, found, verdict, evidence, next_attempt_at, detected_at)
SELECT symbol_id, '1d', '[2024-06-03 04:00Z,2024-06-05 04:00Z)', 2, 0, 'missing', '{}', '2024-06-06 02:00Z',
       '2024-06-05 02:01Z' FROM symbols WHERE symbol = '<D&F>';
INSERT INTO coverage (symbol_id, timeframe, time_window, provider, rows_received, rows_written, settled, fetched_at,
                      valid_until)
SELECT symbol_id, '1m', '[2024-06-04 04:00Z,2024-06-05 04:00Z)', 'polygon', 390, 1390, true, '2024-06-05 02:02Z',
       'infinity' FROM symbols;
INSERT INTO splits (symbol_id, ex_date, split_from, split_to, adjustment_type, provider_id, provider, accepted, reason,
                    seen_at)
SELECT symbol_id, day, 1, ratio, 'forward_split', 'x', 'polygon', ratio > 2, 'no price moved', seen
FROM symbols, (VALUES (date '2024-06-03', 2, timestamptz '2024-06-05 02:00Z'),
                      ('2024-06-03', 3, '2024-06-05 02:00Z'), ('2023-06-05', 2, '2023-06-05 02:00Z'))
              AS told (day, ratio, seen)
WHERE symbol = 'ABC';
"""


def test_a_digest_says_what_came_what_is_missing_and_when_it_is_asked_for_again(database_url: str) -> None:
    migrate(database_url)
    with closing(connect(database_url)) as conn:
        with conn, conn.cursor() as cursor:
            cursor.execute(BEFORE)
        since = evening(conn, BEGAN)
        with conn, conn.cursor() as cursor:
            cursor.execute(AT_NIGHT)
        body = json.loads(digest(conn, since, OVER, "the-run", (), ()).body())
    assert body["title"] == "night: good; open gaps lack 12 bars"
    assert body["text"].splitlines()[1:] == [
        "added or corrected: 2,780 minutes of 2 symbols",
        "open gaps: 2, 1 of them new; 12 bars of 2 symbols",
        "&lt;D&amp;F&gt; 1d 2024-06-03 to 2024-06-04: 2 bars missing, asked 1 time, again at 2024-06-06 02:00 UTC",
        "ABC 1m 2024-06-03: 10 bars outage, asked 3 times, again at 2024-06-11 02:00 UTC",
        "corporate action not believed: ABC 2024-06-03 split: no price moved (polygon)",
        "37 polygon requests took their turns, all processes together, in 0:07:24",
        "requests to polygon are paused; `backfill resume` lets them go on",
        "repair: backfill run --symbols '&lt;D&amp;F&gt;' --timeframes 1d --start 2024-06-03 --end 2024-06-04",
    ]
    assert body["symbols"] == ["<D&F>", "ABC"]
    assert body["command"] == "backfill run --symbols '<D&F>' --timeframes 1d --start 2024-06-03 --end 2024-06-04"


def test_requests_are_those_of_all_processes_from_the_nights_beginning_to_its_end(database_url: str) -> None:
    """By the budget that gives the turns: not those of the day before, and none where there are no turns to take."""
    migrate(database_url)
    key = ProviderKey("polygon", "https://api.example", "0123456789abcdef")
    with closing(connect(database_url)) as conn, closing(OwnConnection(database_url)) as mine:
        night, free = PostgresBudget(mine, key, 6000), PostgresBudget(mine, replace(key, provider="binance"), 0)
        for _ in range(2):
            night.take("backfill")
        since = evening(conn, BEGAN)
        for _ in range(3):
            night.take("nightly")
            free.take("nightly")
        with closing(OwnConnection(database_url)) as others:  # a person's backfill meanwhile, with another key, too
            PostgresBudget(others, key, 6000).take("backfill")
            PostgresBudget(others, replace(key, key_fingerprint="fedcba9876543210"), 6000).take("backfill")
        lines = json.loads(digest(conn, since, OVER, "the-run", (), ()).body())["text"].splitlines()
    assert [line for line in lines if "requests" in line] == [
        "5 polygon requests took their turns, all processes together, in 0:07:24"
    ]


def test_a_failed_night_lists_ten_lines_and_counts_the_rest(database_url: str) -> None:
    migrate(database_url)
    failure = [f"S{n} 2024-06-04 1m: 390 of 390 bars are missing" for n in range(30)]
    keys = [f"2024-06-04|S{n}" for n in range(30)]
    with closing(connect(database_url)) as conn:
        body = json.loads(digest(conn, evening(conn, BEGAN), OVER, "the-run", failure, keys).body())
    assert body["title"] == "night: 30 partitions are not complete"
    assert "not complete: S9 2024-06-04" in body["text"]
    assert "S10 " not in body["text"]
    assert "\nand 20 more\n" in body["text"]
    assert body["failed_count"] == 30
    assert body["command"] == "backfill run --days 7"
