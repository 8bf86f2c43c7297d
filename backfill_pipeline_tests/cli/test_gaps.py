"""`backfill gaps` and `backfill gaps accept`, on made-up bars of which some are withheld."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell
from backfill_pipeline_tests.steps.warehouses import NEW_YORK, backfill, micros, opened
from backfill_pipeline_tests.steps.warehouses import listed as registered

FIRST, LAST, CUT = date(2024, 5, 6), date(2024, 5, 17), date(2024, 5, 14)
NOW = datetime.now(UTC)  # commands have the real clock: what was asked a moment ago is not to be asked again
WITHHELD = {
    "AAPL": [Window(micros(CUT, 11), micros(CUT, 11, 30))],
    "BRK.B": [Window(micros(date(2024, 5, 7), 0), micros(date(2024, 5, 10), 0))],
}


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server, BACKFILL_PROVIDER="synthetic") as made:
        assert made.quick("symbols", "add", "AAPL", "BRK.B", "IBM").returncode == 0
        with opened(made.variables["DATABASE_URL"], SyntheticProvider(withheld=WITHHELD), NOW) as warehouse:
            for symbol in ("AAPL", "BRK.B"):
                for chain in (DAILY, INTRADAY):
                    backfill(warehouse, registered(warehouse, symbol), chain, FIRST, LAST)
        yield made


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_gaps_are_listed_with_why_what_is_next_and_what_to_type(desk: Shell) -> None:
    ran = desk.backfill("gaps")

    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [line for line in ran.stdout.splitlines() if line.strip()]
    assert lines[0] == "7 open gaps of 2 symbols: 1,200 minutes and 3 days missing"
    assert cells(lines[1]) == ["gap", "symbol", "missing", "when (America/New_York)", "why", "next"]
    rows = [cells(line) for line in lines[3:6]]
    three = "2024-05-07 to 2024-05-09, 3 sessions"
    soon = f"asked again {(NOW + timedelta(days=1)).astimezone(NEW_YORK):%Y-%m-%d %H:%M}"
    assert [row[1:] for row in rows] == [
        ["BRK.B", "3 days", three, "missing: the session has no daily bar", soon],
        ["BRK.B", "1,170 minutes", three, "missing: not one minute of the session", soon],
        ["AAPL", "30 minutes", "Tue 2024-05-14 11:00 to 11:30", rows[2][4], soon],
    ]
    assert rows[2][4].startswith("outage: minutes hold 9")
    repair = "backfill run --symbols BRK.B --timeframes 1d --start 2024-05-07 --end 2024-05-09"
    accept = f"backfill gaps accept {rows[0][0]} --because 'why'"
    assert lines[6:] == [f"ask for the first of them now: {repair}", f"nothing will come: {accept}"]


def test_only_what_is_asked_for_is_listed(desk: Shell) -> None:
    def head(*options: str) -> str:
        ran = desk.quick("gaps", *options)
        assert ran.returncode == 0
        return ran.stdout.splitlines()[0]

    assert head("--symbols", "AAPL") == "1 open gap of 1 symbol: 30 minutes missing"
    assert head("--symbols", "AAPL,IBM", "--timeframe", "1d") == "no open gaps"
    assert head("--timeframe", "1d") == "3 open gaps of 1 symbol: 3 days missing"
    assert "and 2 lines more: --limit 3, or --json" in desk.quick("gaps", "--limit", "1").stdout
    assert desk.quick("symbols", "remove", "BRK.B").returncode == 0
    assert head() == "1 open gap of 1 symbol: 30 minutes missing"
    assert head("--symbols", "BRK.B").startswith("6 open gaps of 1 symbol")
    assert desk.quick("symbols", "add", "BRK.B").returncode == 0


def test_sessions_that_nobody_was_asked_for_are_counted_beside(desk: Shell) -> None:
    assert "nobody" not in desk.quick("gaps").stdout
    desk.query(
        "INSERT INTO wanted SELECT symbol_id, '1d', '[2024-05-06 04:00Z, 2024-05-11 04:00Z)' FROM symbols"
        " WHERE symbol = 'IBM'"
    )
    told = "not in here: 5 sessions that nobody has been asked for yet; ask: backfill run"
    assert told in desk.quick("gaps").stdout.splitlines()
    assert desk.quick("gaps", "--symbols", "IBM").stdout.splitlines() == ["no open gaps", told]
    assert told not in desk.quick("gaps", "--symbols", "AAPL").stdout
    desk.query("DELETE FROM wanted WHERE symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = 'IBM')")


def test_programs_read_every_column_of_every_gap(desk: Shell) -> None:
    told = json.loads(desk.quick("gaps", "--json", "--limit", "1").stdout)
    columns = desk.query(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'market' AND table_name = 'gaps'"
    )
    expected = {str(row[0]) for row in columns} - {"symbol_id", "time_window"}
    assert all(set(row) == expected | {"symbol", "start", "end", "why", "repair"} for row in told)
    stored = desk.query("SELECT gap_id, lower(time_window)::text, evidence FROM gaps WHERE resolved_at IS NULL")
    assert len(told) == 7
    assert sorted((row["gap_id"], row["evidence"]) for row in told) == sorted((row[0], row[2]) for row in stored)
    (cut,) = (row for row in told if row["symbol"] == "AAPL")
    assert (cut["start"], cut["end"]) == ("2024-05-14 15:00:00+00:00", "2024-05-14 15:30:00+00:00")
    assert (cut["expected"], cut["found"], cut["resolved_at"]) == (30, 0, None)
    assert json.loads(desk.quick("gaps", "--symbols", "IBM", "--json").stdout) == []


def test_an_accepted_gap_explains_its_bars_and_its_partition_turns_green(desk: Shell) -> None:
    (number,) = desk.query("SELECT gap_id FROM gaps JOIN symbols USING (symbol_id) WHERE symbol = 'AAPL'")[0]

    ran = desk.backfill("gaps", "accept", str(number), "--because", "one feed lost them")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "AAPL 1m 2024-05-14: complete: 360 of 390 bars, the others explained",
        "a partition whose sessions are complete turns green with the next run over it",
    ]
    assert "accepted: one feed lost them" in desk.quick("gaps", "--symbols", "AAPL", "--all").stdout
    assert desk.quick("gaps", "--symbols", "AAPL").stdout == "no open gaps\n"
    # The provider of this shell has the half hour; nobody asks it, and the run is good.
    span = ("--timeframes", "1m", "--start", "2024-05-14", "--end", "2024-05-14")
    again = desk.quick("run", "--symbols", "AAPL", *span)
    assert (again.returncode, again.stderr) == (0, "")
    assert "partitions: 1 complete; 0 requests" in again.stdout
    assert desk.query("SELECT count(*) FROM bars WHERE timeframe = '1m' AND session = %s", CUT) == [(360 + 390,)]
    with desk.instance() as instance:
        import dagster as dg

        assert instance.get_materialized_partitions(dg.AssetKey("bars_4h")) == {"2024-05-14|AAPL"}


def test_what_cannot_be_accepted_or_listed_is_one_line(desk: Shell) -> None:
    because = ("--because", "lost")
    rows = desk.query(
        "SELECT gap_id FROM gaps JOIN symbols USING (symbol_id) WHERE symbol = 'BRK.B' AND timeframe = '1d' ORDER BY 1"
    )
    first, last = rows[0][0], rows[-1][0]
    assert one_line(desk.quick("gaps", "accept", "99", *because)) == (
        "backfill: gap 99 is not known; open gaps: backfill gaps"
    )
    assert one_line(desk.quick("gaps", "accept", "nine", *because)).startswith("backfill: gap 'nine' is not known;")
    assert one_line(desk.quick("gaps", "accept", f"{first}", "--because", " ")) == (
        f"backfill: gap {first} is not accepted without a reason; say why with --because"
    )
    assert desk.quick("gaps", "accept", f"{first}-{last}", *because).returncode == 0
    assert one_line(desk.quick("gaps", "accept", f"{first}", *because)).endswith("(accepted); nothing to accept")
    assert one_line(desk.quick("gaps", "--symbols", "XX")).startswith("backfill: symbol XX not registered; add:")
    assert one_line(desk.quick("gaps", "--timeframe", "1h")) == (
        "backfill: timeframe '1h': gaps are of 1m and 1d; the others are built of these"
    )
