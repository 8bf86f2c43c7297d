"""`backfill explain` on the sample's real bars, as it is printed and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell


@pytest.fixture(scope="module")
def sample(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        made.quick("run", "--symbols", "AAPL", "--timeframes", "1m", "--start", "2026-08-05", "--end", "2026-08-06")
        yield made


def test_a_bar_is_shown_with_its_values_parts_and_answers_in_the_calendars_zone(sample: Shell) -> None:
    ran = sample.backfill("explain", "AAPL", "2026-08-05", "10:31", "--timeframe", "1h")

    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [line.rstrip() for line in ran.stdout.splitlines()]
    assert lines[0] == "AAPL 1h at Wed 2026-08-05 10:31 America/New_York"
    assert lines[1].split(None, 1) == ["bar", "10:30 to 11:30 (14:30 to 15:30 UTC), session 2026-08-05, regular"]
    text = " ".join(ran.stdout.split())
    assert "volume 7,426,689 vwap unknown trades unknown" in text
    assert "why stored: built from 60 of 60 1m bars of sample; final" in text
    assert "parts 60 of 60 1m bars, 2026-08-05 10:30 to 2026-08-05 11:29" in text
    assert "session 2026-08-05 390 of 390 bars" in text
    assert "answered by sample at " in text
    assert text.endswith("at sample AAPL")


def test_where_there_is_no_bar_it_says_why_and_what_to_type(sample: Shell) -> None:
    ran = sample.quick("explain", "AAPL", "2026-08-04 10:00")
    text = " ".join(ran.stdout.split())
    assert ran.returncode == 0
    assert "no bar not wanted: nobody has asked for AAPL 1m of 2026-08-04; the sample has minutes of" in text
    assert "next backfill run --symbols AAPL --timeframes 1m --start 2026-08-04 --end 2026-08-04" in text
    closed = sample.quick("explain", "AAPL", "2026-08-08 10:00").stdout.splitlines()
    assert closed[1].split(None, 2) == ["no", "bar", "closed: 2026-08-08 is no session of XNYS (weekend)"]


def test_programs_read_the_same_as_json(sample: Shell) -> None:
    told = json.loads(sample.quick("explain", "AAPL", "2026-08-05T14:31+00:00", "--json").stdout)
    assert (told["state"], told["zone"], told["segment"]) == ("stored", "America/New_York", "regular")
    assert told["interval"] == {"start": "2026-08-05 14:31:00+00:00", "end": "2026-08-05 14:32:00+00:00"}
    (stored,) = sample.query("SELECT close, volume FROM bars WHERE timeframe = '1m' AND ts = '2026-08-05 14:31Z'")
    assert (told["bar"]["close"], told["bar"]["volume"]) == stored
    assert told["answers"]["rows"][0]["provider"] == "sample"
    assert told["statuses"][0]["expected"] == 390
    closed = json.loads(sample.quick("explain", "AAPL", "2026-08-08", "--json").stdout)
    assert (closed["timeframe"], closed["state"], closed["interval"]) == ("1d", "closed", None)


def test_a_wrong_time_is_one_line(sample: Shell) -> None:
    assert one_line(sample.quick("explain", "AAPL", "noon")).startswith(
        "backfill: time 'noon' is not known; write it as"
    )
    assert one_line(sample.quick("explain", "IBM", "2026-08-05")).startswith(
        "backfill: symbol IBM not registered; add:"
    )
