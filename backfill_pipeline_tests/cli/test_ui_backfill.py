"""Backfills launched in the UI, by the real webserver and daemon: cut as Dagster likes, a request a symbol in all, one
job each from the click to the end.

Takes two minutes: Dagster's daemon looks for backfills every 30 s.
"""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, TIMEFRAMES
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.test_ui import ask, free_port, wait_for
from backfill_pipeline_tests.shell import Shell, by_polygon, shell
from backfill_pipeline_tests.standin import StandIn

# Long over whenever the tests run; two weekends among the twelve days.
FIRST = date(2026, 7, 31)
DAYS = [str(FIRST + timedelta(days=n)) for n in range(12)]
MANY, FEW = ("A0", "A1", "A2", "A3"), ("B0", "B1", "B2")
# Of both chains, over four months: two requests and one each.
WATCHED, CANCELED = ("W0", "W1"), ("C0", "C1")
LONG = {INTRADAY: ("2026-07-01", "2026-10-30"), DAILY: ("2026-07", "2026-10")}
LAUNCH = "... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}"
COUNTS = "assetKey {path} numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed"
STATE = f"""... on PartitionBackfill {{status assetBackfillData {{
    assetBackfillStatuses {{... on AssetPartitionsStatusCounts {{{COUNTS}}}}}}}}}"""


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "auto",
        "BACKFILL_INTRADAY_START": "2026-07-01",
        "BACKFILL_DAILY_START": "2026-07-01",
        "POLYGON_REQUESTS_PER_MINUTE": "60",  # slow enough to be watched
    }
    with shell(server, **by_polygon(standin, **variables)) as made:
        assert made.quick("symbols", "add", *MANY, *FEW, "--bars", "1m").returncode == 0
        assert made.quick("symbols", "add", *WATCHED, *CANCELED).returncode == 0
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


@pytest.fixture(scope="module")
def port(desk: Shell) -> Iterator[int]:
    with ui(desk) as found:
        yield found


def launch(port: int, symbols: Sequence[str], days: Sequence[str]) -> str:
    assets = ", ".join(f'{{path: ["{name}"]}}' for name in asset_names(INTRADAY))
    keys = json.dumps([f"{day}|{symbol}" for day in days for symbol in symbols])
    return _launch(port, f"{{assetSelection: [{assets}], partitionNames: {keys}}}")


def launch_long(port: int, symbols: Sequence[str]) -> str:
    """Of both chains."""
    chosen = ", ".join(
        f'{{assetKey: {{path: ["{name}"]}}, partitions: {{range: {{start: "{first}|{symbols[0]}",'
        f' end: "{last}|{symbols[-1]}"}}}}}}'
        for chain, (first, last) in LONG.items()
        for name in asset_names(chain)
    )
    return _launch(port, f"{{partitionsByAssets: [{chosen}]}}")


def _launch(port: int, params: str) -> str:
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


def test_backfills_of_the_ui_take_a_request_a_symbol_and_turn_green(desk: Shell, standin: StandIn, port: int) -> None:
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

    assert failures(desk) == []
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


def job(desk: Shell, backfill_id: str) -> dict[str, Any]:
    """What a person sees; before the first look at it there is no job yet."""
    ran = desk.quick("status", backfill_id, "--json")
    told: dict[str, Any] = json.loads(ran.stdout) if ran.stdout else {"status": "queued", "progress_pct": 0.0}
    return told


def until(desk: Shell, backfill_id: str, *statuses: str) -> list[dict[str, Any]]:
    """The job, looked at again and again until its status is one of these."""
    deadline, seen = time.monotonic() + 240, [job(desk, backfill_id)]
    while seen[-1]["status"] not in statuses:
        assert time.monotonic() < deadline, seen[-1]
        time.sleep(0.5)
        seen.append(job(desk, backfill_id))
    return seen


def failures(desk: Shell) -> list[tuple[object, ...]]:
    """What Dagster says of each run that failed: nobody has made any fail, and one that does is started again."""
    said = "event::json->'dagster_event'->>'message', event::json->'dagster_event'->>'event_specific_data'"
    return desk.dagster_query(f"SELECT {said} FROM event_logs WHERE dagster_event_type = 'PIPELINE_FAILURE'")


def base_bars(desk: Shell, symbols: Sequence[str]) -> int:
    counted = "SELECT count(*) FROM bars JOIN symbols USING (symbol_id) WHERE timeframe IN ('1m', '1d')"
    return int(str(desk.query(f"{counted} AND symbol = ANY(%s)", list(symbols))[0][0]))


@pytest.mark.timeout(600)  # twice the daemon's look, twice four runs; a busy machine takes its time
def test_a_backfill_of_both_chains_is_one_job_and_a_canceled_one_is_canceled_within_seconds(
    desk: Shell, standin: StandIn, port: int
) -> None:
    standin.reset()
    canceled = launch_long(port, CANCELED)
    watched = launch_long(port, WATCHED)

    until(desk, canceled, "running")
    while not job(desk, canceled)["progress_pct"]:
        time.sleep(0.5)
    began = time.monotonic()
    ask(port, f'mutation {{cancelPartitionBackfill(backfillId: "{canceled}") {{__typename}}}}')
    off = until(desk, canceled, "canceled", "failed", "completed")[-1]
    assert time.monotonic() - began < 15, "Dagster's daemon alone would take half a minute to look"
    assert off["status"] == "canceled"
    assert 0 < off["progress_pct"] < 100
    assert off["symbols_total"] == 2

    seen = until(desk, watched, "canceled", "failed", "completed")
    end = seen[-1]
    runs = f"SELECT r.run_id FROM runs r JOIN run_tags t USING (run_id) WHERE t.value = '{watched}'"
    last = desk.dagster_query(f"SELECT max(end_time) FROM runs WHERE run_id IN ({runs})")[0][0]
    completed = datetime.fromisoformat(end["completed_at"]).timestamp()
    assert completed - float(str(last)) < 10, "it ends with its last run; Dagster looks at it half a minute later"
    assert finished(port, watched)["status"] == "COMPLETED_SUCCESS"
    assert (end["status"], end["progress_pct"], end["symbols_completed"]) == ("completed", 100, 2)
    assert (end["symbols"], end["timeframes"]) == (list(WATCHED), list(TIMEFRAMES))
    running = [one for one in seen if one["status"] == "running"]
    percents = [one["progress_pct"] for one in running]
    assert percents == sorted(percents)
    assert len({percent for percent in percents if 0 < percent < 100}) >= 3
    assert {one["current_symbol"] for one in running} >= set(WATCHED)
    assert {one["current_timeframe"] for one in running} >= {"1m", "1d"}
    assert any(one["estimated_completion_time"] for one in running)
    listed = json.loads(desk.quick("jobs", "--json").stdout)
    assert Counter(one["dagster_id"] for one in listed)[watched] == 1
    assert failures(desk) == []
    runs = desk.dagster_query(f"SELECT count(*) FROM run_tags WHERE value = '{watched}'")
    assert runs == [(4,)], "a chain of a symbol each"

    before = base_bars(desk, CANCELED)
    assert before > 0
    again = desk.bash(off["error_message"].split("go on with: ")[1])
    assert again.returncode == 0, again.stderr
    rest = json.loads(desk.quick("jobs", "--limit", "1", "--json").stdout)[0]
    assert (rest["origin"], rest["status"]) == ("shell", "completed")
    assert rest["total_records_fetched"] == base_bars(desk, CANCELED) - before, "what is stored is not asked for again"
