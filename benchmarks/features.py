"""Features of a million one-minute bars in month blocks, against TA-Lib computing those it has in one go."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import talib

from backfill_pipeline.domain.features import FeatureInput, compute_blocks, compute_talib_blocks

from .figures import Figure

SESSION = 390  # one-minute bars of a regular session
MONTH = 21 * SESSION


def run(rows: int = 1_000_000, repeats: int = 7) -> list[Figure]:
    """Processor time of ours / of TA-Lib's, medians of `repeats` runs of all three in turn."""
    x, block = _bars(rows)
    calls: list[Callable[[], object]] = [
        lambda: _talib(x),
        lambda: compute_talib_blocks(x, block, 0),
        lambda: compute_blocks(x, block, 0),
    ]
    for call in calls:  # each gets its memory from the system once, before the clock
        call()
    seconds = zip(*[[_seconds(call) for call in calls] for _ in range(repeats)], strict=True)
    theirs, shared, everything = (statistics.median(times) for times in seconds)
    what = f"of {rows:,} bars in month blocks"
    return [
        Figure(f"the 10 features that TA-Lib has {what} / TA-Lib in one go", shared / theirs, 2.0),
        Figure(f"all 14 features {what} / TA-Lib's 10 in one go", everything / theirs, None),
    ]


def _bars(rows: int) -> tuple[FeatureInput, np.ndarray]:
    random = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(random.normal(0, 5e-4, rows)))
    place = np.arange(rows)
    x = FeatureInput(
        high=close * (1 + random.random(rows) * 5e-4),
        low=close * (1 - random.random(rows) * 5e-4),
        close=close,
        volume=np.round(random.lognormal(8, 1, rows)),
        vwap=np.where(random.random(rows) < 0.01, np.nan, close),
        adjacent=random.random(rows) > 0.002,  # a few minutes without a trade
        session_first=place % SESSION == 0,
        basis=None,
        intraday=True,
        bars_per_year=SESSION * 252.0,
    )
    return x, place // MONTH


def _talib(x: FeatureInput) -> list[object]:
    return [
        talib.EMA(x.close, 12),
        talib.EMA(x.close, 26),
        talib.RSI(x.close, 14),
        talib.ATR(x.high, x.low, x.close, 14),
        talib.SMA(x.close, 20),
        talib.SMA(x.close, 50),
        talib.MACD(x.close, 12, 26, 9),
        talib.BBANDS(x.close, 20),
        talib.LINEARREG_SLOPE(x.close, 20),
        talib.ROCP(x.close, 1),
    ]


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
