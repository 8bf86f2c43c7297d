"""A backfill over HTTP from a stand-in without a rate limit, against fetching and decoding alone and writing alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

from pydantic import SecretStr

from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.symbols import add_symbol, get_instruments
from backfill_pipeline_tests.standin import Remote, spawned

from .database import market_database
from .figures import Figure

LIMIT = 1.3
NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
FIRST, LAST = date(2025, 8, 4), date(2026, 8, 5)
SYMBOLS = ("AAPL", "MSFT")
ROUNDS = 3


class _Recorder(PolygonProvider):
    """Keeps what it fetches."""

    def __init__(self, standin: Remote) -> None:
        super().__init__(SecretStr(standin.key), standin.url, budget=NoBudget(), limits=OwnMemory(), now=lambda: NOW)
        self.heard: dict[tuple[str, int, int], list[Answer]] = {}

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        pieces = list(super().fetch(request, now))
        self.heard[request.instrument.symbol, request.window.start, request.window.end] = pieces
        return iter(pieces)


class _Replayer(_Recorder):
    """Answers from memory: what is left is writing."""

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:  # noqa: ARG002
        return iter(self.heard[request.instrument.symbol, request.window.start, request.window.end])


def run() -> list[Figure]:
    with spawned({"now": NOW.isoformat()}) as standin:
        ratios, seconds = [], []
        for _ in range(ROUNDS):
            recorder, replayer = _Recorder(standin), _Replayer(standin)
            whole = _backfill(recorder)
            replayer.heard = recorder.heard
            writing = _backfill(replayer)
            fetching = _fetch(_Recorder(standin), recorder)
            ratios.append(whole / max(writing, fetching))
            seconds.append((whole, writing, fetching))
    whole, writing, fetching = (statistics.median(column) for column in zip(*seconds, strict=True))
    return [
        Figure("backfill over HTTP ÷ the slower of fetching and writing alone", statistics.median(ratios), LIMIT),
        Figure("  backfill, s", whole, None),
        Figure("  writing alone, s", writing, None),
        Figure("  fetching and decoding alone, s", fetching, None),
    ]


def _backfill(provider: PolygonProvider) -> float:
    with market_database() as (_, conn):
        with conn:
            for symbol in SYMBOLS:
                add_symbol(conn, symbol, "stock", "XNYS")
            instruments = get_instruments(conn, SYMBOLS)
        warehouse = Warehouse(conn, Router([provider]), lambda: NOW)
        periods = tuple(periods_between(FIRST, LAST, "day"))
        tasks = [Task(instrument, INTRADAY, periods) for instrument in instruments.values()]
        began = time.perf_counter()
        states = {outcome.state for _, outcome in run_tasks(warehouse, tasks, Work())}
        took = time.perf_counter() - began
    assert states == {"complete"}, states
    return took


def _fetch(provider: PolygonProvider, asked: _Recorder) -> float:
    """The same windows, one after the other and several at once, whichever is faster for the peer."""
    from concurrent.futures import ThreadPoolExecutor

    from backfill_pipeline.domain.instruments import Instrument
    from backfill_pipeline.domain.sessions import load_sessions
    from backfill_pipeline.domain.validate import validate
    from backfill_pipeline.domain.windows import Window

    sessions = load_sessions("XNYS", date(2027, 12, 31))

    def ask(key: tuple[str, int, int]) -> None:
        window = Window(key[1], key[2])
        for answer in provider.fetch(Request(Instrument(1, key[0], "stock", "XNYS"), "1m", window, sessions), NOW):
            validate(answer.bars, "1m", window, sessions)

    times = []
    for workers in (1, 4):
        began = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(ask, asked.heard))
        times.append(time.perf_counter() - began)
    return min(times)
