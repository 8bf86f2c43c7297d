"""Features that remember every bar since their seed: EMA, Wilder's RSI and ATR, MACD. Seeded as TA-Lib does.

All are y[i] = keep * y[i-1] + (1 - keep) * x[i]. Divided by keep^i that is a plain running sum, which numpy
does in one call; and a sum of complex numbers carries two series in the time of one. Old rounding errors fade
with keep^n as in the recursion itself, so nothing is lost against it; scipy's lfilter takes twice the time.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pair = NDArray[np.complex128]

WILDER = 13 / 14
KEEP_9, KEEP_12, KEEP_26 = 8 / 10, 11 / 13, 25 / 27
PERIOD = 14
FIRST = {"ema_12": 11, "ema_26": 25, "rsi_14": 14, "atr_14": 14, "macd_signal_9": 33}  # index of first value
STRETCH = 2560  # bars until the weights start anew: 0.8^-2560 = 1e248 is still a number
FADED = 512  # bars after which MACD's other seed is gone: (11/13)^512 = 7e-38
FLAT = 1e-17  # share of the price: an average move below it is none (some 430 bars stood still), and RSI is 0


def recursive_scratch(bars: int) -> Floats:
    """Room for `recursive_features` over up to that many bars."""
    return np.empty((5, bars))


def recursive_features(
    high: Floats, low: Floats, close: Floats, first: int, scratch: Floats, out: dict[str, Floats]
) -> None:
    """Write the features of the bars from `first` on into `out`, float64[n - first] each, seeded at bar 0."""
    n = close.size
    pair: Pair = scratch[:2].reshape(-1)[: 2 * n].view(np.complex128)
    room, fast, slow = (row[:n] for row in scratch[2:])
    _write_rsi(close, first, pair, room, out["rsi_14"])
    _averages(close, pair, fast, slow)
    out["ema_12"][:] = fast[first:]
    out["ema_26"][:] = slow[first:]
    # MACD starts both of its averages at bar 25, the fast one from bars 14 to 25: another seed, fading away.
    other_seed = close[14:26].sum() / 12 - fast[25:26].sum()
    macd = np.subtract(fast, slow, out=fast)
    faded = _weights(KEEP_12, 1)[1][: max(0, min(FADED, n - 25))]
    macd[25 : 25 + faded.size] += other_seed * faded
    _write_atr_and_signal(high, low, close, macd, first, pair, room[1:], out)
    for name, index in FIRST.items():
        out[name][: max(0, index - first)] = np.nan


def _write_rsi(close: Floats, first: int, pair: Pair, room: Floats, out: Floats) -> None:
    """100 gain / (gain + loss) = 50 + 50 (average move / average size of a move)."""
    n = close.size
    grow, shrink = _weights(WILDER, _stretches(n))
    move = np.subtract(close[1:], close[:-1], out=room[1:])
    np.multiply(move, grow[1:n], out=pair.real[1:])
    _seed(pair.real, PERIOD, move[:PERIOD].sum() / PERIOD, WILDER)
    np.abs(move, out=move)
    np.multiply(move, grow[1:n], out=pair.imag[1:])
    _seed(pair.imag, PERIOD, move[:PERIOD].sum() / PERIOD, WILDER)
    _accumulate(pair, WILDER, WILDER)
    size = np.multiply(pair.imag[first:], shrink[first:n], out=room[first:])
    np.divide(pair.real[first:], pair.imag[first:], out=out)
    out *= 50.0
    out += 50.0
    size /= close[first:]
    out[size < FLAT] = 0.0


def _averages(close: Floats, pair: Pair, fast: Floats, slow: Floats) -> None:
    n = close.size
    grow_12, shrink_12 = _weights(KEEP_12, _stretches(n))
    grow_26, shrink_26 = _weights(KEEP_26, _stretches(n))
    np.multiply(close, grow_12[:n], out=pair.real)
    np.multiply(close, grow_26[:n], out=pair.imag)
    _seed(pair.real, FIRST["ema_12"], close[:12].sum() / 12, KEEP_12)
    _seed(pair.imag, FIRST["ema_26"], close[:26].sum() / 26, KEEP_26)
    _accumulate(pair, KEEP_12, KEEP_26)
    np.multiply(pair.real, shrink_12[:n], out=fast)
    np.multiply(pair.imag, shrink_26[:n], out=slow)


def _write_atr_and_signal(
    high: Floats,
    low: Floats,
    close: Floats,
    macd: Floats,
    first: int,
    pair: Pair,
    true_range: Floats,
    out: dict[str, Floats],
) -> None:
    n = close.size
    grow, shrink = _weights(WILDER, _stretches(n))
    grow_9, shrink_9 = _weights(KEEP_9, _stretches(n))
    np.maximum(high[1:], close[:-1], out=true_range)
    true_range -= np.minimum(low[1:], close[:-1])
    np.multiply(true_range, grow[1:n], out=pair.real[1:])
    np.multiply(macd, grow_9[:n], out=pair.imag)
    _seed(pair.real, PERIOD, true_range[:PERIOD].sum() / PERIOD, WILDER)
    _seed(pair.imag, FIRST["macd_signal_9"], macd[25:34].sum() / 9, KEEP_9)
    _accumulate(pair, WILDER, KEEP_9)
    np.multiply(pair.real[first:], shrink[first:n], out=out["atr_14"])
    np.multiply(pair.imag[first:], shrink_9[first:n], out=out["macd_signal_9"])


@lru_cache(maxsize=32)
def _weights(keep: float, stretches: int) -> tuple[Floats, Floats]:
    """(1 - keep) keep^-i and keep^i, with i starting anew at 0 in every stretch."""
    power = np.arange(STRETCH)
    return np.tile((1 - keep) * keep**-power, stretches), np.tile(keep**power, stretches)


def _stretches(bars: int) -> int:
    return -(-bars // STRETCH)


def _seed(row: Floats, index: int, value: float, keep: float) -> None:
    """Start a weighted row with this value at this index; a row that is shorter stays empty."""
    row[:index] = 0.0
    row[index : index + 1] = value * keep**-index


def _accumulate(pair: Pair, keep_real: float, keep_imag: float) -> None:
    """Running sums in place, handed over from stretch to stretch."""
    fade_real, fade_imag = keep_real**STRETCH, keep_imag**STRETCH
    for start in range(0, pair.size, STRETCH):
        part = pair[start : start + STRETCH]
        if start:
            last = pair[start - 1]
            part[0] += complex(last.real * fade_real, last.imag * fade_imag)
        np.add.accumulate(part, out=part)
