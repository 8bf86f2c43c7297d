"""Which base assets can be stale: those of chains in which somebody wants new bars, and no others."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.register import parse_registration, register
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.defs.test_progress import DAYS, master
from backfill_pipeline_tests.sites import Exchange, Site, site


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a symbol of which two days were wanted once, and no more."""
    with site(server, tmp_path_factory.mktemp("freshness"), Exchange()) as made:
        made.register("CLOSED")
        master(made, "CLOSED")
        yield made


def windows(settings: Settings) -> dict[str, int]:
    """By asset, the days after which it is stale."""
    specs = build_definitions(Pipeline(settings)).resolve_all_asset_specs()
    found = {spec.key.to_user_string(): spec.freshness_policy for spec in specs if spec.freshness_policy is not None}
    return {
        asset: days
        for asset, policy in found.items()
        for days in range(1, 100)
        if policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(days=days))
    }


def follow(desk: Site, symbol: str, bars: str) -> None:
    registration = parse_registration(
        [symbol], asset_class=None, calendar=None, bars=[bars], since=DAYS[0], today=date(2024, 6, 3)
    )
    with desk.pipeline.open() as warehouse:
        register(warehouse, registration)


def test_a_closed_window_is_never_stale_and_an_open_one_when_markets_pause_no_longer(desk: Site) -> None:
    settings = desk.pipeline.settings
    assert windows(settings) == {}, "all that is wanted has come; nothing comes after it"

    follow(desk, "MINUTES", "1m")
    assert windows(settings) == {"bars_1m": 6}
    follow(desk, "DAYS", "1d")
    assert windows(settings) == {"bars_1m": 6, "bars_1d": 37}
    other = {"intraday_grain": "week", "daily_grain": "day"}
    assert windows(settings.model_copy(update=other)) == {"bars_1m": 13, "bars_1d": 6}

    assert windows(settings.model_copy(update={"provider": "sample"})) == {}, "kept up to date by nobody"
    assert windows(settings.model_copy(update={"provider": "polygon"})) == {}, "no key, which a run tells"


def test_loading_needs_no_database(server: EmbeddedServer, tmp_path: Path) -> None:
    gone = Settings.model_construct(provider="synthetic", database_url=server.url("never_made"))
    assert windows(gone) == {}
    absent = Settings.model_construct(provider="synthetic", home=tmp_path)
    assert windows(absent) == {}, "and it starts no server"
    assert list(tmp_path.iterdir()) == []
