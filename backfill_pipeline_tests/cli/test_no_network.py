"""`backfill run` with several providers of which one cannot be reached: what the others have, and then the reason."""

import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.windows import MINUTE, Window
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import Market, StandIn, write_flat_files

MON, TUE, WED = (date(2026, 8, day) for day in (3, 4, 5))
DAYS = ("--start", str(MON), "--end", str(WED), "--timeframes", "1m")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    market = Market()
    noon = market.sessions("BTCUSDT").days_window(TUE, TUE).start + 720 * MINUTE
    market.withheld["BTCUSDT"] = [Window(noon, noon + 60 * MINUTE)]
    with StandIn(market, now=datetime(2026, 11, 1, tzinfo=UTC)) as started:
        yield started


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    with socket.socket() as taken:  # bound and not listening: nobody answers there, and no other process gets it
        taken.bind(("127.0.0.1", 0))
        variables = {
            "BACKFILL_PROVIDER": "auto",
            "POLYGON_API_KEY": "planted-key-0123456789",
            "POLYGON_BASE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "POLYGON_REQUESTS_PER_MINUTE": "0",
            "BINANCE_BASE_URL": standin.binance_url,
        }
        with shell(server, **variables) as made:
            write_flat_files(made.folder / "flat", standin.market, ["AAPL"], [MON, TUE])
            made.quick("symbols", "add", "AAPL", "--bars", "1m", BACKFILL_PROVIDER="sample")
            made.quick(
                "symbols", "add", "BTCUSDT", "--asset-class", "crypto", "--bars", "1m", BACKFILL_PROVIDER="sample"
            )
            yield made


def test_what_the_files_have_is_stored_and_the_rest_is_one_line(site: Shell) -> None:
    ran = site.quick("run", "--symbols", "AAPL", *DAYS, BACKFILL_FILES=str(site.folder / "flat"))
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert ran.stdout.startswith("partitions: 2 complete; ")
    *_, last = ran.stderr.splitlines()
    assert last.startswith(f"polygon: AAPL 1m {WED} to 2026-08-06: http://127.0.0.1:")
    assert "connection refused" in last
    assert "incomplete" not in ran.stderr
    stored = "SELECT session, count(*), min(provider) FROM market_data WHERE timeframe = '1m' GROUP BY 1 ORDER BY 1"
    assert site.query(stored) == [(MON, 390, "files"), (TUE, 390, "files")]


def test_the_reason_is_told_beside_what_is_incomplete_for_another_one(site: Shell) -> None:
    """BTCUSDT lacks an hour at Binance; AAPL's provider cannot be reached."""
    ran = site.quick("run", "--symbols", "BTCUSDT,AAPL", *DAYS)
    assert ran.returncode == 1
    lines = ran.stderr.splitlines()
    assert f"incomplete: BTCUSDT {TUE} 1m: 60 of 1440 bars are missing" in lines
    assert any(line.startswith("polygon: AAPL 1m ") and "connection refused" in line for line in lines)
    assert ran.stdout.startswith("partitions: 2 complete, 1 incomplete; ")
