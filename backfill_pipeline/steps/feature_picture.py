"""Features to look at: close with its averages, the place in the Bollinger bands, and RSI, as a small PNG."""

from __future__ import annotations

import numpy as np

from backfill_pipeline.domain.bars import Micros
from backfill_pipeline.domain.timeframe import Timeframe, chain_of

from .bar_picture import heading
from .canvas import HEIGHT, Chart, Float

SHOWN = ("sma_20", "sma_50", "bollinger_pct_20", "rsi_14")
# Dark, middle and light as well as black, orange and blue.
CLOSE, SHORT, LONG, OTHER = "#222222", "#e08a00", "#56a5e0", "#7a3b8f"
# Bars that are shown, the newest: two pixels each, and a session of minutes. With more a picture has over 20 kB.
_MOST_BARS = 400


def feature_picture(symbol: str, timeframe: Timeframe, ts: Micros, close: Float, values: dict[str, Float]) -> bytes:
    """A PNG of 1 or more bars, ascending. `values`: of the SHOWN features; in the share basis of their own bar."""
    ts = ts[-_MOST_BARS:]
    lines = {name: line[-_MOST_BARS:] for name, line in {"close": close, **values}.items()}
    of_price = np.concatenate([lines["close"], lines["sma_20"], lines["sma_50"]])
    low, high = float(np.nanmin(of_price)), float(np.nanmax(of_price))
    chart = Chart(f"{heading(symbol, timeframe, ts)}, features", len(ts))
    prices = chart.panel(28, 186, low - 0.04 * (high - low), high + 0.2 * (high - low))
    chart.line(prices, lines["sma_50"], LONG)
    chart.line(prices, lines["sma_20"], SHORT)
    chart.line(prices, lines["close"], CLOSE)
    chart.name(prices, [("close", CLOSE), ("sma_20", SHORT), ("sma_50", LONG)])
    bands = chart.panel(196, 262, -0.3, 2.0, ticks=(0, 1))
    chart.line(bands, lines["bollinger_pct_20"], SHORT)
    chart.name(bands, [(_named(lines, "bollinger_pct_20"), SHORT)])
    rsi = chart.panel(272, HEIGHT - 26, 0, 135, ticks=(30, 70))
    chart.line(rsi, lines["rsi_14"], OTHER)
    chart.name(rsi, [(_named(lines, "rsi_14"), OTHER)])
    chart.times(rsi, ts, within_days=chain_of(timeframe).base == "1m")
    return chart.png()


def _named(lines: dict[str, Float], name: str) -> str:
    """An empty panel says why."""
    return f"{name}: too few bars yet" if np.isnan(lines[name]).all() else name
