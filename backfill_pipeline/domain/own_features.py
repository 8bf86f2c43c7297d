"""The features that TA-Lib does not have: returns, volatility and volume over windows. Nothing recursive."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from backfill_pipeline.domain.rolling import Flags, Floats, newest, returns, windows_of_10_and_20
from backfill_pipeline.domain.talib_features import NO_SPREAD

MIN_RETURNS = 5  # fewer returns in a window tell no volatility


def own_features(
    close: Floats, volume: Floats, adjacent: Flags, left_out: Flags, bars_per_year: float, count: int
) -> dict[str, Floats]:
    """Features of the last `count` bars by name, float64[count] each.

    The returns of the bars `left_out` are no part of a volatility. The arrays start with the first bar of
    history or hold at least LOOK_BACK bars before those asked for.
    """
    log_return = np.log1p(returns(close, adjacent))
    counted = np.where(left_out, np.nan, log_return)[1:]
    values = {
        "log_return": log_return,
        "volatility_20": np.sqrt(_variance(counted) * bars_per_year),
        "volume_z_20": _volume_z(volume),
    }
    return {name: newest(column, count) for name, column in values.items()}


def dollar_volume(close: Floats, volume: Floats, vwap: Floats) -> Floats:
    return np.where(np.isnan(vwap), close, vwap) * volume


def _variance(values: Floats) -> Floats:
    """Sample variance of the known ones of every 20 values; NaN with fewer than MIN_RETURNS."""
    variance = windows_of_10_and_20(values)[1].spread / 19
    gappy = np.flatnonzero(np.isnan(variance))
    if not gappy.size:
        return variance
    window = sliding_window_view(values, 20)[gappy]
    known = ~np.isnan(window)
    number = known.sum(axis=1)
    mean = np.where(known, window, 0.0).sum(axis=1) / number
    deviation = np.where(known, window - mean[:, np.newaxis], 0.0)
    variance[gappy] = (deviation * deviation).sum(axis=1) / (number - 1)
    variance[gappy[number < MIN_RETURNS]] = np.nan
    return variance


def _volume_z(volume: Floats) -> Floats:
    _, twenty = windows_of_10_and_20(volume)
    mean = twenty.total / 20
    deviation = np.sqrt(twenty.spread / 19)
    score = (volume[19:] - mean) / deviation
    score[deviation <= NO_SPREAD * mean] = np.nan
    return score
