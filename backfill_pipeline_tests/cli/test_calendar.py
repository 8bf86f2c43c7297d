"""`backfill calendar …`, on made-up bars of two weeks in which an exchange was closed for a day."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell
from backfill_pipeline_tests.steps.warehouses import backfill, micros, opened
from backfill_pipeline_tests.steps.warehouses import listed as registered

FIRST, LAST, DAY = date(2024, 5, 6), date(2024, 5, 17), date(2024, 5, 15)
LATER = datetime(2024, 6, 20, tzinfo=UTC)
STORM = [Window(micros(DAY, 0), micros(date(2024, 5, 16), 0))]


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server, BACKFILL_PROVIDER="synthetic") as made:
        assert made.quick("symbols", "add", "AAPL", "IBM").returncode == 0
        provider = SyntheticProvider(withheld={"AAPL": STORM, "IBM": STORM})
        with opened(made.variables["DATABASE_URL"], provider, LATER) as warehouse:
            for symbol, chain in (("AAPL", DAILY), ("AAPL", INTRADAY), ("IBM", DAILY)):
                backfill(warehouse, registered(warehouse, symbol), chain, FIRST, LAST)
        yield made


def missing(desk: Shell) -> dict[tuple[str, str], int]:
    rows = json.loads(desk.quick("matrix", "--json").stdout)
    return {(row["symbol"], row["timeframe"]): row["missing"] for row in rows if row["missing"]}


def test_a_day_is_closed_listed_and_opened_again(desk: Shell) -> None:
    assert missing(desk)[("IBM", "1w")] == 1

    ran = desk.backfill("calendar", "close", "XNYS", "2024-05-15", "--note", "storm & flood")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "XNYS 2024-05-15 is closed (storm & flood): 3 gaps closed; 2 weekly bars of 2 symbols changed",
        "its partitions turn green with the next run over them; undo: backfill calendar reopen XNYS 2024-05-15",
    ]
    assert missing(desk) == {}
    assert "Wed 2024-05-15" in desk.quick("calendar", "list").stdout
    (listed,) = json.loads(desk.quick("calendar", "list", "--json").stdout)
    assert (listed["calendar"], listed["session"], listed["note"]) == ("XNYS", "2024-05-15", "storm & flood")
    assert "closed: 2024-05-15 was closed by hand: storm & flood" in desk.quick("explain", "IBM", "2024-05-15").stdout

    opened_again = desk.quick("calendar", "reopen", "XNYS", "2024-05-15")
    assert opened_again.stdout.splitlines() == [
        "XNYS 2024-05-15 is a session again; 2 weekly bars of 2 symbols changed",
        "next: backfill run --start 2024-05-15 --end 2024-05-15",
    ]
    assert missing(desk)[("AAPL", "1m")] == 390
    assert desk.quick("calendar", "list").stdout.startswith("every day is as its calendar says; to close one: backfill")


def test_the_next_run_over_a_closed_day_is_good_and_asks_nobody(desk: Shell) -> None:
    assert desk.quick("calendar", "close", "XNYS", "2024-05-15", "--note", "storm").returncode == 0
    span = ("--timeframes", "1m", "--start", "2024-05-15", "--end", "2024-05-15")
    ran = desk.quick("run", "--symbols", "AAPL", *span)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "partitions: 1 complete; 0 requests" in ran.stdout
    assert desk.query("SELECT count(*) FROM bars WHERE session = %s", DAY) == [(0,)]


def test_what_cannot_be_closed_is_one_line(desk: Shell) -> None:
    def refused(*words: str, note: str = "storm") -> str:
        return one_line(desk.quick("calendar", "close", *words, "--note", note)).removeprefix("backfill: ")

    assert refused("XMOON", "2024-05-15").startswith("calendar 'XMOON' is not known; use an exchange_calendars name")
    assert refused("XNYS", "2024-05-18").startswith("2024-05-18 is no session of XNYS (weekend); nothing to close")
    assert refused("XNYS", "15.5.2024") == "date '15.5.2024' is not a date; write it as 2024-03-01"
    assert refused("XNYS", "2024-05-15", note=" ").endswith("is not closed without a reason; say why with --note")
    assert refused("XNYS", "2024-05-14") == (
        "XNYS 2024-05-14: bars of that day are stored, of 2 symbols (AAPL, IBM); if they are wrong, --force"
        " withdraws them"
    )
    assert one_line(desk.quick("calendar", "reopen", "XNYS", "2024-05-14")) == (
        "backfill: XNYS 2024-05-14 was not closed by hand; days that were: backfill calendar list"
    )
    forced = desk.quick("calendar", "close", "XNYS", "2024-05-14", "--note", "wrong bars", "--force")
    assert "0 gaps closed, 392 base bars withdrawn" in forced.stdout
