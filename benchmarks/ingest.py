"""Storing, storing again and reading a million one-minute bars, against PostgreSQL's own binary COPY.

The peer copies the very same rows into a table of the same shape with its primary key; what is timed of ours is the
whole way from a provider's answer to a committed window: validation, comparison, bars, coverage, statuses.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.grain import day_after_chunk
from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.reading import read_bars
from backfill_pipeline.steps.fetching import Unit, ask
from backfill_pipeline.steps.guard import ingest_guarded
from backfill_pipeline.steps.job import CHUNK_MONTHS
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.status import write_status
from backfill_pipeline.storage.symbols import add_symbol, get_instruments

from .database import market_database
from .figures import Figure

NOW = datetime(2026, 11, 20, tzinfo=UTC)
FIRST = date(2024, 1, 2)
# What a read_bars frame is made of, less the symbol.
READ_COLUMNS = "ts, session, open, high, low, close, volume, coalesce(vwap, 'NaN'), coalesce(trades, -1), final"


class _Memory(SyntheticProvider):
    """Answers drawn beforehand, so that only storing is timed."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[tuple[str, Window], list[Answer]] = {}

    def draw(self, request: Request) -> int:
        pieces = list(super().fetch(request, NOW))
        self.answers[request.instrument.symbol, request.window] = pieces
        return sum(len(piece.bars) for piece in pieces)

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:  # noqa: ARG002
        return iter(self.answers[request.instrument.symbol, request.window])


@dataclass(frozen=True, eq=False)
class Workload:
    """Windows of whole sessions of every symbol, as a run cuts them."""

    warehouse: Warehouse
    units: list[Unit]
    rows: int

    def store(self) -> None:
        conn = self.warehouse.conn
        for unit in self.units:
            with conn:
                for done in ingest_guarded(self.warehouse, unit.subject, ask(unit, NOW).fetched, []):
                    write_status(conn, unit.subject.instrument.symbol_id, "1m", done.statuses, NOW)


def workload(conn: Connection, names: Sequence[str], rows: int, first: date = FIRST) -> Workload:
    provider = _Memory()
    sessions = load_sessions("XNYS", date(2027, 12, 31))
    store_sessions(conn, sessions)
    with conn:
        for name in names:
            add_symbol(conn, name, "stock", "XNYS")
    begin = sessions.rows_between(first, first).start
    count = int(np.searchsorted(np.cumsum(sessions.expected_1m[begin:]), rows // len(names)))
    units = []
    warehouse = Warehouse(conn, Router([provider]), lambda: NOW)
    total = 0
    for instrument in get_instruments(conn, names).values():
        subject = warehouse.subject(instrument, INTRADAY)
        for low, high in _chunks(sessions, begin, begin + count):
            window = Window(int(sessions.day_start[low]), int(sessions.day_end[high - 1]))
            total += provider.draw(Request(instrument, "1m", window, sessions))
            places = np.arange(low, high)
            days = [sessions.session[row].astype(object) for row in (low, high - 1)]
            units.append(Unit(subject, provider, places, ((instrument.symbol, *days),)))
    conn.commit()
    return Workload(warehouse, units, total)


def _chunks(sessions: Sessions, low: int, high: int) -> Iterator[tuple[int, int]]:
    while low < high:
        after = np.datetime64(day_after_chunk(sessions.session[low].astype(object), CHUNK_MONTHS["1m"]), "D")
        end = min(high, int(np.searchsorted(sessions.session, after)))
        yield low, end
        low = end


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _copied(conn: Connection) -> bytes:
    buffer = io.BytesIO()
    with conn.cursor() as cursor:
        cursor.copy_expert(
            "COPY (SELECT * FROM bars ORDER BY symbol_id, timeframe, ts) TO STDOUT (FORMAT binary)", buffer
        )
    conn.commit()
    return buffer.getvalue()


def raw_copy(conn: Connection, stream: bytes, table: str) -> None:
    with conn, conn.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} FROM STDIN (FORMAT binary)", io.BytesIO(stream), size=1 << 20)


def _raw_read(url: str, symbols: Sequence[int]) -> int:
    """What read_bars does, less the frame: on a connection of its own, whose server process must first map its data."""
    rows = 0
    dtype = np.dtype(
        [("n", ">i2"), ("l0", ">i4"), ("ts", ">i8"), ("l1", ">i4"), ("session", ">i4")]
        + [item for k in range(6) for item in ((f"l{k + 2}", ">i4"), (f"v{k}", ">f8"))]
        + [("l8", ">i4"), ("trades", ">i4"), ("l9", ">i4"), ("final", "u1")]
    )
    with closing(connect(url)) as conn:
        for symbol_id in symbols:
            buffer = io.BytesIO()
            with conn.cursor() as cursor:
                cursor.copy_expert(
                    f"COPY (SELECT {READ_COLUMNS} FROM bars WHERE symbol_id = {symbol_id} AND timeframe = '1m'"
                    " AND segment = 'regular' ORDER BY ts) TO STDOUT (FORMAT binary)",
                    buffer,
                )
            rows += len(np.frombuffer(buffer.getbuffer()[19:-2], dtype=dtype))
    return rows


def run(rows: int = 1_000_000, repeats: int = 3) -> list[Figure]:
    """Ratios of medians, both sides in turn: storing new bars, storing them again, reading them."""
    with market_database() as (url, conn):
        work = workload(conn, [f"S{number:03d}" for number in range(10)], rows)
        work.store()
        stream = _copied(conn)
        with conn, conn.cursor() as cursor:
            cursor.execute("CREATE TABLE peer (LIKE bars INCLUDING ALL)")
        raw, new, again, read, raw_read = [], [], [], [], []
        log = 0
        ids = sorted({unit.subject.instrument.symbol_id for unit in work.units})
        names = sorted({unit.subject.instrument.symbol for unit in work.units})
        for _ in range(repeats):
            with conn, conn.cursor() as cursor:
                cursor.execute("TRUNCATE peer, bars, coverage, session_status")
            raw.append(_seconds(lambda: raw_copy(conn, stream, "peer")))
            with conn, conn.cursor() as cursor:
                cursor.execute("TRUNCATE peer")
            new.append(_seconds(work.store))
            before = _wal_bytes(conn)
            again.append(_seconds(work.store))
            log = _wal_bytes(conn) - before
            # Whoever reads new rows first also marks them as committed (hint bits): a third more, and the writer's due.
            _raw_read(url, ids)
            read.append(_seconds(lambda: read_bars(names, "1m", FIRST, NOW.date(), on_incomplete="ignore", url=url)))
            raw_read.append(_seconds(lambda: _raw_read(url, ids)))
    copied = statistics.median(raw)
    return [
        Figure("ingest of new bars, rate / raw COPY's", copied / statistics.median(new), 0.8, "at least"),
        Figure("ingest of the same bars, rate / raw COPY's", copied / statistics.median(again), 1.0, "at least"),
        Figure("ingest of the same bars, WAL bytes per bar", log / work.rows, 1.0),
        Figure("raw COPY, thousand bars a second", work.rows / copied / 1000, None),
        Figure("read_bars, time / (COPY + frombuffer)", statistics.median(read) / statistics.median(raw_read), 1.3),
    ]


def _wal_bytes(conn: Connection) -> int:
    """WAL that this connection has written: autovacuum writes some of its own meanwhile. Needs PostgreSQL 18."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT wal_bytes FROM pg_stat_get_backend_wal(pg_backend_pid())")
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])
