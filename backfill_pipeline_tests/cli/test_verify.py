"""`backfill verify` on the sample's real bars: what another hand did is found, said, and repaired by what it says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell


@pytest.fixture(scope="module")
def sample(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL", "IBM").returncode == 0
        for symbol, timeframe, start, end in (
            ("AAPL", "1m", "2026-08-04", "2026-08-05"),
            ("IBM", "1d", "2012-12-17", "2013-02-15"),
        ):
            made.quick("run", "--symbols", symbol, "--timeframes", timeframe, "--start", start, "--end", end)
        yield made


def rows(of: Shell) -> list[tuple[object, ...]]:
    bars = of.query("SELECT to_jsonb(b) FROM bars AS b ORDER BY symbol_id, timeframe, ts")
    return bars + of.query("SELECT to_jsonb(f) FROM features AS f ORDER BY symbol_id, timeframe, ts")


def test_what_is_as_it_was_written_ends_with_zero(sample: Shell) -> None:
    ran = sample.backfill("verify")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("looked at 44 sessions of 2 symbols in ")
    assert ran.stdout.endswith(" s: everything is as it was written, and complete\n")
    told = json.loads(sample.quick("verify", "--json").stdout)
    assert (told["good"], told["findings"], told["lacking"], told["next"]) == (True, [], [], [])


def test_the_commands_that_it_names_repair_what_it_found(sample: Shell) -> None:
    before = rows(sample)
    sample.query("DELETE FROM bars WHERE timeframe = '1m' AND ts = '2026-08-05 15:00Z'")
    sample.query("UPDATE bars SET close = close * 2 WHERE timeframe = '1d' AND session = '2013-01-15'")
    sample.query("DELETE FROM features WHERE timeframe = '1h' AND ts = '2026-08-04 14:30Z'")
    ran = sample.quick("verify")
    assert ran.returncode == 1
    assert ran.stdout.endswith(" s: changed 2, features 1\n")
    stored, edited = "389 bars stored, 390 written", "prices or volumes are others than were written"
    open_again = "nothing vouches for it any more, and it is to be asked for again"
    commands = [
        "backfill run --symbols AAPL --timeframes 1m --start 2026-08-05 --end 2026-08-05",
        "backfill run --symbols IBM --timeframes 1d --start 2013-01-15 --end 2013-01-15",
    ]
    assert ran.stderr.splitlines() == [
        f"AAPL intraday 2026-08-05: changed by another hand: {stored}; {open_again}",
        "AAPL intraday 2026-08-04: features of 1h were not those of its bars; computed again",
        f"IBM daily 2013-01-15: changed by another hand: {edited}; {open_again}",
        "2 sessions lack bars; next:",
        *(f"  {command}" for command in commands),
    ]
    told = json.loads(sample.quick("verify", "--symbols", "IBM", "--json").stdout)
    assert (told["good"], told["counts"], told["next"]) == (False, {}, commands[1:])
    day = "2013-01-15"
    lacking = {"symbol": "IBM", "timeframe": "1d", "first": day, "last": day, "sessions": 1, "unseen": 0}
    assert told["lacking"] == [lacking]
    for command in commands:
        assert sample.quick(*shlex.split(command)[1:]).returncode == 0
    assert sample.quick("verify").returncode == 0
    assert rows(sample) == before


def test_a_wrong_symbol_is_one_line(sample: Shell) -> None:
    assert one_line(sample.quick("verify", "--symbols", "XX")).startswith("backfill: symbol XX not registered; add:")
