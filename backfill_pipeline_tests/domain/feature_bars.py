"""Made-up bars for the feature tests, and the formulas that TA-Lib lacks as plain loops."""

import math

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


def loop_log_return(x: FeatureInput) -> list[float]:
    return [math.log(x.close[i] / x.close[i - 1]) if i and x.adjacent[i] else math.nan for i in range(x.close.size)]


def loop_volatility(x: FeatureInput) -> list[float]:
    returns = loop_log_return(x)
    values = []
    for i in range(x.close.size):
        window = [
            returns[j]
            for j in range(max(0, i - 19), i + 1)
            if not math.isnan(returns[j]) and not (x.intraday and x.session_first[j])
        ]
        if i < 20 or len(window) < 5:
            values.append(math.nan)
            continue
        mean = math.fsum(window) / len(window)
        variance = math.fsum((r - mean) ** 2 for r in window) / (len(window) - 1)
        values.append(math.sqrt(variance * x.bars_per_year))
    return values


def loop_windows(x: FeatureInput) -> dict[str, list[float]]:
    """bollinger_pct_20, trend_slope_20 and volume_z_20, by their definitions."""
    out: dict[str, list[float]] = {"bollinger_pct_20": [], "trend_slope_20": [], "volume_z_20": []}
    for i in range(x.close.size):
        if i < 19:
            for values in out.values():
                values.append(math.nan)
            continue
        close, volume = x.close[i - 19 : i + 1].tolist(), x.volume[i - 19 : i + 1].tolist()
        mean = math.fsum(close) / 20
        deviation = math.sqrt(math.fsum((c - mean) ** 2 for c in close) / 20)
        lower, upper = mean - 2 * deviation, mean + 2 * deviation
        out["bollinger_pct_20"].append((close[-1] - lower) / (upper - lower) if upper > lower else math.nan)
        slope = math.fsum((k - 9.5) * c for k, c in enumerate(close)) / math.fsum((k - 9.5) ** 2 for k in range(20))
        out["trend_slope_20"].append(slope / mean)
        mean = math.fsum(volume) / 20
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in volume) / 19)
        out["volume_z_20"].append((volume[-1] - mean) / deviation if deviation else math.nan)
    return out
