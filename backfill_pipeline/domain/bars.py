"""Bars as numpy columns. No validation (validate.py), no resampling (resample.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Micros = npt.NDArray[np.int64]

UNKNOWN_TRADES = -1


@dataclass(frozen=True, eq=False)
class Bars:
    """OHLCV columns of one symbol and timeframe, one element per bar.

    `ts`: int64, bar start, microseconds since 1970-01-01 UTC. Prices, `volume` (shares or coins, may be
    fractional) and `vwap` (NaN unknown): float64, unadjusted. `trades`: int64, -1 unknown. `final`: bool, never to
    change again.
    """

    ts: Micros
    open: Float
    high: Float
    low: Float
    close: Float
    volume: Float
    vwap: Float
    trades: npt.NDArray[np.int64]
    final: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Bars:
        """The bars that a mask, positions or a slice select; itself for a mask that selects all."""
        if isinstance(index, np.ndarray) and index.dtype == np.bool_ and bool(index.all()):
            return self
        return Bars(*(getattr(self, field.name)[index] for field in fields(self)))

    def sorted(self) -> Bars:
        """By `ts`, stable; itself where it is already."""
        if len(self) < 2 or bool(np.all(self.ts[1:] >= self.ts[:-1])):
            return self
        return self.take(np.argsort(self.ts, kind="stable"))

    def between(self, start: int, end: int) -> Bars:
        """Bars with start <= ts < end; the bars must be sorted."""
        low, high = np.searchsorted(self.ts, [start, end])
        return self.take(slice(int(low), int(high)))

    def with_final(self, final: npt.NDArray[np.bool_]) -> Bars:
        return replace(self, final=final)


def make_bars(
    ts: npt.ArrayLike,
    open: npt.ArrayLike,  # noqa: A002  (the field's own word)
    high: npt.ArrayLike,
    low: npt.ArrayLike,
    close: npt.ArrayLike,
    volume: npt.ArrayLike,
    vwap: npt.ArrayLike | None = None,
    trades: npt.ArrayLike | None = None,
) -> Bars:
    """Bars from anything array-like; vwap and trades unknown unless given; nothing final.

    ValueError if the columns differ in length.
    """
    stamps = np.ascontiguousarray(ts, dtype=np.int64)
    n = len(stamps)
    bars = Bars(
        stamps,
        _floats(open),
        _floats(high),
        _floats(low),
        _floats(close),
        _floats(volume),
        np.full(n, np.nan) if vwap is None else _floats(vwap),
        np.ascontiguousarray(np.full(n, UNKNOWN_TRADES) if trades is None else trades, dtype=np.int64),
        np.zeros(n, dtype=bool),
    )
    lengths = [len(getattr(bars, field.name)) for field in fields(bars)]
    if any(length != n for length in lengths):
        raise ValueError(f"columns of unequal length: {lengths}")
    return bars


def _floats(column: npt.ArrayLike) -> Float:
    return np.ascontiguousarray(column, dtype=np.float64)


def no_bars() -> Bars:
    return make_bars([], [], [], [], [], [])


def concatenate(pieces: Sequence[Bars]) -> Bars:
    """One after the other, in the order given."""
    if not pieces:
        return no_bars()
    if len(pieces) == 1:
        return pieces[0]
    return Bars(*(np.concatenate([getattr(piece, field.name) for piece in pieces]) for field in fields(Bars)))
