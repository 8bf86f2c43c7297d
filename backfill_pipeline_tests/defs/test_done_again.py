"""Green is left alone, unless an answer was declared worth nothing or a new split has changed features."""

from collections.abc import Iterator
from datetime import date

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.storage.events import mark_stale
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, site

WEEK = {"symbols": ["GOOD"], "timeframes": ["1h", "1d"], "start": "2024-05-13", "end": "2024-05-17"}


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("again"), exchange) as made:
        made.register("GOOD")
        yield made


def master(desk: Site) -> None:
    desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": WEEK}}})


def test_a_reopened_session_is_asked_for_by_the_next_run_and_no_other(desk: Site, exchange: Exchange) -> None:
    master(desk)
    desk.query("SELECT reopen('GOOD', '1m', '2024-05-15', '2024-05-15')")
    exchange.requests.clear()
    master(desk)
    sessions = exchange.requests[0].sessions
    day = date(2024, 5, 15)
    assert [(r.timeframe, r.window) for r in exchange.requests] == [("1m", sessions.days_window(day, day))]
    assert desk.every_colour(INTRADAY, keys("GOOD", "2024-05-15")) == green("2024-05-15|GOOD")
    exchange.requests.clear()
    master(desk)
    assert exchange.requests == []


def test_features_that_a_new_split_has_changed_are_computed_though_everything_is_green(
    desk: Site, exchange: Exchange
) -> None:
    master(desk)
    exchange.requests.clear()
    with desk.pipeline.open() as warehouse, warehouse.conn as conn:
        symbol_id = desk.query("SELECT symbol_id FROM symbols")[0][0]
        assert isinstance(symbol_id, int)
        mark_stale(conn, symbol_id, date(2024, 5, 15))
    desk.query("UPDATE features SET sma_20 = -1 WHERE timeframe IN ('1m', '1d') AND ts >= '2024-05-16'")
    master(desk)
    assert exchange.requests == []
    assert desk.query("SELECT count(*) FROM features WHERE sma_20 = -1") == [(0,)]
    assert desk.query("SELECT count(*) FROM features_stale") == [(0,)]
    assert desk.colours(DAILY, "bars_1d", keys("GOOD", "2024-05")) == green("2024-05|GOOD")
