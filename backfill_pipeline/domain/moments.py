"""Sums, spreads and slopes of moving windows, exact to the last digit. What they are used for is not known here.

A window of 20 is put together from windows of 1, 2, 4, 5 and 10 bars, so a value depends on the bars of its
own window alone, bit by bit: no running sum carries rounding errors, or an old price, along. Merging windows a
and b adds (Chan, Golub and LeVeque 1979, with their counterpart for slopes), where d = n_b sum_a - n_a sum_b
    sum     sum_a + sum_b
    spread  spread_a + spread_b + d * d / (n_a * n_b * (n_a + n_b))
    slope   slope_a + slope_b + d / 2: weights centred on the window, so the price level never costs digits
d is exactly 0 for equal bars, so a constant series has no spread and no slope at all.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 20
LOOK_BACK = 49  # bars before a bar that its longest window (50) holds
SCRATCH_ROWS = 6  # with three rows of a month of minutes about 1 MB: what a core's cache holds


class Moments(NamedTuple):
    """Of the 20 bars ending at each bar, one array per row; slope and 50-bar sum are those of the first row."""

    total: list[Floats]  # sum
    spread: list[Floats]  # 20 x the sum of squared deviations from the mean
    slope: Floats  # 2 x the sum of (9.5 - bars ago) x value
    total_50: Floats


def window_moments(rows: Floats, scratch: Floats) -> Moments:
    """Moments of the last m bars of every row of `rows`, float64[r, LOOK_BACK + m]: arrays of length m.

    `scratch` is float64[SCRATCH_ROWS, r * (LOOK_BACK + m) or more]; the result is a view of it, to be used up
    before the next call. The rows are handled as one flat array (a third of the calls): a window that runs from
    one row into the next ends in the first LOOK_BACK bars of that row, which are not returned.
    """
    count, width = rows.shape
    x = rows.reshape(-1)
    n, m = x.size, width - LOOK_BACK
    sum_a, sum_b, even, odd, slope_a, slope_b = (row[:n] for row in scratch)

    # 1 + 1 -> 2. Spreads count 20 fold, because then two of the five merges need no factor.
    step = np.subtract(x[1:], x[:-1], out=even[: n - 1])
    total = np.add(x[1:], x[:-1], out=sum_a[: n - 1])
    slope = slope_a[: width - 1]
    slope[:] = step[: width - 1]
    spread = np.multiply(step, step, out=step)
    spread *= 10.0

    # 2 + 2 -> 4
    step = np.subtract(total[2:], total[:-2], out=odd[: n - 3])
    total = np.add(total[2:], total[:-2], out=sum_b[: n - 3])
    slope = _merged_slope(slope, 2, step, slope_b)
    spread = _merged_spread(spread, 2, step, 5.0)

    # 4 newer + 1 older -> 5
    older = np.multiply(x[:-4], 4.0, out=even[: n - 4])
    step = np.subtract(total[1:], older, out=older)
    total = np.add(total[1:], x[:-4], out=sum_a[: n - 4])
    slope = np.add(slope[1:], step[: width - 4], out=slope_a[: width - 4])
    np.multiply(step, step, out=step)
    step += spread[1:]
    spread = step

    # 5 + 5 -> 10
    step = np.subtract(total[5:], total[:-5], out=odd[: n - 9])
    total_10 = np.add(total[5:], total[:-5], out=sum_b[: n - 9])
    slope = _merged_slope(slope, 5, step, slope_b)
    spread = _merged_spread(spread, 5, step, 2.0)

    # 10 + 10 -> 20
    step = np.subtract(total_10[10:], total_10[:-10], out=even[: n - 19])
    total = np.add(total_10[10:], total_10[:-10], out=sum_a[: n - 19])
    slope = _merged_slope(slope, 10, step, slope_a)
    spread = _merged_spread(spread, 10, step, 1.0)

    # 20 + 20 + 10 -> 50. Element j of an array of windows of k bars ends at bar j + k - 1.
    total_50 = np.add(total[30 : 30 + m], total[10 : 10 + m], out=slope_b[:m])
    total_50 += total_10[:m]

    last = [slice(row * width + 30, row * width + 30 + m) for row in range(count)]
    return Moments([total[part] for part in last], [spread[part] for part in last], slope[30:], total_50)


def _merged_slope(slope: Floats, bars: int, step: Floats, out: Floats) -> Floats:
    """Twice the slope moment of two neighbours of so many bars; `step` is the newer sum less the older."""
    size = slope.size - bars
    merged = np.multiply(step[:size], float(bars), out=out[:size])
    merged += slope[bars:]
    merged += slope[:-bars]
    return merged


def _merged_spread(spread: Floats, bars: int, step: Floats, weight: float) -> Floats:
    """20 times the spread of two neighbours of so many bars, weight = 20 / (2 bars); in place of `step`."""
    np.multiply(step, step, out=step)
    if weight != 1.0:
        step *= weight
    step += spread[bars:]
    step += spread[:-bars]
    return step
