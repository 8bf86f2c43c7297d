"""Peak memory of bringing five million one-minute bars through the whole chain, in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.symbols import add_symbol, get_instruments

from .database import market_database
from .figures import Figure

LIMIT_MB = 700


def run(rows: int = 5_000_000) -> list[Figure]:
    """In a child process, because peak memory is the process's and never comes down."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(rows)], check=True, capture_output=True, text=True
    )
    megabytes, seconds, stored = (float(word) for word in child.stdout.split())
    return [
        Figure(f"peak memory of {stored:,.0f} bars to features, MB", megabytes, LIMIT_MB),
        Figure("the same, thousand minutes a second, all timeframes and features", stored / seconds / 1000, None),
    ]


def peak_mb() -> float:
    """Of this program alone: what getrusage says begins with the size of the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def _child(rows: int) -> None:
    """At least `rows` extended-hours minutes: prints peak MB, seconds and bars stored."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    with market_database() as (_, conn):
        provider = SyntheticProvider(extended=True)
        warehouse = Warehouse(conn, Router([provider]), lambda: now)
        # 960 minutes a session, 252 sessions a year, from 2022: 1,170,000 a symbol.
        names = [f"S{number:03d}" for number in range(-(-rows // 1_170_000))]
        with conn:
            for name in names:
                add_symbol(conn, name, "stock", "XNYS")
        periods = tuple(periods_between(date(2022, 1, 3), date(2026, 11, 18), "day"))
        work = Work()
        begin = datetime.now(UTC)
        for instrument in get_instruments(conn, names).values():
            for _ in run_tasks(warehouse, [Task(instrument, INTRADAY, periods)], work):
                pass
        seconds = (datetime.now(UTC) - begin).total_seconds()
    peak = peak_mb()
    sys.stdout.write(f"{peak} {seconds} {work.received}\n")


if __name__ == "__main__":
    _child(int(sys.argv[1]))
