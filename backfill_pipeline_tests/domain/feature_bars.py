"""Made-up bars for the feature tests."""

import numpy as np
from numpy.typing import NDArray

from backfill_pipeline.domain.features import FeatureInput

Floats = NDArray[np.float64]


def bars(n: int, seed: int = 1, *, intraday: bool = False, session: int = 39, missing: float = 0.0) -> FeatureInput:
    """n bars on a cent grid, with unknown vwap here and there."""
    random = np.random.default_rng(seed)
    close = np.round(50 * np.exp(np.cumsum(random.normal(0, 0.01, n))), 2)
    volume = np.round(random.lognormal(6, 1, n))
    vwap = np.where(random.random(n) < 0.2, np.nan, np.round(close * 0.999, 4))
    return FeatureInput(
        high=np.round(close * (1 + 0.01 * random.random(n)), 2),
        low=np.round(close * (1 - 0.01 * random.random(n)), 2),
        close=close,
        volume=volume,
        vwap=vwap,
        adjacent=random.random(n) >= missing,
        session_first=np.arange(n) % session == 0,
        basis=None,
        intraday=intraday,
        bars_per_year=252.0,
    )


def flat_bars(close: Floats, volume: Floats | None = None) -> FeatureInput:
    """Daily bars without range at these closes, nothing missing."""
    close = np.asarray(close, dtype=float)
    n = close.size
    return FeatureInput(
        high=close,
        low=close,
        close=close,
        volume=np.full(n, 100.0) if volume is None else np.asarray(volume, dtype=float),
        vwap=np.full(n, np.nan),
        adjacent=np.ones(n, dtype=bool),
        session_first=np.ones(n, dtype=bool),
        basis=None,
        intraday=False,
        bars_per_year=252.0,
    )


def same_bits(left: dict[str, Floats], right: dict[str, Floats]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k], equal_nan=True) for k in left)
