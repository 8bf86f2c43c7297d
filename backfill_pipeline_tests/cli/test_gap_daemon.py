"""The real daemon asks again for what is missing, and turns it green, without anybody doing anything.

Takes half a minute: Dagster starts, looks, and starts a run.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.test_ui import free_port, wait_for
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import StandIn

KEY = "planted-key-0123456789"
DAY = "2026-07-30"


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(now=datetime(2026, 11, 1, tzinfo=UTC), keys=(KEY,)) as started:
        yield started


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "BACKFILL_INTRADAY_START": "2026-07-01",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
    }
    with shell(server, **variables) as made:
        assert made.quick("symbols", "add", "AAA", "--bars", "1m").returncode == 0
        yield made


def test_a_gap_whose_time_has_come_is_filled_by_the_daemon(desk: Shell, standin: StandIn) -> None:
    standin.market.withhold("AAA", datetime(2026, 7, 30, 4, tzinfo=UTC), datetime(2026, 7, 31, 4, tzinfo=UTC))
    run = ("run", "--symbols", "AAA", "--timeframes", "1m", "--start", "2026-07-29", "--end", "2026-07-31")
    assert desk.quick(*run).returncode == 1
    assert desk.query("SELECT expected, attempts FROM gaps WHERE resolved_at IS NULL") == [(390, 0)]
    standin.market.withheld.clear()
    standin.market.forget()
    desk.query("UPDATE gaps SET next_attempt_at = now()")

    port = free_port()
    ui = desk.start("ui", "--port", str(port))
    try:
        wait_for(port, ui)
        deadline = time.monotonic() + 200
        while ("repair_gaps", "SUCCESS") not in desk.runs():
            assert ("repair_gaps", "FAILURE") not in desk.runs()
            assert time.monotonic() < deadline, desk.runs()
            time.sleep(1)
    finally:
        os.killpg(ui.pid, signal.SIGINT)
        try:
            ui.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(ui.pid, signal.SIGKILL)
            raise

    assert desk.query("SELECT resolution FROM gaps") == [("filled",)]
    assert desk.query("SELECT count(*) FROM market_data WHERE timeframe = '1m' AND session = %s", DAY) == [(390,)]
    made = desk.dagster_query(
        "SELECT count(DISTINCT asset_key) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        f" AND partition = '{DAY}|AAA'"
    )
    assert made == [(12,)]
    assert [job for job, _ in desk.runs()].count("repair_gaps") == 1
