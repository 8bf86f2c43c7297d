"""`backfill symbols rename` and `alias`, with a stand-in of Polygon that counts what it is asked."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell
from backfill_pipeline_tests.standin import StandIn

WEEK = ("--start", "2024-05-13", "--end", "2024-05-17")
DAYS = ("2024-05-13", "2024-05-14", "2024-05-15", "2024-05-16", "2024-05-17")
BARS = "SELECT ctid::text, xmin::text FROM bars WHERE symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = %s)"


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn(now=datetime(2026, 11, 1, tzinfo=UTC)) as started:
        yield started


@pytest.fixture
def standin(running: StandIn) -> StandIn:
    running.reset()
    return running


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, running: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": running.key,
        "POLYGON_BASE_URL": running.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
    }
    with shell(server, **variables) as made:
        yield made


@pytest.fixture(scope="module")
def instance(desk: Shell) -> Iterator[dg.DagsterInstance]:
    with desk.instance() as made:
        yield made


def names(desk: Shell, symbol: str) -> list[tuple[object, ...]]:
    rows = json.loads(desk.quick("symbols", "list", "--json").stdout)
    (row,) = [row for row in rows if row["symbol"] == symbol]
    return [tuple(name.values()) for name in row["names"]]


def keys(instance: dg.DagsterInstance, asset: str, symbol: str) -> set[str]:
    """The symbol's keys that are recorded as materialized."""
    found = instance.get_materialized_partitions(dg.AssetKey(asset))
    return {key.partition("|")[0] for key in found if key.endswith(f"|{symbol}")}


def test_adding_symbols_asks_the_provider_nothing(desk: Shell, standin: StandIn) -> None:
    assert desk.quick("symbols", "add", "S1", "S2", "S3").returncode == 0
    assert standin.requests == []


def test_a_renamed_symbol_is_complete_and_green_without_a_request(
    desk: Shell, standin: StandIn, instance: dg.DagsterInstance
) -> None:
    desk.quick("symbols", "add", "FB")
    ran = desk.quick("run", "--symbols", "FB", *WEEK)
    assert ran.returncode == 0, ran.stderr
    before = desk.query(BARS, "FB")
    standin.reset()

    renamed = desk.quick("symbols", "rename", "FB", "META", "--on", "2024-05-15")
    assert renamed.returncode == 0, renamed.stderr
    assert renamed.stdout.splitlines() == [
        "FB is META since 2024-05-15; its bars stay",
        "next: backfill run --symbols META --days 30 records what is complete under the new name",
    ]
    for dimension in ("intraday_symbol", "daily_symbol"):
        members = instance.get_dynamic_partitions(dimension)
        assert ("META" in members, "FB" in members) == (True, False)
    assert keys(instance, "bars_1m", "META") == set()

    ran = desk.quick("run", "--symbols", "META", *WEEK)
    assert ran.returncode == 0, ran.stderr
    assert standin.requests == []
    assert desk.query(BARS, "META") == before
    assert len(before) > 5 * 390
    assert keys(instance, "bars_1m", "META") == keys(instance, "features_4h", "META") == set(DAYS)
    assert keys(instance, "features_1w", "META") == {"2024-05"}
    assert names(desk, "META") == [("*", "FB", None, "2024-05-14"), ("*", "META", "2024-05-15", None)]
    assert "FB to 2024-05-14" in desk.quick("symbols", "list").stdout


def test_a_symbol_is_renamed_in_the_chains_it_is_followed_in(desk: Shell, instance: dg.DagsterInstance) -> None:
    desk.quick("symbols", "add", "DAILY", "--bars", "1d")
    assert desk.quick("symbols", "rename", "DAILY", "DAYS", "--on", "2024-05-15").returncode == 0
    assert "DAYS" in instance.get_dynamic_partitions("daily_symbol")
    assert "DAYS" not in instance.get_dynamic_partitions("intraday_symbol")


def test_a_rename_that_was_killed_is_done_by_the_same_command(desk: Shell, instance: dg.DagsterInstance) -> None:
    """Partitions are moved before the registry is committed."""
    desk.quick("symbols", "add", "KILLED")
    instance.add_dynamic_partitions("intraday_symbol", ["DONE"])
    instance.delete_dynamic_partition("intraday_symbol", "KILLED")

    assert desk.quick("symbols", "rename", "KILLED", "DONE", "--on", "2024-05-15").returncode == 0

    for dimension in ("intraday_symbol", "daily_symbol"):
        assert {"DONE", "KILLED"} & set(instance.get_dynamic_partitions(dimension)) == {"DONE"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("TAKEN", "S1", "--on", "2024-05-15"), "S1 is registered already, as an instrument of its own; give another"),
        (("TYPO", "FINE", "--on", "2024-05-15"), "symbol TYPO not registered; add: backfill symbols add TYPO"),
        (("TAKEN", "TAKEN", "--on", "2024-05-15"), "TAKEN is called so already; give another name"),
        (("TAKEN", "FINE", "--on", "15 May"), "on '15 May' is not a date; write it as 2024-03-01"),
        (("TAKEN", "A|B", "--on", "2024-05-15"), "symbol 'A|B' holds '|'"),
        (
            ("TAKEN", "FINE", "--on", "2024-05-15", "--provider", "sample"),
            "provider 'sample' is not in use; use one of polygon",
        ),
    ],
)
def test_a_rename_that_cannot_be_is_one_line_and_changes_nothing(
    desk: Shell, instance: dg.DagsterInstance, arguments: tuple[str, ...], line: str
) -> None:
    desk.quick("symbols", "add", "TAKEN")
    before = desk.query("SELECT symbol FROM symbols ORDER BY 1"), instance.get_dynamic_partitions("daily_symbol")

    assert one_line(desk.quick("symbols", "rename", *arguments)).startswith(f"backfill: {line}")

    assert (
        desk.query("SELECT symbol FROM symbols ORDER BY 1"),
        instance.get_dynamic_partitions("daily_symbol"),
    ) == before


def test_a_ticker_that_became_free_is_the_next_instrument_s_from_the_day_after(desk: Shell) -> None:
    desk.quick("symbols", "add", "FIRST")
    desk.quick("symbols", "rename", "FIRST", "SECOND", "--on", "2024-05-15")

    assert desk.quick("symbols", "add", "FIRST").returncode == 0

    assert desk.query("SELECT first_date, lifetime_source FROM symbols WHERE symbol = 'FIRST'") == [
        (date(2024, 5, 15), "symbol_names")
    ]


def test_a_provider_s_own_spelling_is_stated_shown_and_belongs_to_nobody_else(desk: Shell) -> None:
    desk.quick("symbols", "add", "BRK/B")

    stated = desk.quick("symbols", "alias", "BRK/B", "--provider", "polygon", "--ticker", "BRK.B", "--to", "2024-12-31")
    assert stated.stdout == "polygon is asked for BRK/B as BRK.B\n"
    assert names(desk, "BRK/B") == [("polygon", "BRK.B", None, "2024-12-31")]

    desk.quick("symbols", "alias", "BRK/B", "--provider", "polygon", "--ticker", "BRK.B")
    line = one_line(desk.quick("symbols", "add", "BESIDE", "BRK.B"))
    assert line == "backfill: BRK.B is what BRK/B is called until now at polygon: it is followed already; use BRK/B"
    assert desk.query("SELECT count(*) FROM symbols WHERE symbol = 'BESIDE'") == [(0,)]
    wrong = ("alias", "BRK/B", "--provider", "binance", "--ticker", "BRKB")
    assert one_line(desk.quick("symbols", *wrong)) == ("backfill: provider 'binance' is not in use; use one of polygon")
