"""Session-anchored resampling against plain numpy on fixed UTC buckets, in memory, on the same minutes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.resample import resample
from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import INTRADAY, LENGTH
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.base import Request
from backfill_pipeline.providers.synthetic import SyntheticProvider

from .figures import Figure

SYMBOLS = 10
LIMIT = 1.5


def run(rows: int = 1_000_000, repeats: int = 5) -> list[Figure]:
    """Ratio of median times for `rows` minutes of ten symbols, every repeat timing both in turn."""
    sessions = load_sessions("XNYS", date(2027, 12, 31))
    symbols = [_minutes(symbol_id, rows // SYMBOLS, sessions) for symbol_id in range(SYMBOLS)]
    ours, plain = [], []
    for _ in range(repeats + 1):
        ours.append(_seconds(lambda bars: _ours(bars, sessions), symbols))
        plain.append(_seconds(_plain, symbols))
    # The first turn pays for cold memory.
    ratio = statistics.median(ours[1:]) / statistics.median(plain[1:])
    return [Figure("resample 1m to 5m..4h / numpy reduceat on fixed UTC buckets", ratio, LIMIT)]


def _minutes(symbol_id: int, rows: int, sessions: Sessions) -> Bars:
    """The last `rows` regular minutes before 2026 of a made-up symbol, final as most history is."""
    last = sessions.rows_between(date(2025, 12, 31), date(2025, 12, 31)).stop
    first = last - rows // 390 - 10  # a year has half days: ten sessions more are enough for every size asked
    window = Window(int(sessions.day_start[first]), int(sessions.day_end[last - 1]))
    instrument = Instrument(symbol_id, f"S{symbol_id}", "stock", "XNYS")
    answers = SyntheticProvider().fetch(Request(instrument, "1m", window, sessions), datetime(2026, 1, 2, tzinfo=UTC))
    bars = concatenate([answer.bars for answer in answers]).take(slice(-rows, None))
    return bars.with_final(np.ones(rows, dtype=bool))


def _seconds(work: Callable[[Bars], object], symbols: Sequence[Bars]) -> float:
    start = time.perf_counter()
    for bars in symbols:
        work(bars)
    return time.perf_counter() - start


def _ours(bars: Bars, sessions: Sessions) -> None:
    for _ in resample(bars, sessions.parts.locate(bars.ts), sessions, INTRADAY.derived):
        pass


def _plain(bars: Bars) -> None:
    """What one would write by hand if every day were 24 hours long and every value known."""
    turnover = bars.vwap * bars.volume
    for timeframe in INTRADAY.derived:
        bucket = bars.ts // LENGTH[timeframe]
        change = np.flatnonzero(bucket[1:] != bucket[:-1])
        first, last = np.append(0, change + 1), np.append(change, len(bucket) - 1)
        volume = np.add.reduceat(bars.volume, first)
        (
            bucket[first] * LENGTH[timeframe],
            bars.open[first],
            np.maximum.reduceat(bars.high, first),
            np.minimum.reduceat(bars.low, first),
            bars.close[last],
            volume,
            np.add.reduceat(turnover, first) / volume,
            np.add.reduceat(bars.trades, first),
        )
