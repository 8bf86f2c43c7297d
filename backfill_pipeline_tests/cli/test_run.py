"""`backfill run`: on the sample's real bars, and over a long range that is interrupted and killed on the way."""

import json
import os
import signal
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from backfill_pipeline.defs.partitions import chain_partitions
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, shell

DAYS = ("--symbols", "AAPL", "--timeframes", "1m", "--start", "2026-08-05", "--end")
INTRADAY_ASSETS = [f"{kind}_{t}" for kind in ("bars", "features") for t in ("1m", "5m", "15m", "30m", "1h", "4h")]


@pytest.fixture(scope="module")
def sample(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        yield made


def test_the_broken_off_day_is_the_only_red_one_and_its_last_bar_is_not_final(sample: Shell) -> None:
    ran = sample.backfill("run", *DAYS, "2026-08-06")

    assert ran.returncode == 1
    assert (
        "partitions: 1 complete, 1 incomplete; 1 request, 574 bars and 574 rows of features written in " in ran.stdout
    )
    assert "next: backfill matrix" not in ran.stdout
    assert ran.stderr.splitlines() == [
        "incomplete: AAPL 2026-08-06 1m: 349 of 390 bars are missing (the sample's data ends at 2026-08-06 14:11Z)",
        "next: the same command asks again for what is missing, and for nothing else",
    ]
    assert sample.runs() == [("master_backfill", "FAILURE")]
    last = sample.query(
        "SELECT ts AT TIME ZONE 'America/New_York', final FROM bars WHERE timeframe = '1m' ORDER BY ts DESC LIMIT 2"
    )
    assert [(f"{at:%m-%d %H:%M}", final) for at, final in last] == [("08-06 10:11", False), ("08-06 10:10", True)]
    partitions = chain_partitions(Settings.model_construct(), INTRADAY)
    keys = ["2026-08-05|AAPL", "2026-08-06|AAPL", "2026-08-07|AAPL"]
    with sample.instance() as instance:
        for asset in ("bars_1m", "bars_4h", "features_1m", "features_4h"):
            found = instance.get_status_by_partition(dg.AssetKey(asset), keys, partitions) or {}
            colours = {key: status.value for key, status in found.items() if status}
            assert colours == {"2026-08-05|AAPL": "MATERIALIZED", "2026-08-06|AAPL": "FAILED"}


def test_what_is_complete_starts_no_run_and_asks_nobody(sample: Shell) -> None:
    first = sample.quick("run", *DAYS, "2026-08-05", "--json")
    runs = sample.runs()
    rows = sample.query("SELECT count(*), max(xmin::text::bigint) FROM bars")

    again = sample.backfill("run", *DAYS, "2026-08-05")
    told = json.loads(sample.quick("run", *DAYS, "2026-08-05", "--json").stdout)

    assert (first.returncode, again.returncode, again.stderr) == (0, 0, "")
    assert again.stdout.splitlines() == [
        "everything asked for is complete already: nothing was started",
        "next: backfill matrix, or backfill ui",
    ]
    assert sample.runs() == runs
    assert sample.query("SELECT count(*), max(xmin::text::bigint) FROM bars") == rows
    assert (told["complete"], told["asked"], told["bars_written"], told["run_id"]) == (True, 0, 0, None)


def test_what_the_sample_does_not_have_is_named_and_not_a_success(sample: Shell) -> None:
    ran = sample.quick("run", "--symbols", "AAPL", "--timeframes", "1d", "--start", "2026-08-01", "--end", "2026-08-05")

    assert ran.returncode == 1
    assert ran.stderr == "AAPL 1d 2026-08 to 2026-08: not served: the sample has days of 2000-03-01 to 2013-03-01\n"


def test_a_range_that_ends_on_the_first_weekend_of_a_month_is_complete(server: EmbeddedServer) -> None:
    """Of September 2012 only its first two days are asked for, Saturday and Sunday."""
    ask = ("run", "--symbols", "MSFT", "--timeframes", "1d", "--start", "2012-08-27", "--end", "2012-09-02")
    with shell(server) as made:
        assert made.quick("symbols", "add", "MSFT", "--bars", "1d").returncode == 0
        ran = made.quick(*ask)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert made.query("SELECT timeframe::text, count(*) FROM bars GROUP BY 1") == [("1d", 5), ("1w", 1)]
        assert "nothing was started" in made.quick(*ask).stdout


def test_without_timeframes_a_symbol_is_asked_for_what_it_is_followed_in(server: EmbeddedServer) -> None:
    with shell(server) as made:
        assert made.quick("symbols", "add", "IBM", "--bars", "1d").returncode == 0
        ran = made.quick("run", "--start", "2013-02-01", "--end", "2013-02-28")
        assert ran.returncode == 0, ran.stderr
        assert made.query("SELECT DISTINCT timeframe::text FROM bars ORDER BY 1") == [("1d",), ("1w",)]
        assert made.query("SELECT DISTINCT timeframe::text FROM wanted") == [("1d",)]


def test_the_matrix_shows_what_is_missing_in_every_timeframe(sample: Shell) -> None:
    sample.quick("run", *DAYS, "2026-08-06")

    table = sample.quick("matrix").stdout
    rows = json.loads(sample.quick("matrix", "--json").stdout)

    cells = {row["timeframe"]: (row["expected"], row["stored"], row["missing"]) for row in rows}
    # Of the second session, the minutes from 09:30 to 10:10 are settled: eight whole 5-minute bars, one of 30.
    assert cells == {
        "1m": (780, 431, 349),
        "5m": (156, 86, 70),
        "15m": (52, 28, 24),
        "30m": (26, 14, 12),
        "1h": (14, 7, 7),
        "4h": (4, 2, 2),
    }
    assert "AAPL" in table
    assert "55.26" in table
    assert "-349" in table
    assert "1m 2026-08-05 to 2026-08-06" in table


def test_interrupted_and_killed_the_same_command_goes_on_to_the_end(server: EmbeddedServer) -> None:
    """Three half-years of minutes are stored one by one: the first run is interrupted, the second killed."""
    command = ("run", "--symbols", "SYN", "--timeframes", "1h", "--start", "2022-01-03", "--end", "2023-06-30")
    with shell(server, BACKFILL_PROVIDER="synthetic") as long:
        assert long.quick("symbols", "add", "SYN", "--bars", "1m").returncode == 0

        interrupted = long.start(*command)
        _wait_for_sessions(long, 124)
        os.kill(interrupted.pid, signal.SIGINT)
        out, err = interrupted.communicate(timeout=60)
        assert interrupted.returncode == 130, err
        assert "interrupted: what is stored stays; the same command goes on from there" in err
        assert "Traceback" not in err
        assert "partitions: " in out
        assert "1 request, " in out or "2 requests, " in out

        stored = _sessions(long)
        assert stored < 375
        killed = long.start(*command)
        _wait_for_sessions(long, stored + 124)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert _sessions(long) < 375

        last = long.backfill(*command, "--json")

        assert last.returncode == 0, last.stderr
        told = json.loads(last.stdout)
        assert told["asked"] == 1, "the third half-year alone"
        # NYSE sessions of three half-years from 2022: 124, 127 and 124; of these 2022-11-25 was a half day.
        full = {"1m": 390, "5m": 78, "15m": 26, "30m": 13, "1h": 7, "4h": 2}
        half = {"1m": 210, "5m": 42, "15m": 14, "30m": 7, "1h": 4, "4h": 1}
        assert long.query("SELECT timeframe::text, count(*) FROM bars GROUP BY 1 ORDER BY 1") == sorted(
            (t, 374 * full[t] + half[t]) for t in full
        )
        with long.instance() as instance:
            for asset in INTRADAY_ASSETS:
                assert len(instance.get_materialized_partitions(dg.AssetKey(asset))) == 544, asset
        assert long.quick(*command).stdout.startswith("everything asked for is complete already")


def _sessions(long: Shell) -> int:
    found = long.query("SELECT count(*) FROM session_status")[0][0]
    assert isinstance(found, int)
    return found


def _wait_for_sessions(long: Shell, count: int) -> None:
    deadline = time.monotonic() + 60
    while _sessions(long) < count:
        assert time.monotonic() < deadline, f"{_sessions(long)} of {count} sessions after a minute"
        time.sleep(0.05)
