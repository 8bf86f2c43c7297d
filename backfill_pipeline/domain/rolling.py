"""What features of a fixed number of bars are made of: returns, and sums, spreads and slopes of moving windows.

A window of 20 is put together from windows of 2, 4, 8 and 10 bars, so a value depends on the bars of its own
window alone, bit by bit: no running sum carries rounding errors, or an old price, along.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOOK_BACK = 49  # bars before a bar that its longest window (50) holds


class Windows(NamedTuple):
    """Moments of all windows of so many bars, oldest first: element i is of bars i to i + bars - 1."""

    bars: int
    total: Floats
    spread: Floats  # sum of squared deviations from the mean
    slope: Floats  # sum of value * (place - middle of the window); least squares divide it by 665 for 20 bars


def windows_of_10_and_20(x: Floats) -> tuple[Windows, Windows]:
    """Moments of the windows of 10 and of 20 bars that fit into `x`; a NaN spoils the windows that hold it."""
    step = x[1:] - x[:-1]
    two = Windows(2, x[1:] + x[:-1], step * step / 2, step / 2)
    four = _joined(two, two)
    ten = _joined(two, _joined(four, four))
    return ten, _joined(ten, ten)


def sums_of_50(ten: Windows, twenty: Windows) -> Floats:
    """Sums of the windows of 50 bars: 10 older, then twice 20."""
    return ten.total[:-40] + twenty.total[10:-20] + twenty.total[30:]


def returns(close: Floats, adjacent: Flags) -> Floats:
    """Simple returns, float64[n]; NaN for the first bar and where the bar before is missing."""
    # The difference first: close / previous - 1 would lose as many digits as the return is small.
    change = np.full(close.size, np.nan)
    np.subtract(close[1:], close[:-1], out=change[1:])
    change[1:] /= close[:-1]
    change[~adjacent] = np.nan
    return change


def newest(values: Floats, count: int) -> Floats:
    """The last so many values, with NaN before them where there are fewer."""
    if values.size >= count:
        return values[values.size - count :]
    return np.concatenate((np.full(count - values.size, np.nan), values))


def _joined(a: Windows, b: Windows) -> Windows:
    """Windows of a.bars older and b.bars newer bars (Chan, Golub and LeVeque 1979, and the same for slopes).

    `step` is exactly 0 for equal bars, so a constant series has no spread and no slope at all; weights are
    centred on the window, so the price level never costs digits.
    """
    bars = a.bars + b.bars
    count = max(0, b.total.size - a.bars)
    old_total, old_spread, old_slope = a.total[:count], a.spread[:count], a.slope[:count]
    new_total, new_spread, new_slope = b.total[a.bars :], b.spread[a.bars :], b.slope[a.bars :]
    step = new_total - (old_total if a.bars == b.bars else old_total * (b.bars / a.bars))
    slope = step * (a.bars / 2)
    slope += new_slope
    slope += old_slope
    spread = np.multiply(step, step, out=step)
    spread *= a.bars / (b.bars * bars)
    spread += new_spread
    spread += old_spread
    return Windows(bars, old_total + new_total, spread, slope)
