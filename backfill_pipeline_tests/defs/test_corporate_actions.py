"""The asset `corporate_actions` in real runs of its job on a real instance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.providers.budget import NoBudget, OwnMemory, fingerprint
from backfill_pipeline.providers.http import Http, Patience
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.providers.polygon_events import PolygonEvents
from backfill_pipeline.providers.sample import SampleProvider
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Site, failure, site
from backfill_pipeline_tests.standin import StandIn

NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
EX = date(2024, 5, 14)
ASSET = dg.AssetKey("corporate_actions")
QUICK = Patience(tries=2, backoff=0.001)


class Polygon(PolygonProvider):
    """The stand-in's provider, with its events."""

    def __init__(self, standin: StandIn) -> None:
        key = SecretStr(standin.key)
        super().__init__(key, standin.url, budget=NoBudget(), limits=OwnMemory(), patience=QUICK)
        http = Http("polygon", standin.url, key, NoBudget(), patience=QUICK)
        self.events = PolygonEvents(http, OwnMemory(), fingerprint(key), now=lambda: NOW)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


@pytest.fixture
def desk(server: EmbeddedServer, standin: StandIn, tmp_path: Path) -> Iterator[Site]:
    with site(server, tmp_path, Polygon(standin), NOW) as made:
        yield made


def metadata(desk: Site) -> dict[str, object]:
    (record,) = desk.instance.fetch_materializations(ASSET, limit=1).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def test_a_run_after_a_backfill_accepts_the_split_and_tells_what_is_suspicious(desk: Site, standin: StandIn) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    standin.market.split("MSFT", EX, 1, 2, phantom=True)
    standin.market.dividend("AAPL", EX, 0.25)
    desk.register("AAPL", "MSFT", bars=["1d"])
    config = {"symbols": ["AAPL", "MSFT"], "timeframes": ["1d"], "start": "2024-05-01", "end": "2024-05-31"}
    desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})

    desk.run("refresh_corporate_actions")

    told = metadata(desk)
    counts = ("requests", "splits_new", "splits_accepted", "dividends_accepted", "earnings_accepted", "symbols_changed")
    assert [told[name] for name in counts] == [2, 2, 1, 1, 0, 1]
    suspicious = str(told["suspicious"])
    assert suspicious.startswith("- MSFT 2024-05-14 splits: close ")
    assert "where 2:1 makes 0.5; no session near it shows one (polygon)" in suspicious
    assert "not in the plan" in str(told["notes"])
    assert desk.query(
        "SELECT a.close = b.close * 0.25 FROM bars_adjusted AS a JOIN market_data AS b USING (symbol, timeframe, ts)"
        " WHERE symbol = 'AAPL' AND timeframe = '1d' AND a.session = '2024-05-13'"
    ) == [(True,)]


def test_lists_that_cannot_be_asked_fail_the_run_in_one_line(desk: Site, standin: StandIn) -> None:
    desk.register("AAPL", bars=["1d"])
    desk.query("INSERT INTO wanted SELECT symbol_id, '1d', tstzrange('2024-05-01', NULL) FROM symbols RETURNING 1")
    standin.fault("503", times=None, path="/stocks/v1/dividends")
    text = failure(desk.run("refresh_corporate_actions", ok=False))
    assert text.startswith("polygon: dividends from 2024-05-01 on: ")
    assert "\n" not in text
    assert "splits" not in text


def test_a_wrong_key_fails_the_run_in_one_line(desk: Site, standin: StandIn) -> None:
    desk.register("AAPL", bars=["1d"])
    desk.query("INSERT INTO wanted SELECT symbol_id, '1d', tstzrange('2024-05-01', NULL) FROM symbols RETURNING 1")
    standin.set(keys=("another",))
    text = failure(desk.run("refresh_corporate_actions", ok=False))
    assert "the key is not accepted (401)" in text
    assert standin.key not in text


def test_a_provider_without_events_succeeds_and_says_so(server: EmbeddedServer, tmp_path: Path) -> None:
    with site(server, tmp_path, SampleProvider(), NOW) as desk:
        desk.register("AAPL")
        desk.run("refresh_corporate_actions")
        assert metadata(desk) == {"note": "provider sample has no corporate actions"}


def test_the_asset_stands_alone(desk: Site) -> None:
    graph = build_definitions(desk.pipeline).resolve_asset_graph()
    node = graph.get(ASSET)
    assert (node.parent_keys, node.child_keys, node.partitions_def, node.group_name) == (set(), set(), None, "events")
