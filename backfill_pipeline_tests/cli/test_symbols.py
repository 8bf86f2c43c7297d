"""`backfill symbols`: odd names, refused names, and partitions without a daemon."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell

ODD = ("NA", "TRUE", "1e5", "BRK/B", "X:BTCUSD", "CpL.CL")


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server, BACKFILL_PROVIDER="synthetic") as made:
        yield made


@pytest.fixture(scope="module")
def instance(desk: Shell) -> Iterator[dg.DagsterInstance]:
    with desk.instance() as made:
        yield made


def listed(desk: Shell) -> dict[str, dict[str, object]]:
    return {row["symbol"]: row for row in json.loads(desk.quick("symbols", "list", "--json").stdout)}


def test_odd_names_are_added_listed_and_are_partitions_at_once(desk: Shell, instance: dg.DagsterInstance) -> None:
    added = desk.backfill("symbols", "add", *ODD)

    assert added.returncode == 0, added.stderr
    assert added.stdout.splitlines() == [
        "added NA TRUE 1e5 BRK/B X:BTCUSD CpL.CL",
        "next: backfill run --symbols NA,TRUE,1e5,BRK/B,X:BTCUSD,CpL.CL --days 30",
    ]
    for dimension in ("intraday_symbol", "daily_symbol"):
        assert instance.get_dynamic_partitions(dimension) == list(ODD)
    of = listed(desk)
    assert set(ODD) <= set(of)
    assert (of["X:BTCUSD"]["asset_class"], of["X:BTCUSD"]["calendar"]) == ("crypto", "24/7")
    assert (of["NA"]["asset_class"], of["NA"]["calendar"]) == ("stock", "XNYS")
    table = desk.quick("symbols", "list").stdout
    assert all(name in table for name in ODD)


def test_an_odd_name_goes_all_the_way_to_bars(desk: Shell) -> None:
    desk.quick("symbols", "add", "BRK/B", "1e5")

    ran = desk.quick(
        "run", "--symbols", "BRK/B,1e5", "--timeframes", "1d", "--start", "2024-05-01", "--end", "2024-05-31"
    )

    assert ran.returncode == 0, ran.stderr
    assert desk.query(
        "SELECT symbol, count(*) FROM bars JOIN symbols USING (symbol_id) WHERE timeframe = '1d' GROUP BY 1 ORDER BY 1"
    ) == [("1e5", 22), ("BRK/B", 22)]


@pytest.mark.parametrize("name", ["'; drop table bars; --", "A|B", "A,B", "A...B", ""])
def test_what_cannot_be_a_key_is_refused_with_everything_beside_it(desk: Shell, name: str) -> None:
    line = one_line(desk.quick("symbols", "add", "BESIDE", name))

    assert line.startswith("backfill: symbol ")
    assert name in line
    assert desk.query("SELECT count(*) FROM symbols WHERE symbol = 'BESIDE'") == [(0,)]


def test_adding_again_says_so_and_changes_nothing(desk: Shell) -> None:
    desk.quick("symbols", "add", "TWICE")

    again = desk.quick("symbols", "add", "TWICE", "TWICE")

    assert again.returncode == 0
    assert again.stdout.splitlines()[0] == "followed already: TWICE"
    assert desk.query("SELECT count(*) FROM symbols WHERE symbol = 'TWICE'") == [(1,)]


def test_since_and_bars_say_what_is_wanted(desk: Shell, instance: dg.DagsterInstance) -> None:
    assert desk.quick("symbols", "add", "OLD", "--since", "2y", "--bars", "1d").returncode == 0

    assert listed(desk)["OLD"]["bars"] == ["1d"]
    assert "OLD" in instance.get_dynamic_partitions("daily_symbol")
    assert "OLD" not in instance.get_dynamic_partitions("intraday_symbol")
    today = datetime.now(UTC).date()
    since = desk.query(
        "SELECT (lower(time_window) AT TIME ZONE 'America/New_York')::date, upper_inf(time_window)"
        " FROM wanted JOIN symbols USING (symbol_id) WHERE symbol = 'OLD'"
    )
    assert len(since) == 1
    day, open_ended = since[0]
    assert (day.year, day.month, open_ended) == (today.year - 2, today.month, True)


def test_a_file_may_hold_comments_and_empty_lines(desk: Shell) -> None:
    Path(desk.folder / "mine.txt").write_text("# tech\nMSFT\n\n  GOOG   # class C\nMSFT\n", encoding="utf-8")

    added = desk.quick("symbols", "add", "--file", "mine.txt", "--bars", "1d")

    assert added.returncode == 0, added.stderr
    assert added.stdout.splitlines()[0] == "added MSFT GOOG"


def test_a_removed_symbol_has_no_partitions_and_keeps_its_bars(desk: Shell, instance: dg.DagsterInstance) -> None:
    run = ("run", "--symbols", "LEAVING", "--timeframes", "1d", "--start", "2024-05-01", "--end", "2024-05-31")
    desk.quick("symbols", "add", "LEAVING")
    assert desk.quick(*run).returncode == 0
    count = "SELECT count(*) FROM bars JOIN symbols USING (symbol_id) WHERE symbol = 'LEAVING' AND timeframe = '1d'"

    removed = desk.quick("symbols", "remove", "LEAVING")

    assert removed.stdout == "LEAVING: no longer followed; its bars stay\n"
    assert "LEAVING" not in instance.get_dynamic_partitions("daily_symbol")
    assert listed(desk)["LEAVING"]["active"] is False
    assert "LEAVING" not in desk.quick("matrix").stdout
    assert "removed" in one_line(desk.quick(*run))
    assert desk.query(count) == [(22,)]

    deleted = desk.quick("symbols", "remove", "LEAVING", "--with-bars")
    assert deleted.returncode == 0, deleted.stderr
    assert "rows deleted" in deleted.stdout
    assert desk.query(count) == [(0,)]


def test_an_unknown_symbol_among_those_to_remove_stops_all(desk: Shell) -> None:
    desk.quick("symbols", "add", "STAYS")

    line = one_line(desk.quick("symbols", "remove", "STAYS", "TYPO"))

    assert line == "backfill: symbol TYPO not registered; add: backfill symbols add TYPO"
    assert listed(desk)["STAYS"]["active"] is True


def test_a_priority_is_given_changed_and_otherwise_left_as_it_is(desk: Shell) -> None:
    for options, priority in (((), 100), (("--priority", "10"), 10), ((), 10), (("--priority", "200"), 200)):
        assert desk.quick("symbols", "add", "FIRST", *options).returncode == 0
        assert listed(desk)["FIRST"]["priority"] == priority
