"""Backfills launched in the UI, by the real webserver and daemon: cut as Dagster likes, a request a symbol in all.

Takes more than a minute: Dagster's daemon looks for backfills every 30 s.
"""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.test_ui import ask, free_port, wait_for
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import StandIn

KEY = "planted-key-0123456789"
# Long over whenever the tests run; two weekends among the twelve days.
FIRST = date(2026, 7, 31)
DAYS = [str(FIRST + timedelta(days=n)) for n in range(12)]
MANY, FEW = ("A0", "A1", "A2", "A3"), ("B0", "B1", "B2")
LAUNCH = "... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}"
COUNTS = "assetKey {path} numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed"
STATE = f"""... on PartitionBackfill {{status assetBackfillData {{
    assetBackfillStatuses {{... on AssetPartitionsStatusCounts {{{COUNTS}}}}}}}}}"""


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(now=datetime(2026, 11, 1, tzinfo=UTC), keys=(KEY,)) as started:
        yield started


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "auto",
        "BACKFILL_INTRADAY_START": "2026-07-01",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
    }
    with shell(server, **variables) as made:
        assert made.quick("symbols", "add", *MANY, *FEW, "--bars", "1m").returncode == 0
        standin.reset()
        yield made


@contextmanager
def ui(desk: Shell) -> Iterator[int]:
    """Webserver and daemon; their port."""
    port = free_port()
    running = desk.start("ui", "--port", str(port))
    try:
        wait_for(port, running)
        yield port
    finally:
        os.killpg(running.pid, signal.SIGINT)
        try:
            running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise


def launch(port: int, symbols: Sequence[str], days: Sequence[str]) -> str:
    assets = ", ".join(f'{{path: ["{name}"]}}' for name in asset_names(INTRADAY))
    keys = json.dumps([f"{day}|{symbol}" for day in days for symbol in symbols])
    params = f"{{assetSelection: [{assets}], partitionNames: {keys}}}"
    told = ask(port, f"mutation {{launchPartitionBackfill(backfillParams: {params}) {{{LAUNCH}}}}}")
    backfill_id: str = told["launchPartitionBackfill"]["backfillId"]
    return backfill_id


def finished(port: int, backfill_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    while True:
        told = ask(port, f'{{partitionBackfillOrError(backfillId: "{backfill_id}") {{{STATE}}}}}')
        backfill: dict[str, Any] = told["partitionBackfillOrError"]
        if backfill["status"] not in ("REQUESTED", "COMPLETED"):  # COMPLETED: its runs are not counted up yet
            return backfill
        assert time.monotonic() < deadline, backfill
        time.sleep(1)


def test_backfills_of_the_ui_take_a_request_a_symbol_and_turn_green(desk: Shell, standin: StandIn) -> None:
    with ui(desk) as port:
        launched = {launch(port, MANY, DAYS): len(MANY) * 12, launch(port, FEW, DAYS[3:5]): len(FEW) * 2}
        for backfill_id, count in launched.items():
            backfill = finished(port, backfill_id)
            assert backfill["status"] == "COMPLETED_SUCCESS"
            counted = {
                of["assetKey"]["path"][0]: (
                    of["numPartitionsTargeted"],
                    of["numPartitionsMaterialized"],
                    of["numPartitionsFailed"],
                )
                for of in backfill["assetBackfillData"]["assetBackfillStatuses"]
            }
            assert counted == dict.fromkeys(asset_names(INTRADAY), (count, count, 0))

    # Four runs of one symbol each, and two of one date each, which know of each other's.
    assert [status for _, status in desk.runs()] == ["SUCCESS"] * 6
    asked = Counter(seen.path.split("/ticker/")[1].split("/")[0] for seen in standin.requests)
    assert asked == dict.fromkeys((*MANY, *FEW), 1)
    assert standin.leaks == []
    sessions = [day for day in DAYS if date.fromisoformat(day).weekday() < 5]
    stored = desk.query(
        "SELECT symbol, count(DISTINCT session) FROM market_data WHERE timeframe = '4h' GROUP BY symbol ORDER BY symbol"
    )
    assert stored == [*((name, len(sessions)) for name in MANY), *((name, 2) for name in FEW)]
