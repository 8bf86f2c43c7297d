"""The features of bars, block by block. Reading bars, writing rows and calendars do not go in here.

Whatever history is cut into, a block's values come from the same bars and so are the same bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backfill_pipeline.domain import feature_list
from backfill_pipeline.domain.adjust import own_basis
from backfill_pipeline.domain.feature_list import FEATURES, Feature
from backfill_pipeline.domain.recursive import recursive_features, recursive_scratch
from backfill_pipeline.domain.rolling import rolling_features, rolling_scratch

__all__ = ["FEATURES", "WARM_UP", "Feature", "FeatureInput", "compute_blocks", "compute_features", "feature_table"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Blocks = NDArray[np.int64]

# Bars before a block that its computation reads. One pass over all history remembers what came before them with
# weight (25/27)^840 = 8e-29 (EMA) and (13/14)^840 = 9e-28 (Wilder): even 840 times that is no digit of a price.
# RSI decides: a quotient of two averages, which shrink together while a price stands still, until the average
# move is under 1e-17 of the price and RSI is 0. Just above that an older average move, as large as the price
# itself, weighs 9e-28 / 1e-17 = 9e-11, still under 1e-10. (600 bars would leave 5e-3 there, 5e-20 elsewhere.)
WARM_UP = 840


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


def compute_features(x: FeatureInput) -> dict[str, Floats]:
    """All features of all bars in one pass, seeded at the first: float64[n] by name, NaN for NULL."""
    return compute_blocks(x, np.zeros(x.close.size, dtype=np.int64), 0)


def compute_blocks(x: FeatureInput, block: Blocks, first_block: int) -> dict[str, Floats]:
    """All features of the bars with block >= `first_block`: float64[m] by name, NaN for NULL.

    `block` is the number of each bar's calendar block, int64[n], non-decreasing. Each block is computed from its
    own bars and up to WARM_UP before them, so the values are the same bits whatever else the arrays hold,
    provided they reach back WARM_UP bars before `first_block` or to the start of history.
    """
    if block.shape != x.close.shape or np.any(block[1:] < block[:-1]):
        raise ValueError(f"block needs {x.close.size} numbers in non-decreasing order, one for each bar")
    n = x.close.size
    begin = int(np.searchsorted(block, first_block))
    out = {feature.name: np.empty(n - begin) for feature in FEATURES}
    if begin == n:
        return out
    starts = [begin, *(begin + 1 + np.flatnonzero(block[begin + 1 :] != block[begin:-1])).tolist()]
    stops = [*starts[1:], n]
    longest = max(stop - max(0, start - WARM_UP) for start, stop in zip(starts, stops, strict=True))
    scratch = (rolling_scratch(longest), recursive_scratch(longest))
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is a feature without a value
        for start, stop in zip(starts, stops, strict=True):
            rows = {name: values[start - begin : stop - begin] for name, values in out.items()}
            _compute_block(x, start, stop, scratch, rows)
    return out


def _compute_block(
    x: FeatureInput, start: int, stop: int, scratch: tuple[Floats, Floats], out: dict[str, Floats]
) -> None:
    """Write the features of bars start..stop; they see nothing before their warm-up."""
    seen = slice(max(0, start - WARM_UP), stop)
    first = start - seen.start
    high, low, close, volume = x.high[seen], x.low[seen], x.close[seen], x.volume[seen]
    basis = None if x.basis is None else own_basis(x.basis[seen])
    if basis is not None:
        high, low, close, volume = high * basis, low * basis, close * basis, volume / basis
    breaks = np.flatnonzero(~x.adjacent[seen])
    left_out = np.union1d(breaks, np.flatnonzero(x.session_first[seen])) if x.intraday else breaks
    rolling_features(close, volume, breaks, left_out, first, x.bars_per_year, scratch[0], out)
    recursive_features(high, low, close, first, scratch[1], out)
    if basis is not None:
        for feature in FEATURES:
            if feature.price_unit:
                out[feature.name] /= basis[first:]
    traded = out["dollar_volume"]
    traded[:] = x.vwap[start:stop]
    np.copyto(traded, x.close[start:stop], where=np.isnan(traded))
    traded *= x.volume[start:stop]


def feature_table() -> str:
    """The documentation page of all features, in Markdown."""
    return feature_list.feature_table(WARM_UP)
