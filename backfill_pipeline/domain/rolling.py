"""Features of a fixed number of bars: returns and everything over windows of 20 and 50. Nothing recursive."""

import numpy as np
from numpy.typing import NDArray

from backfill_pipeline.domain.moments import (
    LOOK_BACK,
    SCRATCH_ROWS,
    WINDOW,
    Floats,
    Moments,
    window_moments,
)

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]

CHUNK = 16_384  # bars at a time: bounds memory; a month of regular minutes (about 8,200) is one chunk
ROWS = 3  # close, volume, log return
NO_SPREAD = 1e-12  # a standard deviation below this share of the mean is rounding, not movement
MIN_RETURNS = 5  # fewer returns in a window tell no volatility
CANCELLED = 1e-3  # a variance corrected to less than this share has lost 3 digits of 16: count it anew
SLOPE_NORM = 665.0  # sum of (9.5 - k)^2 over k = 0 .. 19: least squares divide by it
SAMPLE_VARIANCE = 1 / (WINDOW * (WINDOW - 1))  # of a spread, which is 20 times the squared deviations
NOWHERE = np.empty(0, dtype=np.intp)


def rolling_scratch(bars: int) -> Floats:
    """Room for `rolling_features` over up to that many bars: allocating per block costs more than computing."""
    return np.empty((SCRATCH_ROWS + 1, ROWS * (min(bars, CHUNK) + LOOK_BACK)))


def rolling_features(
    close: Floats,
    volume: Floats,
    breaks: Places,
    left_out: Places,
    first: int,
    bars_per_year: float,
    scratch: Floats,
    out: dict[str, Floats],
) -> None:
    """Write the features of the bars from `first` on into `out`, float64[n - first] each.

    `breaks` are the bars whose return is NULL, `left_out` (them included) those whose return no volatility
    counts. The arrays start with the first bar of history, or hold at least LOOK_BACK bars before `first`.
    """
    for start in range(first, close.size, CHUNK):
        stop = min(start + CHUNK, close.size)
        width = stop - start + LOOK_BACK
        seen = slice(max(0, start - LOOK_BACK), stop)
        pad = width - (stop - seen.start)  # bars before history are NaN, and so is every window that holds one
        rows = scratch[-1, : ROWS * width].reshape(ROWS, width)
        rows[:, :pad] = np.nan
        rows[0, pad:] = close[seen]
        rows[1, pad:] = volume[seen]
        part = {name: values[start - first : stop - first] for name, values in out.items()}
        shift = pad - seen.start
        _write_returns(rows[0], rows[2], _between(breaks, seen) + shift, scratch[0], part)
        skipped = _between(left_out, seen) + shift
        rows[2, : pad + 1] = 0.0
        rows[2, skipped] = 0.0
        moments = window_moments(rows, scratch[:SCRATCH_ROWS])
        _write_price_windows(rows[0], moments, part)
        _write_volume_z(rows[1], moments, part["volume_z_20"])
        known = np.ones(width, dtype=np.bool_)
        known[: pad + 1] = False
        known[skipped] = False
        _write_volatility(rows[2], known, moments, bars_per_year, part["volatility_20"])
        part["volatility_20"][: max(0, WINDOW - start)] = np.nan


def _write_returns(close: Floats, log_row: Floats, breaks: Places, scratch: Floats, out: dict[str, Floats]) -> None:
    # The difference first: close / previous - 1 would lose as many digits as the return is small.
    simple = np.subtract(close[1:], close[:-1], out=scratch[: close.size - 1])
    simple /= close[:-1]
    simple[breaks[breaks > 0] - 1] = np.nan
    log_row[0] = np.nan
    np.log1p(simple, out=log_row[1:])
    out["return_pct"][:] = simple[LOOK_BACK - 1 :]
    out["log_return"][:] = log_row[LOOK_BACK:]


def _write_price_windows(close: Floats, moments: Moments, out: dict[str, Floats]) -> None:
    total, spread = moments.total[0], moments.spread[0]
    still = _without_spread(total, spread)
    sma = np.divide(total, WINDOW, out=out["sma_20"])
    np.divide(moments.total_50, 50, out=out["sma_50"])
    slope = np.divide(moments.slope, sma, out=out["trend_slope_20"])
    slope *= 1 / (2 * SLOPE_NORM)
    # (close - lower) / (upper - lower) with bands 2 deviations away = 1/2 + (close - sma) / (4 deviations)
    share = np.subtract(close[LOOK_BACK:], sma, out=out["bollinger_pct_20"])
    spread *= 4**2 / WINDOW**2
    share /= np.sqrt(spread, out=spread)
    share += 0.5
    share[still] = np.nan


def _write_volume_z(volume: Floats, moments: Moments, out: Floats) -> None:
    total, spread = moments.total[1], moments.spread[1]
    still = _without_spread(total, spread)
    total /= WINDOW
    np.subtract(volume[LOOK_BACK:], total, out=out)
    spread *= SAMPLE_VARIANCE
    out /= np.sqrt(spread, out=spread)
    out[still] = np.nan


def _without_spread(total: Floats, spread: Floats) -> Places:
    limit = NO_SPREAD**2  # spread / 400 is the variance and total^2 / 400 the square of the mean
    if spread.min() > limit * total.max() ** 2:
        return NOWHERE
    return np.flatnonzero(~(spread > limit * total**2))


def _write_volatility(returns: Floats, known: Flags, moments: Moments, bars_per_year: float, out: Floats) -> None:
    """Of the known returns; the others stand in `returns` and in its moments as zeros."""
    total, spread = moments.total[2], moments.spread[2]
    spread *= bars_per_year * SAMPLE_VARIANCE
    np.sqrt(spread, out=out)
    counts = _count_20(known.view(np.uint8))
    places = np.flatnonzero(counts != WINDOW)
    if not places.size:
        return
    count = counts[places].astype(np.float64)
    # The spread of k zeros and the rest is that of the rest + total^2 k / (20 count): take the zeros out again.
    with_zeros = spread[places] * (1 / (bars_per_year * SAMPLE_VARIANCE))
    without = with_zeros - total[places] ** 2 * (WINDOW - count) / count
    for i in np.flatnonzero(without < CANCELLED * with_zeros):
        window = slice(places[i] + LOOK_BACK + 1 - WINDOW, places[i] + LOOK_BACK + 1)
        values = returns[window][known[window]]
        without[i] = WINDOW * np.sum((values - values.mean()) ** 2)
    volatility = np.sqrt(without * (bars_per_year / WINDOW) / (count - 1))
    volatility[count < MIN_RETURNS] = np.nan
    out[places] = volatility


def _between(places: Places, span: slice) -> Places:
    first, last = np.searchsorted(places, (span.start, span.stop))
    return places[first:last]


def _count_20(ones: NDArray[np.uint8]) -> NDArray[np.uint8]:
    two = ones[1:] + ones[:-1]
    four = two[2:] + two[:-2]
    five = four[1:] + ones[:-4]
    ten = five[5:] + five[:-5]
    twenty: NDArray[np.uint8] = ten[10:] + ten[:-10]
    return twenty[LOOK_BACK + 1 - WINDOW :]
