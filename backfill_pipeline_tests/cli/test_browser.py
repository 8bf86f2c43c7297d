"""Dagster's own pages in a real browser: what they say of the assets, and a backfill that is launched, watched and
repaired by clicking, with the real webserver and daemon.

Takes two minutes: Dagster's daemon looks for backfills every 30 s.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.browser import Browser, browser, needs_browser
from backfill_pipeline_tests.cli.test_ui import ask
from backfill_pipeline_tests.cli.test_ui_backfill import ui
from backfill_pipeline_tests.shell import Shell, by_polygon, shell
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.tables import Tables, differences

pytestmark = [needs_browser, pytest.mark.timeout(900)]

SYMBOLS = ("AAA", "BBB", "CCC")
CHOSEN = SYMBOLS[:2]
FIRST, LAST = "2026-07-27", "2026-07-31"  # Monday to Friday
BAD_DAY, MISSING = "2026-07-29", 30
HALF_PAST = datetime(2026, 7, 29, 14, 30, tzinfo=UTC)
# The daemon's look at backfills is 30 s apart, and it takes three of them, on a machine that may be busy.
LONG = 240.0
STATS = "assetKey {path} partitionStats {numMaterialized numFailed numMaterializing}"


@pytest.fixture(scope="module")
def clean(server: EmbeddedServer, standin: StandIn) -> Tables:
    """What one run leaves when the provider has everything."""
    with shell(server, **by_polygon(standin, BACKFILL_INTRADAY_START=FIRST)) as made:
        assert made.quick("symbols", "add", *SYMBOLS, "--bars", "1m").returncode == 0
        chosen = ("--symbols", ",".join(CHOSEN), "--timeframes", "1m")
        assert made.quick("run", *chosen, "--start", FIRST, "--end", LAST).returncode == 0
        return made.tables()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, standin: StandIn, clean: Tables) -> Iterator[Shell]:
    with shell(server, **by_polygon(standin, BACKFILL_INTRADAY_START=FIRST)) as made:
        assert made.quick("symbols", "add", *SYMBOLS, "--bars", "1m").returncode == 0
        standin.reset()
        yield made


@pytest.fixture(scope="module")
def port(desk: Shell) -> Iterator[int]:
    with ui(desk) as listening:
        yield listening


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def asset(port: int, name: str, view: str = "overview") -> str:
    return f"http://127.0.0.1:{port}/assets/{name}?view={view}"


def choose(page: Browser, port: int) -> None:
    """The dialog of the intraday group, with the chosen symbols and days in it."""
    page.open(f"http://127.0.0.1:{port}/locations/backfill_pipeline.definitions/asset-groups/intraday/lineage")
    page.push("Materialize all…")
    page.fill("ex: ", f"[{FIRST}...{LAST}]")
    page.click("Select a partition or create one")
    for symbol in CHOSEN:
        page.click(symbol)
    page.escape()
    page.reads("Launch runs to materialize 12 assets", "10 partitions")


def newest(desk: Shell, table: str) -> object:
    """The id of the newest backfill or run; None where there is none. The page tells it too, for five seconds."""
    column = {"bulk_actions": "key", "runs": "run_id"}[table]
    found = desk.dagster_query(f"SELECT {column} FROM {table} ORDER BY id DESC LIMIT 1")
    return found[0][0] if found else None


def progress(page: Browser) -> tuple[int, ...]:
    """Of bars_1m on a backfill's page: partitions targeted, in progress, succeeded, failed."""
    row = re.search(r"^bars_1m\n.*completed\n(\d+)\n(\d+)\n(\d+)\n(\d+)$", page.text, re.MULTILINE)
    return tuple(int(count) for count in row.groups()) if row else ()


def counted(port: int) -> dict[str, tuple[int, int, int]]:
    """Of each asset of the chain: partitions that are green, red, under way."""
    nodes: list[dict[str, Any]] = ask(port, f"{{assetNodes {{{STATS}}}}}")["assetNodes"]
    stats = {node["assetKey"]["path"][0]: node["partitionStats"] for node in nodes}
    names = ("numMaterialized", "numFailed", "numMaterializing")
    return {name: tuple(stats[name][key] for key in names) for name in asset_names(INTRADAY)}


def only_failed(page: Browser, port: int) -> None:
    """The list of partitions of bars_1m, with those that failed and no others."""
    page.open(asset(port, "bars_1m", "partitions"))
    page.reads("Failed (")
    for others in ("Materialized (", "Materializing (", "Missing ("):
        page.tick(others)


def test_the_pages_of_assets_say_what_they_are(page: Browser, port: int) -> None:
    page.open(asset(port, "bars_1m"))
    page.reads(
        "One bar a minute with a trade, as the provider has it.",  # description
        "market-data",  # owner
        "intraday",  # group
        "Postgres",  # kind
        "market.bars",  # table
        "traded; may be fractional [shares or coins]",  # column and unit
        "backfill_intraday",  # job
    )
    page.open(asset(port, "features_4h"))
    page.reads("Returns, volatility, trend and oscillators of regular 4h bars.", "market-data", "market.features")
    for name, column in (("corporate_actions", "split_from"), ("completeness", "complete_pct")):
        page.open(asset(port, name))
        page.reads("market-data", column)
    page.open(f"http://127.0.0.1:{port}/assets")
    page.reads("bars_15m", "Built from `5m`, anchored to each segment's start")


def test_a_backfill_is_launched_watched_and_repaired_by_clicking(
    page: Browser, port: int, desk: Shell, standin: StandIn, clean: Tables
) -> None:
    standin.market.withhold("BBB", HALF_PAST, HALF_PAST + timedelta(minutes=MISSING))

    choose(page, port)
    page.push("Launch backfill")
    page.open(f"http://127.0.0.1:{port}/runs/b/{page.until(lambda: newest(desk, 'bulk_actions'), 'a backfill')}")
    page.reads("In progress", "10 partitions")
    page.until(lambda: progress(page) == (10, 10, 0, 0), "ten partitions in progress", LONG)
    page.until(lambda: progress(page) == (10, 0, 9, 1), "nine succeeded, one failed", LONG)
    page.reads("Status\nFailed", seconds=LONG)

    assert sorted((seen.path.split("/")[4], seen.status) for seen in standin.requests) == [(s, 200) for s in CHOSEN]
    assert counted(port) == dict.fromkeys(asset_names(INTRADAY), (9, 1, 0))
    assert desk.query("SELECT session::text, missing FROM session_status WHERE missing > 0") == [(BAD_DAY, MISSING)]
    only_failed(page, port)
    page.reads("1 Partitions Selected\nFailed (1)\nMaterialized (9)\nMaterializing (0)\nMissing (", f"{BAD_DAY}\nBBB\n")
    page.click(BAD_DAY)
    page.click("BBB")
    page.reads(f"{BAD_DAY}|BBB\nRun ", "failed, and did not materialize this asset.")
    page.push("View logs")
    page.reads(f"1 of 5 partitions are not complete: BBB {BAD_DAY} 1m: {MISSING} of 390 bars are missing")
    page.open(f"{asset(port, 'bars_1m', 'checks')}&checkDetail=no_open_gaps")
    page.reads(f"{MISSING} bars missing, {BAD_DAY} 14:30Z to {BAD_DAY} 15:00Z", "Evaluation result\nFailed")

    standin.market.withheld.clear()
    standin.market.forget()
    standin.reset()
    choose(page, port)
    page.tick("Backfill only failed and missing partitions within selection")
    page.reads("Only 1 failed and missing partition")
    before = newest(desk, "runs")
    page.push("Launch 1 run")
    page.until(lambda: newest(desk, "runs") != before, "a run")
    page.open(f"http://127.0.0.1:{port}/runs/{newest(desk, 'runs')}")
    page.reads("RUN_SUCCESS", seconds=LONG)

    asked = [seen.path for seen in standin.requests]
    assert len(asked) == 1
    opens, ends = (round(moment.timestamp() * 1000) for moment in (HALF_PAST, HALF_PAST + timedelta(minutes=MISSING)))
    start, end = (int(text) for text in asked[0].split("?")[0].split("/")[-2:])
    assert "/BBB/" in asked[0]
    assert start <= opens < ends <= end + 60_000
    assert end - start < timedelta(days=1).total_seconds() * 1000, "more than the bad session was asked for"
    assert counted(port) == dict.fromkeys(asset_names(INTRADAY), (10, 0, 0))
    assert differences(desk.tables(), clean) == []
    only_failed(page, port)
    page.reads("0 Partitions Selected\nFailed (0)\nMaterialized (10)")
    page.open(f"{asset(port, 'bars_1m', 'checks')}&checkDetail=no_open_gaps")
    page.reads("Evaluation result\nPassed")
    for name in ("bars_1m", "features_1h"):
        page.open(asset(port, name))
        page.click("[Show Markdown]")
        page.until(lambda: page.wide("data:image/png") > 600, "a picture")
    assert standin.leaks == []
