"""What a run leaves to look at: a picture on what it recorded last of each asset, and a table of what it did."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from PIL import Image

from backfill_pipeline.defs import running
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, metadata, site

WEEK = ("2024-05-13", "2024-05-14", "2024-05-15", "2024-05-16", "2024-05-17")


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("desk"), exchange) as made:
        yield made


def pictured(desk: Site, result: dg.ExecuteInProcessResult, asset: str) -> list[str]:
    """The partitions that a run recorded with a picture."""
    return [key for key, told in metadata(result, desk.instance, asset).items() if "picture" in told]


def tables(result: dg.ExecuteInProcessResult) -> dict[str, list[str]]:
    """Asset → lines of the table that a run told with it; of a failed run, what stands with the failure."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.user_failure_data:
            told = event.step_failure_data.user_failure_data.metadata
            return {"failure": str(told["summary"].value).splitlines()}
    return {
        str(event.asset_observation_data.asset_observation.asset_key.to_user_string()): str(
            event.asset_observation_data.asset_observation.metadata["summary"].value
        ).splitlines()
        for event in result.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    }


def test_the_newest_partition_of_a_run_carries_a_picture_in_every_asset_and_is_its_last_word(desk: Site) -> None:
    desk.register("PIC")

    result = desk.chain("backfill_intraday", f"{WEEK[0]}|PIC", f"{WEEK[-1]}|PIC")

    for timeframe in INTRADAY.timeframes:
        for asset in (f"bars_{timeframe}", f"features_{timeframe}"):
            assert pictured(desk, result, asset) == ["2024-05-17|PIC"]
            (last,) = desk.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
            assert last.partition_key == "2024-05-17|PIC", "what the asset's page shows"
            text = str(metadata(result, desk.instance, asset)["2024-05-17|PIC"]["picture"])
            assert text.startswith(f"![{asset}](data:image/png;base64,")
            assert len(text) < 30_000
            image = Image.open(io.BytesIO(base64.b64decode(text.split(",", 1)[1].removesuffix(")"))))
            assert image.size == (900, 360)


def test_both_chains_of_a_job_have_their_pictures(desk: Site) -> None:
    desk.register("BOTH")
    config = {"symbols": ["BOTH"], "timeframes": ["1m", "1d"], "start": "2024-04-01", "end": "2024-05-31"}

    result = desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})

    for chain, key in ((INTRADAY, "2024-05-31|BOTH"), (DAILY, "2024-05|BOTH")):
        for timeframe in chain.timeframes:
            assert pictured(desk, result, f"bars_{timeframe}") == [key]
            assert pictured(desk, result, f"features_{timeframe}") == [key]
    assert set(tables(result)) == {"bars_1m", "bars_1d"}


def test_a_part_of_a_chain_has_pictures_of_that_part(desk: Site) -> None:
    desk.register("PART")
    desk.chain("backfill_intraday", f"{WEEK[0]}|PART", f"{WEEK[1]}|PART")

    result = desk.chain("backfill_intraday", f"{WEEK[0]}|PART", f"{WEEK[1]}|PART", only=["features_5m"])

    assert pictured(desk, result, "features_5m") == ["2024-05-14|PART"]
    assert set(tables(result)) == {"features_5m"}


def test_a_holiday_is_not_shown_while_there_is_a_session(desk: Site) -> None:
    desk.register("HOL")

    # Friday to Monday, which is Memorial Day.
    result = desk.chain("backfill_intraday", "2024-05-24|HOL", "2024-05-27|HOL")

    assert pictured(desk, result, "bars_1m") == ["2024-05-24|HOL"]
    only = desk.chain("backfill_intraday", "2024-05-26|HOL", "2024-05-26|HOL")
    assert pictured(desk, only, "bars_1m") == [], "nothing to be seen on a Sunday"
    assert pictured(desk, only, "bars_4h") == ["2024-05-26|HOL"], "coarse bars are shown with those of days before"


def test_a_long_run_keeps_nothing_back(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.register("LONG")
    monkeypatch.setattr(running, "_NEWS", 0.0)

    result = desk.chain("backfill_intraday", f"{WEEK[0]}|LONG", f"{WEEK[-1]}|LONG")

    told = metadata(result, desk.instance, "bars_1m")
    assert len(told) == 5
    assert len(pictured(desk, result, "bars_1m")) == 1
    assert pictured(desk, result, "bars_1m") == [next(iter(told))], "the last one told"


def test_a_run_tells_what_it_did_for_each_symbol(desk: Site, exchange: Exchange) -> None:
    desk.register("FINE", "HOLE")
    start = datetime(2024, 5, 15, 15, tzinfo=UTC)
    exchange.withheld["HOLE"] = [Window(to_micros(start), to_micros(start + timedelta(hours=1)))]

    # Monday to Friday, told on Friday at noon in New York.
    then = desk.at(datetime(2024, 5, 17, 16, tzinfo=UTC))
    result = then.chain("backfill_intraday", f"{WEEK[0]}|FINE", f"{WEEK[-1]}|HOLE", ok=False)

    head, _, fine, hole = tables(result)["failure"]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        *("symbol", "complete", "incomplete", "in progress", "not served", "1m fetched", "1m written"),
        *("5m written", "15m written", "30m written", "1h written", "4h written"),
    ]
    # Four whole sessions and the first 150 minutes of the fifth.
    assert fine == "| `FINE` | 4 | 0 | 1 | 0 | 1,710 | 1,710 | 342 | 114 | 57 | 31 | 9 |"
    assert hole.startswith("| `HOLE` | 3 | 1 | 1 | 0 | 1,650 | 1,650 | ")


def test_what_broke_a_run_does_not_take_back_what_was_complete(desk: Site, exchange: Exchange) -> None:
    desk.register("SURE", "BREAK")
    exchange.fails["BREAK"] = RuntimeError("a bug in the provider")

    result = desk.chain("backfill_intraday", f"{WEEK[0]}|SURE", f"{WEEK[1]}|BREAK", ok=False)

    told = metadata(result, desk.instance, "bars_1m")
    assert sorted(told) == ["2024-05-13|SURE", "2024-05-14|SURE"]
    assert not pictured(desk, result, "bars_1m")
