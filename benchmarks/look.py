"""A complete look at five million stored minutes, against counting the rows and reading their keys, in one run; and an
incremental one after a new day.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.steps.look import look
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.connection import connect

from .database import market_database
from .figures import Figure
from .filling import LAST, NOW, fill, warehouse_of
from .memory import peak_mb

# 390 minutes, 252 sessions a year.
_A_SYMBOL = 196_000
LIMIT_MB = 500


def run(minutes: int = 5_000_000, repeats: int = 3) -> list[Figure]:
    """Medians, both sides in turn; memory of a child process that does nothing but look."""
    symbols = max(2, round(minutes / _A_SYMBOL))
    with market_database() as (url, conn):
        fill(conn, symbols)
        warehouse = warehouse_of(conn)
        counting, keys, complete, incremental = [], [], [], []
        for _ in range(repeats):
            counting.append(_seconds(lambda: _count(conn)))
            keys.append(_seconds(lambda: _read_keys(conn)))
            complete.append(_seconds(lambda: _look(warehouse)))
            with conn, conn.cursor() as cursor:
                cursor.execute("UPDATE session_status SET checked_at = %s WHERE session = %s", (NOW, LAST))
            incremental.append(_seconds(lambda: _look(warehouse, NOW)))
        child = [sys.executable, "-m", "benchmarks.look", url]
        megabytes = float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    allowed = 2 * statistics.median(counting) + statistics.median(keys)
    return [
        Figure(
            "a complete look, time / (2 × sequential count(*) + reading the keys)", _median(complete) / allowed, 1.0
        ),
        Figure("  a complete look, s", _median(complete), None),
        Figure("  sequential count(*), s", _median(counting), None),
        Figure("  reading the keys, s", _median(keys), None),
        Figure("a look at one new day, s", _median(incremental), 1.0),
        Figure("peak memory of a complete look, MB", megabytes, LIMIT_MB),
    ]


_median = statistics.median


def _look(warehouse: Warehouse, since: datetime | None = None) -> None:
    looked = look(warehouse, since=since)
    assert looked.good, looked.findings[:3]
    assert looked.sessions


def _count(conn: Connection) -> None:
    with conn, conn.cursor() as cursor:
        cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_indexonlyscan = off")
        cursor.execute("SELECT count(*) FROM bars")


def _read_keys(conn: Connection) -> None:
    with conn, conn.cursor() as cursor:
        cursor.copy_expert("COPY (SELECT symbol_id, timeframe, ts FROM bars) TO STDOUT (FORMAT binary)", io.BytesIO())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _child(url: str) -> None:
    """A complete look: prints this process's peak memory in MB."""
    with closing(connect(url)) as conn:
        _look(warehouse_of(conn))
    sys.stdout.write(f"{peak_mb()}\n")


if __name__ == "__main__":
    _child(sys.argv[1])
