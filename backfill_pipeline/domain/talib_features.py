"""The features that TA-Lib has too. Recursive ones are TA-Lib's own, those over windows are exact numpy.

TA-Lib's SMA carries a running sum: a price of 1,000,000 still shows 100 bars later, as 7e-10 at a price of 1.
Its LINEARREG_SLOPE finds a slope of 2e-14 in a price that stands still. Bands come from the same windows.
"""

import numpy as np

from backfill_pipeline.domain.rolling import (
    LOOK_BACK,
    Flags,
    Floats,
    newest,
    returns,
    sums_of_50,
    windows_of_10_and_20,
)

PERIOD = 14
NO_SPREAD = 1e-12  # a standard deviation up to this share of the mean is rounding, not movement
NO_MOVE = 1e-9  # neither is a move up to this share of the price: a cent of 1,000,000 is ten times as much
STILL_BARS = 400  # without a move RSI is 0: TA-Lib would go on showing what moves before all that said
SQUARED_PLACES = 665.0  # sum of (place - middle)^2 over 20 bars: least squares divide by it


def talib_features(high: Floats, low: Floats, close: Floats, adjacent: Flags, first: int) -> dict[str, Floats]:
    """Features of the bars from `first` on by name, float64[n - first] each, recursive ones seeded at bar 0.

    The arrays start with the first bar of history or with enough bars before `first` that the seed is forgotten.
    """
    import talib  # imports pandas: a third of a second that commands without features need not wait for

    near = slice(max(0, first - LOOK_BACK), None)
    recursive = {
        "atr_14": talib.ATR(high, low, close, PERIOD),
        "rsi_14": _with_still_prices(talib.RSI(close, PERIOD), close),
        "ema_12": talib.EMA(close, 12),
        "ema_26": talib.EMA(close, 26),
        "macd_signal_9": talib.MACD(close, 12, 26, 9)[1],
    }
    return (
        {"return_pct": newest(returns(close[near], adjacent[near]), close.size - first)}
        | {name: values[first:] for name, values in recursive.items()}
        | _windows(close[near], close.size - first)
    )


def _with_still_prices(rsi: Floats, close: Floats) -> Floats:
    """0 where the last STILL_BARS bars did not move, or none did since the first."""
    moved = np.flatnonzero(np.abs(close[1:] - close[:-1]) > NO_MOVE * close[1:]) + 1
    edges = np.concatenate(([-STILL_BARS], moved, [close.size]))
    for still in np.flatnonzero(edges[1:] - edges[:-1] > STILL_BARS):
        rsi[edges[still] + STILL_BARS : edges[still + 1]] = 0.0
    rsi[:PERIOD] = np.nan
    return rsi


def _windows(close: Floats, count: int) -> dict[str, Floats]:
    """Of the last `count` bars."""
    ten, twenty = windows_of_10_and_20(close)
    mean = twenty.total / 20
    deviation = np.sqrt(twenty.spread / 20)
    # (close - lower) / (upper - lower) with bands 2 deviations away = 1/2 + (close - mean) / (4 deviations)
    share = (close[19:] - mean) / (4 * deviation) + 0.5
    share[deviation <= NO_SPREAD * mean] = np.nan
    values = {
        "sma_20": mean,
        "sma_50": sums_of_50(ten, twenty) / 50,
        "bollinger_pct_20": share,
        "trend_slope_20": twenty.slope / (SQUARED_PLACES * mean),
    }
    return {name: newest(column, count) for name, column in values.items()}
