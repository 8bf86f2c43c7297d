"""Merging bars, written apart from the package's own resampling so that it can check it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import Bars, make_bars, no_bars

Micros = npt.NDArray[np.int64]


def merged(bars: Bars, buckets: Micros) -> Bars:
    """One bar per run of equal `buckets` (int64, ascending, one per bar), labelled by the bucket."""
    if not len(bars):
        return no_bars()
    first = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
    last = np.concatenate([first[1:], [len(bars)]]) - 1
    volume = np.add.reduceat(bars.volume, first)
    known = np.where(np.isnan(bars.vwap), 0.0, bars.volume)
    turnover = np.add.reduceat(np.nan_to_num(bars.vwap) * bars.volume, first)
    weight = np.add.reduceat(known, first)
    return make_bars(
        buckets[first],
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        volume,
        np.divide(turnover, weight, out=np.full(len(first), np.nan), where=weight > 0),
        np.add.reduceat(np.maximum(bars.trades, 0), first),
    )


def one_bar(bars: Bars, ts: int) -> Bars:
    """All of them as one, labelled `ts`; none of none. Sums in the order that SyntheticProvider takes: equal bits."""
    if not len(bars):
        return no_bars()
    volume = float(bars.volume.sum())
    vwap = float(bars.vwap @ bars.volume) / volume if volume else np.nan
    return make_bars(
        [ts],
        [bars.open[0]],
        [bars.high.max()],
        [bars.low.min()],
        [bars.close[-1]],
        [volume],
        [vwap],
        [int(bars.trades.sum())],
    )


def scaled(bars: Bars, price: float) -> Bars:
    """Prices and vwap times `price`, volume divided by it; itself where nothing changes."""
    if price == 1.0:
        return bars
    prices = {name: getattr(bars, name) * price for name in ("open", "high", "low", "close", "vwap")}
    return replace(bars, volume=bars.volume / price, **prices)


def rounded(bars: Bars) -> Bars:
    """Prices to a hundredth of a cent and volumes to a hundredth of a share, as the made-up bars are."""
    prices = {name: np.round(getattr(bars, name), 4) for name in ("open", "high", "low", "close", "vwap")}
    return replace(bars, volume=np.round(bars.volume, 2), **prices)
