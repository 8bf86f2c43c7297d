"""`backfill run` against a stand-in of Polygon over a real socket, with a key that must show nowhere."""

from collections.abc import Iterator
from datetime import date

import pytest

from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, by_polygon, shell
from backfill_pipeline_tests.standin import StandIn

WEEK = ("--symbols", "AAPL", "--start", "2026-08-03", "--end", "2026-08-07")


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    with shell(server, **by_polygon(standin, BACKFILL_PROVIDER="auto")) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        yield made


def test_a_week_of_both_chains_comes_from_polygon_and_equals_the_market(site: Shell, standin: StandIn) -> None:
    standin.reset()
    ran = site.backfill("run", *WEEK)

    assert ran.returncode == 0, ran.stderr
    bars = [seen for seen in standin.requests if "/v2/aggs/" in seen.path]
    assert len(bars) == 2  # a page of minutes, a page of days
    sessions = load_sessions("XNYS", date(2027, 12, 31))
    truth = standin.market.minutes("AAPL", sessions.days_window(date(2026, 8, 3), date(2026, 8, 7)))
    stored = site.query(
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, provider FROM bars"
        " WHERE timeframe = '1m' ORDER BY ts"
    )
    columns = (truth.ts, truth.open, truth.high, truth.low, truth.close, truth.volume)
    assert [row[:6] for row in stored] == list(zip(*(c.tolist() for c in columns), strict=True))
    assert {row[6] for row in stored} == {"polygon"}
    assert standin.leaks == []
    assert standin.key not in ran.stdout + ran.stderr


def test_the_same_week_again_asks_nobody(site: Shell, standin: StandIn) -> None:
    assert site.quick("run", *WEEK).returncode == 0
    standin.reset()
    ran = site.backfill("run", *WEEK)
    assert ran.returncode == 0
    assert standin.requests == []


def test_a_wrong_key_is_one_line_and_stops_everything(site: Shell, server: EmbeddedServer, standin: StandIn) -> None:
    with shell(server, **by_polygon(standin, POLYGON_API_KEY="another-key-9876543210")) as made:
        made.quick("symbols", "add", "AAPL")
        ran = made.backfill("run", *WEEK)
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        assert "Unknown API Key" in ran.stderr
        assert "another-key-9876543210" not in ran.stdout + ran.stderr
        assert made.query("SELECT count(*) FROM bars") == [(0,)]


def test_polygon_without_a_key_is_one_line(server: EmbeddedServer) -> None:
    with shell(server, BACKFILL_PROVIDER="polygon") as made:
        ran = made.quick("matrix")
        assert ran.returncode == 1
        assert ran.stderr == (
            "backfill: BACKFILL_PROVIDER=polygon needs a key; set POLYGON_API_KEY or MASSIVE_API_KEY\n"
        )
