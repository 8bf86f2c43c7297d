"""The features of bars, block by block. Reading bars, writing rows and calendars do not go in here.

Whatever history is cut into, a block's values come from the same bars and so are the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backfill_pipeline.domain import feature_list
from backfill_pipeline.domain.adjust import own_basis
from backfill_pipeline.domain.feature_list import FEATURES, Feature
from backfill_pipeline.domain.own_features import dollar_volume, own_features
from backfill_pipeline.domain.rolling import LOOK_BACK, Flags, Floats
from backfill_pipeline.domain.talib_features import talib_features

__all__ = [
    "FEATURES",
    "WARM_UP",
    "Feature",
    "FeatureInput",
    "compute_blocks",
    "compute_features",
    "compute_talib_blocks",
    "feature_table",
]

Blocks = NDArray[np.int64]

# Bars before a block that its computation reads. One pass over all history remembers what came before them with
# weight (25/27)^1050 = 8e-36 (EMA) and (13/14)^1050 = 2e-34 (Wilder): no digit of a price.
# RSI decides, a quotient of two averages that shrink together while a price stands still. It is 0 after 400 bars
# without a move of 1e-9 of the price; just before, 1e-9 / 14 * (13/14)^400 of the price is left of the last one,
# and an older average move, as large as the price itself, weighs 2e-11 of that. (840 bars would leave 1e-4.)
WARM_UP = 1050

PRICE_UNIT = frozenset(feature.name for feature in FEATURES if feature.price_unit)


@dataclass(frozen=True)
class FeatureInput:
    """n bars of one symbol and timeframe, oldest first; each array has n elements.

    high, low, close (positive) and volume are unadjusted; vwap is NaN where unknown. `adjacent`: the bar before
    in the array is the one right before on the grid. `session_first`: first bar of its session. `basis`: shares
    that one share of the first bar has become (1.0, then 4.0 from a 4:1 ex-date on), None without splits.
    """

    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    adjacent: Flags
    session_first: Flags
    basis: Floats | None
    intraday: bool
    bars_per_year: float

    def __post_init__(self) -> None:
        """Raises ValueError for arrays of different lengths and for prices that are none."""
        for name in ("high", "low", "close", "volume", "vwap", "adjacent", "session_first", "basis"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.shape != self.close.shape or values.ndim != 1:
                raise ValueError(f"{name} has shape {values.shape}, close has {self.close.shape}; give n of each")
            dtype = np.bool_ if name in ("adjacent", "session_first") else np.float64
            # Contiguous, because numpy may round ln differently in a strided array.
            object.__setattr__(self, name, np.ascontiguousarray(values, dtype=dtype))
        for name in ("high", "low", "close"):
            values = getattr(self, name)
            if values.size and not (values.min() > 0 and values.max() < np.inf):
                place = int(np.flatnonzero(~((values > 0) & (values < np.inf)))[0])
                raise ValueError(f"{name} of bar {place} is {values[place]}; bars need positive, finite prices")


BlockFeatures = Callable[[FeatureInput, int, int], dict[str, Floats]]


def compute_features(x: FeatureInput) -> dict[str, Floats]:
    """All features of all bars in one pass, seeded at the first: float64[n] by name, NaN for NULL."""
    return compute_blocks(x, np.zeros(x.close.size, dtype=np.int64), 0)


def compute_blocks(x: FeatureInput, block: Blocks, first_block: int) -> dict[str, Floats]:
    """All features of the bars with block >= `first_block`: float64[m] by name, NaN for NULL.

    `block` is the number of each bar's calendar block, int64[n], non-decreasing. Each block is computed from its
    own bars and up to WARM_UP before them, so the values are the same bits whatever else the arrays hold,
    provided they reach back WARM_UP bars before `first_block` or to the start of history.
    """
    values = compute_talib_blocks(x, block, first_block) | _by_block(_own_features, x, block, first_block)
    return {feature.name: values[feature.name] for feature in FEATURES}


def compute_talib_blocks(x: FeatureInput, block: Blocks, first_block: int) -> dict[str, Floats]:
    """As `compute_blocks`, but only the ten features that TA-Lib has too."""
    return _by_block(_talib_features, x, block, first_block)


def _by_block(compute: BlockFeatures, x: FeatureInput, block: Blocks, first_block: int) -> dict[str, Floats]:
    if block.shape != x.close.shape or np.any(block[1:] < block[:-1]):
        raise ValueError(f"block needs {x.close.size} numbers in non-decreasing order, one for each bar")
    begin, end = int(np.searchsorted(block, first_block)), x.close.size
    starts = [begin, *(np.flatnonzero(block[begin + 1 :] != block[begin:-1]) + begin + 1).tolist()]
    out: dict[str, Floats] = {}
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is a feature without a value
        for start, stop in zip(starts, [*starts[1:], end], strict=True):
            for name, values in compute(x, start, stop).items():
                if name not in out:
                    out[name] = np.empty(end - begin)
                out[name][start - begin : stop - begin] = values
    return out


def _talib_features(x: FeatureInput, start: int, stop: int) -> dict[str, Floats]:
    """Of the bars start..stop; they see nothing before their warm-up."""
    seen = slice(max(0, start - WARM_UP), stop)
    first = start - seen.start
    high, low, close, adjacent = x.high[seen], x.low[seen], x.close[seen], x.adjacent[seen]
    basis = _share_basis(x, seen)
    if basis is None:
        return talib_features(high, low, close, adjacent, first)
    values = talib_features(high * basis, low * basis, close * basis, adjacent, first)
    return {name: column / basis[first:] if name in PRICE_UNIT else column for name, column in values.items()}


def _own_features(x: FeatureInput, start: int, stop: int) -> dict[str, Floats]:
    """Of the bars start..stop; they see nothing before their longest window."""
    seen, block = slice(max(0, start - LOOK_BACK), stop), slice(start, stop)
    close, volume = x.close[seen], x.volume[seen]
    basis = _share_basis(x, seen)
    if basis is not None:
        close, volume = close * basis, volume / basis
    left_out = x.session_first[seen] & x.intraday
    values = own_features(close, volume, x.adjacent[seen], left_out, x.bars_per_year, stop - start)
    return values | {"dollar_volume": dollar_volume(x.close[block], x.volume[block], x.vwap[block])}


def _share_basis(x: FeatureInput, seen: slice) -> Floats | None:
    """Counted from the first bar seen; None without a split among these bars."""
    return None if x.basis is None else own_basis(x.basis[seen])


def feature_table() -> str:
    """The documentation page of all features, in Markdown."""
    return feature_list.feature_table(WARM_UP)
