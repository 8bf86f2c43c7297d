"""A stand-in in a process of its own, steered over HTTP; and flat files."""

import csv
import gzip
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import requests

from backfill_pipeline_tests.standin import Market, StandIn, spawned, write_flat_files
from backfill_pipeline_tests.standin.reader import Reader

CONFIG = {
    "now": "2026-08-07T01:00:00+00:00",
    "keys": ["secret-one"],
    "market": {"seed": 3, "symbols": ["AAPL"], "withhold": [["AAPL", "2024-03-08T15:00:00Z", "2024-03-08T15:05:00Z"]]},
    "faults": [{"name": "500", "path": "/SPY/"}],
}
DAY = "/v2/aggs/ticker/AAPL/range/1/minute/2024-03-08/2024-03-08"


def test_another_process_serves_the_configured_market_and_is_steered_over_http() -> None:
    with spawned(CONFIG) as remote:
        reader = Reader(remote)
        rows = reader.json(DAY, adjusted="false", limit=5000)["results"]
        market = Market(seed=3)
        truth = market.minutes("AAPL", market.sessions("AAPL").days_window(date(2024, 3, 8), date(2024, 3, 8)))
        assert len(rows) == 955
        assert {row["t"] * 1000: row["c"] for row in rows}.items() <= dict(
            zip(truth.ts.tolist(), truth.close.tolist(), strict=True)
        ).items()
        assert reader.get(DAY.replace("AAPL", "SPY")).status_code == 500

        remote.queue("429", "ok")
        assert [reader.get(DAY).status_code for _ in range(2)] == [429, 200]
        remote.fault("401", path="MSFT", times=None)
        assert reader.get(DAY.replace("AAPL", "MSFT")).status_code == 401
        remote.clear_faults()
        remote.set(requests_per_minute=1, window_seconds=60)
        remote.change_market({"unknown": ["AAPL"]})
        assert reader.json(DAY)["resultsCount"] == 0
        assert reader.get(DAY).status_code == 429
        assert remote.provoked_429 == 1
        assert [seen.status for seen in remote.requests] == [200, 500, 429, 200, 401, 200, 429]
        assert requests.get(f"{remote.url}/stocks/v1/splits?apiKey=secret-one", timeout=5).status_code == 401
        counters = remote.counters()
        assert (counters["leaks"], counters["by_fault"]) == (1, {"500": 1, "429": 1, "401": 1})
        with pytest.raises(ValueError, match="no fault 'nonsense'"):
            remote.fault("nonsense")
        remote.reset()
        assert remote.requests == []
        url = remote.url
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_of_its_own_ends_cleanly_when_told_to(number: int) -> None:
    command = [sys.executable, "-m", "backfill_pipeline_tests.standin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}/_standin/counters", timeout=5).json()["requests"] == 0
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_port_is_free_again_after_the_end() -> None:
    with StandIn() as first:
        session = requests.Session()
        session.get(f"{first.url}/_standin/counters", timeout=5)  # a connection that the client keeps open
        port = first.port
    with StandIn(port=port) as second:
        assert session.get(f"{second.url}/_standin/counters", timeout=5).status_code == 200
    session.close()


def test_a_mistake_of_the_stand_in_itself_is_not_taken_for_a_fault() -> None:
    market = Market()
    market.restate("AAPL", datetime(2024, 3, 8, 15, tzinfo=UTC), close="text")  # type: ignore[arg-type]  # the mistake
    standin = StandIn(market)
    standin.start()
    with pytest.raises(requests.ConnectionError):
        Reader(standin).get(DAY)
    with pytest.raises(RuntimeError, match="the stand-in itself failed"):
        standin.stop()


def test_latency_is_waited_before_an_answer(standin: StandIn) -> None:
    standin.set(latency_seconds=0.2)
    assert Reader(standin).get("/stocks/v1/splits").elapsed.total_seconds() > 0.2


def test_control_verbs_are_neither_recorded_nor_limited(standin: StandIn) -> None:
    standin.set(requests_per_minute=0)
    replies = [requests.get(f"{standin.url}/_standin/{verb}", timeout=5) for verb in ("requests", "faults", "nope")]
    assert [reply.status_code for reply in replies] == [200, 200, 404]
    assert standin.requests == []


def test_flat_files_hold_every_ticker_of_the_day_in_the_vendor_s_layout(tmp_path: Path) -> None:
    market = Market()
    market.withhold("MSFT", datetime(2024, 3, 8, 15, tzinfo=UTC), datetime(2024, 3, 8, 16, tzinfo=UTC))
    days = [date(2024, 3, 8), date(2024, 3, 9)]
    written = write_flat_files(tmp_path, market, ("NA", "MSFT"), days)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "us_stocks_sip/minute_aggs_v1/2024/03/2024-03-08.csv.gz",
        "us_stocks_sip/day_aggs_v1/2024/03/2024-03-08.csv.gz",
    ]
    with gzip.open(written[0], "rt", newline="") as file:
        assert file.readline() == "ticker,volume,open,close,high,low,window_start,transactions\n"
        rows = list(csv.reader(file))
    truth = market.minutes("NA", market.sessions("NA").days_window(days[0], days[0]))
    mine = [row for row in rows if row[0] == "NA"]
    assert len(rows) == 960 + 900
    assert [int(row[6]) for row in mine] == (truth.ts * 1000).tolist()
    for place, name in enumerate(("volume", "open", "close", "high", "low"), start=1):
        assert [float(row[place]) for row in mine] == getattr(truth, name).tolist()
    assert [int(row[7]) for row in mine] == truth.trades.tolist()
    with gzip.open(written[1], "rt") as file:
        (_, msft, _) = file.read().splitlines()
    assert float(msft.split(",")[1]) == market.days("MSFT", days[0], days[0]).volume[0]
    again = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_flat_files(tmp_path, market, ("MSFT", "NA"), days)] == again
