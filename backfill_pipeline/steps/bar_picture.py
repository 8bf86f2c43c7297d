"""Bars to look at: candles and volume as a small PNG. Which bars is the caller's."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from backfill_pipeline.domain.bars import Bars, Micros
from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Timeframe, chain_of
from backfill_pipeline.domain.windows import Window, to_datetime

from .canvas import HEIGHT, Chart, Float

# Completeness has the same two colours; they differ in lightness, too.
UP, DOWN = "#52b196", "#b73c00"
# Candles that fit: four pixels each.
MOST_CANDLES = 200
# Calendar days up to a partition's last that are shown at least: about 130 bars of a stock.
_DAYS: dict[Timeframe, int] = {"1m": 1, "5m": 2, "15m": 7, "30m": 14, "1h": 28, "4h": 91, "1d": 182, "1w": 910}
_LONGEST = 24


def shown_window(sessions: Sessions, timeframe: Timeframe, period: Period) -> Window:
    """The partition's window, and of coarse bars, which are few in a day, of days before as well."""
    before = period.last - timedelta(days=_DAYS[timeframe] - 1)
    return sessions.days_window(min(period.first, before), period.last)


def heading(symbol: str, timeframe: Timeframe, ts: Micros) -> str:
    """`AAPL 1m  2024-05-14 13:30 to 19:59 UTC`. `ts`: starts of 1 or more bars, ascending."""
    short = symbol if len(symbol) <= _LONGEST else f"{symbol[: _LONGEST - 2]}.."
    first, last = to_datetime(int(ts[0])), to_datetime(int(ts[-1]))
    if chain_of(timeframe).base == "1d":
        # Their days begin at midnight of the exchange: the UTC date of the moment 12 h later is the session's.
        begin, end = ((moment + timedelta(hours=12)).date() for moment in (first, last))
        return f"{short} {timeframe}  {begin} to {end}"
    until = (
        "" if first == last else f" to {last:%H:%M}" if first.date() == last.date() else f" to {last:%Y-%m-%d %H:%M}"
    )
    return f"{short} {timeframe}  {first:%Y-%m-%d %H:%M}{until} UTC"


def bar_picture(symbol: str, timeframe: Timeframe, bars: Bars) -> bytes:
    """A PNG: prices above, volume below, unadjusted. `bars`: 1 or more, ascending. Of more than MOST_CANDLES,
    neighbours are drawn as one candle.
    """
    size = -(-len(bars) // MOST_CANDLES)
    starts = np.arange(0, len(bars), size)
    ends = np.minimum(starts + size, len(bars)) - 1
    first, last = bars.open[starts], bars.close[ends]
    high, low = np.maximum.reduceat(bars.high, starts), np.minimum.reduceat(bars.low, starts)
    volume: Float = np.add.reduceat(bars.volume, starts)
    together = f", {size} bars a candle" if size > 1 else ""
    chart = Chart(f"{heading(symbol, timeframe, bars.ts)}, unadjusted{together}", len(starts))
    colours = np.where(last >= first, UP, DOWN).tolist()
    span = float(high.max() - low.min())
    prices = chart.panel(28, 238, float(low.min()) - 0.03 * span, float(high.max()) + 0.03 * span)
    chart.boxes(prices, (low, high), colours, 0.0)
    chart.boxes(prices, (first, last), colours, _body(len(starts)))
    volumes = chart.panel(250, HEIGHT - 26, 0.0, (float(volume.max()) or 1.0) * 1.35)
    chart.boxes(volumes, (np.zeros(len(volume)), volume), colours, _body(len(starts)))
    chart.name(volumes, [("volume", "#333333")])
    chart.times(volumes, bars.ts[starts], within_days=chain_of(timeframe).base == "1m")
    return chart.png()


def _body(candles: int) -> float:
    """The part of its slot that a candle's body fills: a few must not look like walls."""
    return 0.7 if candles > 20 else 0.7 * candles / 20
