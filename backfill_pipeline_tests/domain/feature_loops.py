"""Every feature as the plain loop that its formula in the data dictionary reads like. One price basis, no blocks."""

import math
from collections.abc import Sequence

from backfill_pipeline.domain.features import FeatureInput

NAN = math.nan
Column = list[float]


def loop_features(x: FeatureInput) -> dict[str, Column]:
    """All features by name in the declared order, NaN for NULL."""
    high, low, close = x.high.tolist(), x.low.tolist(), x.close.tolist()
    volume, vwap = x.volume.tolist(), x.vwap.tolist()
    return {
        "return_pct": [
            (close[i] - close[i - 1]) / close[i - 1] if i and x.adjacent[i] else NAN for i in range(len(close))
        ],
        "log_return": loop_log_return(x),
        "volatility_20": loop_volatility(x),
        "atr_14": loop_atr(high, low, close),
        "rsi_14": loop_rsi(close),
        "sma_20": loop_mean(close, 20),
        "sma_50": loop_mean(close, 50),
        "ema_12": loop_ema(close, 12),
        "ema_26": loop_ema(close, 26),
        "macd_signal_9": loop_macd_signal(close),
        "bollinger_pct_20": loop_bollinger(close),
        "trend_slope_20": loop_slope(close),
        "volume_z_20": loop_volume_z(volume),
        "dollar_volume": [(c if math.isnan(w) else w) * v for c, v, w in zip(close, volume, vwap, strict=True)],
    }


def loop_log_return(x: FeatureInput) -> Column:
    return [math.log(x.close[i] / x.close[i - 1]) if i and x.adjacent[i] else NAN for i in range(x.close.size)]


def loop_volatility(x: FeatureInput) -> Column:
    returns = loop_log_return(x)
    values = []
    for i in range(x.close.size):
        window = [
            returns[j]
            for j in range(max(0, i - 19), i + 1)
            if not math.isnan(returns[j]) and not (x.intraday and x.session_first[j])
        ]
        if i < 20 or len(window) < 5:
            values.append(NAN)
            continue
        mean = math.fsum(window) / len(window)
        variance = math.fsum((r - mean) ** 2 for r in window) / (len(window) - 1)
        values.append(math.sqrt(variance * x.bars_per_year))
    return values


def loop_atr(high: Column, low: Column, close: Column) -> Column:
    ranges = [max(high[i], close[i - 1]) - min(low[i], close[i - 1]) for i in range(1, len(close))]
    return [NAN, *loop_wilder(ranges)]


def loop_rsi(close: Column) -> Column:
    moves = [close[i] - close[i - 1] for i in range(1, len(close))]
    gains = loop_wilder([max(move, 0.0) for move in moves])
    losses = loop_wilder([max(-move, 0.0) for move in moves])
    values = [NAN]
    still = 400  # bars without a move; as many as it takes before the first
    for i in range(1, len(close)):
        still = 0 if abs(moves[i - 1]) > 1e-9 * close[i] else still + 1
        gain, loss = gains[i - 1], losses[i - 1]
        if math.isnan(gain):
            values.append(NAN)
        else:
            values.append(0.0 if still >= 400 else 100 * gain / (gain + loss))
    return values


def loop_wilder(values: Column) -> Column:
    """Wilder's average of 14."""
    averages = [NAN] * min(13, len(values))
    for i in range(13, len(values)):
        averages.append(math.fsum(values[:14]) / 14 if i == 13 else (13 * averages[-1] + values[i]) / 14)
    return averages


def loop_mean(close: Column, bars: int) -> Column:
    return [NAN if i < bars - 1 else math.fsum(close[i - bars + 1 : i + 1]) / bars for i in range(len(close))]


def loop_ema(values: Column, bars: int) -> Column:
    averages = [NAN] * min(bars - 1, len(values))
    for i in range(bars - 1, len(values)):
        if i == bars - 1:
            averages.append(math.fsum(values[:bars]) / bars)
        else:
            averages.append(((bars - 1) * averages[-1] + 2 * values[i]) / (bars + 1))
    return averages


def loop_macd_signal(close: Column) -> Column:
    slow = loop_ema(close, 26)[25:]
    fast = loop_ema(close[14:], 12)[11:]  # seeded on bars 14 to 25, so that both start at bar 25
    macd = [f - s for f, s in zip(fast, slow, strict=True)]
    return [NAN] * min(25, len(close)) + loop_ema(macd, 9)


def loop_bollinger(close: Column) -> Column:
    values = [NAN] * min(19, len(close))
    for window in windows(close):
        mean = math.fsum(window) / 20
        deviation = math.sqrt(math.fsum((c - mean) ** 2 for c in window) / 20)
        lower, upper = mean - 2 * deviation, mean + 2 * deviation
        values.append((window[-1] - lower) / (upper - lower) if upper > lower else NAN)
    return values


def loop_slope(close: Column) -> Column:
    values = [NAN] * min(19, len(close))
    for window in windows(close):
        slope = math.fsum((k - 9.5) * c for k, c in enumerate(window)) / math.fsum((k - 9.5) ** 2 for k in range(20))
        values.append(slope / (math.fsum(window) / 20))
    return values


def loop_volume_z(volume: Column) -> Column:
    values = [NAN] * min(19, len(volume))
    for window in windows(volume):
        mean = math.fsum(window) / 20
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in window) / 19)
        values.append((window[-1] - mean) / deviation if deviation else NAN)
    return values


def windows(values: Column) -> Sequence[Column]:
    return [values[i - 19 : i + 1] for i in range(19, len(values))]
