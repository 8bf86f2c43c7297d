"""Fifty million stored bars beside a million, two databases of one server measured in turn: what grows with the table.

Only when asked for by name: it takes some 20 minutes and 10 GB of the temporary folder (TMPDIR).
`--rows` makes it smaller. Of features only the last night's are there: nothing measured here reads others.
"""

from __future__ import annotations

import io
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date
from functools import partial

import psutil
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import BASES, CHAINS
from backfill_pipeline.reading import read_bars
from backfill_pipeline.steps.checks import (
    bars_are_valid,
    calendar_is_current,
    daily_agrees_with_minutes,
    no_open_gaps,
    session_is_complete,
)
from backfill_pipeline.steps.look import look
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.session_states import read_states
from backfill_pipeline.storage.status import read_completeness

from .database import fresh_database
from .figures import Figure
from .filling import FIRST, LAST, NOW, fill, warehouse_of
from .ingest import raw_copy, workload
from .memory import peak_mb

ROWS = 50_000_000
# Two years of minutes, days and all that is derived, of one symbol.
_A_SYMBOL = 258_728
_FEW = 4  # symbols of a million bars
_NEW_ROWS, _NEW_FROM, _NEW_BEFORE = 600_000, date(2022, 1, 3), date(2024, 1, 1)
# A year that nights have written: a session's bars of a symbol lie between those of all others.
_YEAR = ("2025-01-02", "2025-12-31")
_LIMIT_S, _LIMIT_MB = 5.0, 500
_QUESTIONS = {
    "completeness": "matrix",
    "pictures": "picture of 90 days",
    "look": "look at the last night",
    "check": "checks of what is stored",
}
_CHECKS = (bars_are_valid, calendar_is_current, daily_agrees_with_minutes, no_open_gaps, session_is_complete)


def run(rows: int = ROWS, repeats: int = 5) -> list[Figure]:
    """Medians of both sides in turn, and their ratios."""
    symbols = max(_FEW, round(rows / _A_SYMBOL))
    with fresh_database("few") as url:
        migrate(url)
        with closing(connect(url)) as conn:
            fill(conn, _FEW, CHAINS, features_from=LAST)
            conn.autocommit = True
            conn.cursor().execute("CREATE DATABASE many TEMPLATE few")
        large_url = url.replace("/few", "/many", 1)
        with closing(connect(large_url)) as conn:
            fill(conn, symbols, CHAINS, features_from=LAST)
        return measure((url, _FEW), (large_url, symbols), repeats)


def measure(few: tuple[str, int], many: tuple[str, int], repeats: int = 5) -> list[Figure]:
    """`few`, `many`: URL of a filled database and how many symbols it has."""
    with closing(connect(few[0])) as few_conn, closing(connect(many[0])) as many_conn:
        small, large = _Side(*few, few_conn), _Side(*many, many_conn)
        for _ in range(repeats):
            for work in (
                _Side.copy,
                _Side.ingest,
                _Side.read,
                _Side.completeness,
                _Side.pictures,
                _Side.look,
                _Side.check,
            ):
                work(small)
                work(large)
    peaks = [_peak(*side) for side in (few, many)]
    grown = f"{large.bars:,} / at {small.bars:,} bars"
    slower = {what: large.clock(what) / small.clock(what) for what in ("copy", "read")}
    seconds = [
        Figure(f"{name} of {large.symbols} symbols, {unit}", value, limit)
        for what, name in _QUESTIONS.items()
        for unit, value, limit in (("processor s", large.used(what), _LIMIT_S), ("s", large.clock(what), None))
    ]
    return [
        Figure(f"ingest rate / raw COPY's, processor time, at {grown}", large.rate() / small.rate(), 0.7, "at least"),
        Figure("  at the smaller", small.rate(), None),
        Figure("  at the larger", large.rate(), None),
        Figure("  ratio of both by the clock", _by_clock(large) / _by_clock(small), None),
        Figure("  raw COPY alone, time at the larger / at the smaller", slower["copy"], None),
        Figure(f"read_bars of a symbol and year, again, time at {grown}", slower["read"], 1.5),
        Figure("  at the larger, s", large.clock("read"), None),
        Figure("  the first time, which may be from disk, at the larger, s", large.clock("first read"), None),
        *seconds,
        Figure("peak memory of each once and 150,000 bars stored, MB", peaks[1], _LIMIT_MB),
        Figure("  at the smaller", peaks[0], None),
        Figure("bytes a bar on disk, its index included", large.bytes / large.bars, None),
        Figure("load of the machine", os.getloadavg()[0], None),
    ]


class _Side:
    """One of the two databases, and the seconds that each thing took there: by the clock, and of processor
    time, this process's and its server process's together, for others may use the machine."""

    def __init__(self, url: str, symbols: int, conn: Connection) -> None:
        self.url, self.symbols, self.conn = url, symbols, conn
        self.names = _names(symbols)
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}
        [(self.bars, self.bytes)] = self._query("SELECT count(*), pg_total_relation_size('bars') FROM bars")
        self._query("UPDATE session_status SET checked_at = %s WHERE session = %s RETURNING 1", NOW, LAST)
        # As far from each other in the index as can be, each before what is stored of it.
        some = [self.names[i * (symbols - 1) // (_FEW - 1)] for i in range(_FEW)]
        self.work = workload(conn, some, _NEW_ROWS, _NEW_FROM)
        self.new = "FROM bars WHERE timeframe = '1m' AND ts < %s"
        self.work.store()
        stream = io.BytesIO()
        with conn, conn.cursor() as cursor:
            where = cursor.mogrify(self.new, (_NEW_BEFORE,)).decode()
            cursor.copy_expert(f"COPY (SELECT * {where} ORDER BY symbol_id, ts) TO STDOUT (FORMAT binary)", stream)
        self.stream = stream.getvalue()
        self._take_back()

    def copy(self) -> None:
        self._time("copy", lambda: raw_copy(self.conn, self.stream, "bars"))
        self._take_back()

    def ingest(self) -> None:
        self._time("ingest", self.work.store)
        self._take_back()

    def read(self) -> None:
        """Twice: what is on disk only is the disk's time, and a million bars are always in memory."""
        for name in random.sample(self.names, _FEW):
            for what in ("first read", "read"):
                self._time(what, partial(_read, self.url, name))

    def completeness(self) -> None:
        self._time("completeness", lambda: read_completeness(self.conn, self.names))

    def pictures(self) -> None:
        self._time("pictures", lambda: read_states(self.conn, date(2025, 10, 5), LAST))

    def look(self) -> None:
        self._time("look", lambda: _look(self.conn, self.symbols))

    def check(self) -> None:
        self._time("check", lambda: [check(self.conn, base, NOW) for check in _CHECKS for base in BASES])

    def clock(self, what: str) -> float:
        return statistics.median(self.wall[what])

    def used(self, what: str) -> float:
        return statistics.median(self.cpu[what])

    def rate(self) -> float:
        return self.used("copy") / self.used("ingest")

    def _time(self, what: str, work: Callable[[], object]) -> None:
        begun, cpu = time.perf_counter(), self._cpu()
        work()
        self.wall.setdefault(what, []).append(time.perf_counter() - begun)
        self.cpu.setdefault(what, []).append(self._cpu() - cpu)
        self.conn.commit()

    def _cpu(self) -> float:
        processes = psutil.Process(), psutil.Process(self.conn.info.backend_pid)
        return float(sum(sum(process.cpu_times()[:2]) for process in processes))

    def _take_back(self) -> None:
        """The table as it was, less the space that is free again."""
        self._query(f"DELETE {self.new} RETURNING 1", _NEW_BEFORE)
        self._query("DELETE FROM session_status WHERE timeframe = '1m' AND session < %s RETURNING 1", _NEW_BEFORE)
        self._query("DELETE FROM coverage WHERE timeframe = '1m' AND lower(time_window) < %s RETURNING 1", _NEW_BEFORE)
        self.conn.autocommit = True
        self.conn.cursor().execute("VACUUM (INDEX_CLEANUP ON) bars")
        self.conn.cursor().execute("VACUUM ANALYZE session_status")
        self.conn.autocommit = False

    def _query(self, statement: str, *values: object) -> list[tuple[int, ...]]:
        with self.conn, self.conn.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()


def _names(symbols: int) -> list[str]:
    return [f"S{number:03d}" for number in range(symbols)]


def _by_clock(side: _Side) -> float:
    return side.clock("copy") / side.clock("ingest")


def _read(url: str, symbol: str) -> None:
    rows = len(read_bars(symbol, "1m", *_YEAR, on_incomplete="raise", url=url))
    assert rows > 250 * 380, rows


def _look(conn: Connection, symbols: int) -> None:
    looked = look(warehouse_of(conn), since=NOW)
    assert looked.good, looked.findings[:3]
    assert looked.sessions == 2 * symbols, looked.sessions  # of both chains


def _peak(url: str, symbols: int) -> float:
    child = [sys.executable, "-m", "benchmarks.scale", url, str(symbols)]
    return float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)


def _child(url: str, symbols: int) -> None:
    """Everything that is measured, once: prints this process's peak memory in MB."""
    names: Sequence[str] = _names(symbols)
    _read(url, names[-1])
    with closing(connect(url)) as conn:
        with conn:
            read_completeness(conn, names)
            read_states(conn, FIRST, LAST)
        _look(conn, symbols)
        workload(conn, names[:1], _NEW_ROWS // _FEW, _NEW_FROM).store()
    sys.stdout.write(f"{peak_mb()}\n")


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]))
