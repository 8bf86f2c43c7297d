"""Runs of one UI backfill: whichever comes first asks for what all of them want, and the others ask for nothing."""

import time
from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.sites import NOW, Site, green, site
from backfill_pipeline_tests.standin import Market, StandIn

# Dagster's own code calls what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")

# Two weeks of Mondays to Fridays without a holiday, a month before the site's now.
DAYS = [f"2024-05-{day:02}" for day in (6, 7, 8, 9, 10, 13, 14, 15, 16, 17)]


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=("SPY",)), now=NOW) as started:
        yield started


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, standin: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("target"), provider(standin, now=NOW)) as made:
        yield made


def launched(desk: Site, keys: Sequence[str], assets: Sequence[str]) -> str:
    """A backfill as the UI launches it, kept by the instance; its id."""
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=f"target{time.monotonic_ns()}",
        asset_graph=build_definitions(desk.pipeline).resolve_asset_graph(),
        partition_names=list(keys),
        asset_selection=[dg.AssetKey(name) for name in assets],
        backfill_timestamp=NOW.timestamp(),
        tags={},
        dynamic_partitions_store=desk.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    desk.instance.add_backfill(backfill)
    return backfill.backfill_id


def part(
    desk: Site, backfill_id: str, chain: Chain, first: str, last: str, assets: Sequence[str] | None = None
) -> dg.ExecuteInProcessResult:
    """A run that Dagster cuts from a backfill."""
    tags = {
        BACKFILL_ID_TAG: backfill_id,
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    chosen = [dg.AssetKey(name) for name in assets or asset_names(chain)]
    return desk.run(f"backfill_{chain.name}", tags=tags, asset_selection=chosen)


def names(letter: str, count: int) -> list[str]:
    return [f"{letter}{number}" for number in range(count)]


@pytest.mark.parametrize(("by", "count"), [("date", 5), ("symbol", 2)])
def test_the_first_run_brings_the_minutes_of_all_its_symbols_and_the_others_ask_for_none(
    desk: Site, standin: StandIn, by: str, count: int
) -> None:
    symbols = names(by[0].upper(), count)
    desk.register(*symbols, bars=["1m"])
    keys = [f"{day}|{symbol}" for day in DAYS for symbol in symbols]
    backfill = launched(desk, keys, asset_names(INTRADAY))
    standin.reset()
    asked = []
    if by == "date":
        runs = [(f"{day}|{symbols[0]}", f"{day}|{symbols[-1]}") for day in DAYS]
    else:
        runs = [(f"{DAYS[0]}|{symbol}", f"{DAYS[-1]}|{symbol}") for symbol in symbols]
    for first, last in runs:
        part(desk, backfill, INTRADAY, first, last)
        asked.append(len(standin.requests))
    # Dates: the first run holds all symbols. Symbols: each run holds one, and all of its dates.
    assert asked == ([5] * 10 if by == "date" else [1, 2])
    assert desk.every_colour(INTRADAY, keys) == green(*keys)


def test_months_of_days_too(desk: Site, standin: StandIn) -> None:
    symbols = names("M", 3)
    desk.register(*symbols, bars=["1d"])
    months = ("2024-02", "2024-03", "2024-04")
    keys = [f"{month}|{symbol}" for month in months for symbol in symbols]
    backfill = launched(desk, keys, asset_names(DAILY))
    standin.reset()
    for month in months:
        part(desk, backfill, DAILY, f"{month}|{symbols[0]}", f"{month}|{symbols[-1]}")
        assert len(standin.requests) == 3
    assert desk.every_colour(DAILY, keys) == green(*keys)


def test_what_a_backfill_does_not_target_is_not_wanted(desk: Site, standin: StandIn) -> None:
    """Every other day: what lies between is neither wanted nor stored, though one request spans it all."""
    symbols = names("E", 2)
    desk.register(*symbols, bars=["1m"])
    every_other = DAYS[::2]
    backfill = launched(desk, [f"{day}|{symbol}" for day in every_other for symbol in symbols], asset_names(INTRADAY))
    standin.reset()
    part(desk, backfill, INTRADAY, f"{every_other[0]}|E0", f"{every_other[0]}|E1")
    assert len(standin.requests) == 2
    stored = "SELECT DISTINCT session FROM bars JOIN symbols USING (symbol_id) WHERE symbol = 'E1' ORDER BY session"
    targeted = [(date.fromisoformat(day),) for day in every_other]
    assert desk.query(stored) == targeted
    wanted = desk.query(
        "SELECT s.session FROM sessions AS s JOIN symbols AS y USING (calendar) JOIN wanted AS w USING (symbol_id)"
        " WHERE symbol = 'E1' AND w.time_window @> s.day_start ORDER BY session"
    )
    assert wanted == targeted


def test_a_backfill_of_what_is_derived_asks_for_nothing(desk: Site, standin: StandIn) -> None:
    desk.register("DERIVED", bars=["1m"])
    desk.chain("backfill_intraday", f"{DAYS[0]}|DERIVED", f"{DAYS[0]}|DERIVED")
    chosen = ["bars_5m", "features_5m"]
    backfill = launched(desk, [f"{day}|DERIVED" for day in DAYS], chosen)
    standin.reset()
    part(desk, backfill, INTRADAY, f"{DAYS[0]}|DERIVED", f"{DAYS[0]}|DERIVED", chosen)
    assert standin.requests == []
    assert desk.query("SELECT count(*) FROM wanted JOIN symbols USING (symbol_id) WHERE symbol = 'DERIVED'") == [(1,)]


def test_a_run_of_a_backfill_that_is_not_known_works_on_its_own_partitions(desk: Site, standin: StandIn) -> None:
    """As after its record was deleted, or on a copy of the instance."""
    desk.register("ALONE", bars=["1m"])
    standin.reset()
    part(desk, "gone", INTRADAY, f"{DAYS[0]}|ALONE", f"{DAYS[1]}|ALONE")
    assert len(standin.requests) == 1
    count = "SELECT count(DISTINCT session) FROM bars JOIN symbols USING (symbol_id) WHERE symbol = 'ALONE'"
    assert desk.query(count) == [(2,)]


def test_a_symbol_that_was_removed_from_the_registry_stops_no_other_of_the_backfill(
    desk: Site, standin: StandIn
) -> None:
    desk.register("STAYS", bars=["1m"])
    desk.instance.add_dynamic_partitions("intraday_symbol", ["STRAY"])
    keys = [f"{day}|{symbol}" for day in DAYS for symbol in ("STAYS", "STRAY")]
    backfill = launched(desk, keys, asset_names(INTRADAY))
    standin.reset()
    part(desk, backfill, INTRADAY, f"{DAYS[0]}|STAYS", f"{DAYS[0]}|STAYS")
    part(desk, backfill, INTRADAY, f"{DAYS[1]}|STAYS", f"{DAYS[-1]}|STAYS")
    assert len(standin.requests) == 1
    desk.instance.delete_dynamic_partition("intraday_symbol", "STRAY")
