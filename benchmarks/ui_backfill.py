"""Ten symbols over one year, all timeframes and features: launched as the UI does, carried out by the daemon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import CHAINS, Chain
from backfill_pipeline_tests.shell import Shell

from .desk import ask, cpu_seconds, desk, machine, server_pid, ui
from .figures import Figure

FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
SYMBOLS = [f"S{number}" for number in range(10)]
_LAUNCH = """mutation($params: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $params) {
  ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}"""
_STATE = """query($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {
  status assetBackfillData {assetBackfillStatuses {... on AssetPartitionsStatusCounts {
    numPartitionsTargeted numPartitionsMaterialized}}}}}}"""


def run(symbols: Sequence[str] = SYMBOLS) -> list[Figure]:
    """No limit: one figure to know what to expect. Seconds from the launch to COMPLETED_SUCCESS, as the daemon says."""
    with desk(BACKFILL_INTRADAY_START=str(FIRST), BACKFILL_DAILY_START=str(FIRST)) as made:
        assert made.quick("symbols", "add", *symbols).returncode == 0
        with ui(made) as (port, pid):
            busy = cpu_seconds(pid) + cpu_seconds(server_pid(made))
            launched, began = datetime.now(UTC).timestamp(), time.perf_counter()
            told = _completed(port, _launch(port, symbols))
            took = time.perf_counter() - began
            busy = cpu_seconds(pid) + cpu_seconds(server_pid(made)) - busy
        runs, first, last = made.dagster_query("SELECT count(*), min(start_time), max(end_time) FROM runs")[0]
        counts = told["assetBackfillData"]["assetBackfillStatuses"]
        partitions = sum(of["numPartitionsTargeted"] for of in counts)
        assert partitions == sum(of["numPartitionsMaterialized"] for of in counts), counts
        at_work = float(str(last)) - float(str(first))
        looks = took - at_work
        return [
            Figure(f"UI backfill of {len(symbols)} symbols × 1 year, s", took, None),
            Figure(f"  until its first run began ({runs} runs), s", float(str(first)) - launched, None),
            Figure("  before the first run and after the last one, s", looks, None),
            Figure("  CPU of runs, daemon, webserver and PostgreSQL, s", busy, None),
            *_stored(made, at_work),
            Figure("  partitions made, thousand", partitions / 1000, None),
            Figure(f"  on {machine()}", 0, None),
        ]


def _launch(port: int, symbols: Sequence[str]) -> str:
    chosen = [
        {"assetKey": {"path": [name]}, "partitions": {"range": _range(chain, symbols)}}
        for chain in CHAINS
        for name in asset_names(chain)
    ]
    told = ask(port, _LAUNCH, {"params": {"partitionsByAssets": chosen}})["launchPartitionBackfill"]
    backfill_id: str = told["backfillId"]
    return backfill_id


def _range(chain: Chain, symbols: Sequence[str]) -> dict[str, str]:
    form = "%Y-%m-%d" if chain.base == "1m" else "%Y-%m"
    return {"start": f"{FIRST:{form}}|{symbols[0]}", "end": f"{LAST:{form}}|{symbols[-1]}"}


def _completed(port: int, backfill_id: str) -> dict[str, Any]:
    while True:
        told: dict[str, Any] = ask(port, _STATE, {"id": backfill_id})["partitionBackfillOrError"]
        if told["status"] not in ("REQUESTED", "COMPLETED"):  # COMPLETED: its runs are not counted up yet
            assert told["status"] == "COMPLETED_SUCCESS", told
            return told
        time.sleep(1)


def _stored(made: Shell, seconds: float) -> list[Figure]:
    minutes, bars, features = (
        int(str(made.query(statement)[0][0]))
        for statement in (
            "SELECT count(*) FROM bars WHERE timeframe = '1m'",
            "SELECT count(*) FROM bars",
            "SELECT count(*) FROM features",
        )
    )
    return [
        Figure("  bars stored, thousand", bars / 1000, None),
        Figure("  rows of features stored, thousand", features / 1000, None),
        Figure("  thousand minutes a second while runs are at work", minutes / seconds / 1000, None),
    ]
