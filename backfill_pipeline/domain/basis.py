"""Is an answer in the share basis of its own day, or adjusted for later splits? Adjusted bars pass every other test.

Two witnesses. A session's close against the known daily close of the same session: nothing but another basis moves
that ratio, neither a crash nor a real split, whose day is on the new basis in both. In sessions without a known close,
the step from one bar's close to the next one's open: a crash or a split that nobody told of looks the same there, so it
only counts where it equals accepted splits that are still to come, and their own step is not seen on their day.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from itertools import accumulate
from operator import mul

import numpy as np
import numpy.typing as npt

from .adjust import Split, split_basis
from .bars import Bars

# How far a ratio may lie from a factor, as ln. The last regular minute and the official close of a liquid stock differ
# by less than 1 %; a step between sessions has the night's move in it.
_SAME_SESSION = 0.02
_STEP = 0.10

# Factors nearer to 1 (in either direction) are not looked for: thin stocks' two closes differ by 10 %, nights by 40 %.
_LEAST_SAME_SESSION = math.log(1.2)
_LEAST_STEP = math.log(2)

# Splits nobody told of, either way round: n:1 convinces at once, 3:2 and its like after so many sessions on end.
_SHARES = [
    *map(Fraction, (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100)),
    *(Fraction(3, 2), Fraction(4, 3), Fraction(5, 4), Fraction(5, 2)),
]
_USUAL = [(usual, math.log(usual)) for ratio in _SHARES for usual in (ratio, 1 / ratio)]
_LEAST_USUAL = math.log(min(_SHARES)) - _SAME_SESSION
_SESSIONS_FOR_BROKEN = 3

# Prices under a cent are no witness: a tick of 0.0001 is more than 1 % of them, and closes double by a tick.
_LEAST_PRICE = 0.01

# Days between two bars over which a step still tells something.
_LONGEST_NIGHT = np.timedelta64(7, "D")


def basis_mismatch(
    bars: Bars,
    session: npt.NDArray[np.datetime64],
    known: Mapping[date, float],
    before: tuple[date, float] | None,
    splits: Sequence[Split],
) -> str | None:
    """None, or why the whole answer must not be stored: `basis mismatch 0.100 = split 10:1 (…)`.

    `bars`: the answer's base bars, ascending, of minutes the regular ones; `session`: datetime64[D], of each.
    `known`: unadjusted daily closes by session, from bars of another answer. `before`: the newest stored session
    before the answer, and its last close. `splits`: the accepted ones.
    """
    if not len(bars):
        return None
    first = np.flatnonzero(np.concatenate([[True], session[1:] != session[:-1]]))
    days: list[date] = session[first].astype("datetime64[D]").tolist()
    closes = bars.close[np.append(first[1:], len(bars)) - 1].tolist()
    compared = [
        (day, close, known[day])
        for day, close in zip(days, closes, strict=True)
        if day in known and min(close, known[day]) >= _LEAST_PRICE
    ]
    cleared = {day for day, _, _ in compared}
    return _told_split(compared, splits) or _untold_split(compared) or _step(bars, session, cleared, before, splits)


def _told_split(compared: Iterable[tuple[date, float, float]], splits: Sequence[Split]) -> str | None:
    """One session is enough: its ratio is the factor of the splits that came after it."""
    for day, close, own in compared:
        for shares in _later(day, splits):
            distance = abs(math.log(close / own) + math.log(shares))
            if distance <= _SAME_SESSION and abs(math.log(shares)) >= _LEAST_SAME_SESSION:
                return _line(shares, f"{day}: close {close:g}, known {own:g}")
    return None


def _untold_split(compared: Iterable[tuple[date, float, float]]) -> str | None:
    run: list[Fraction | None] = []
    for day, close, own in compared:
        ratio = _usual(own / close)
        run = [*run, ratio] if run and run[-1] == ratio else [ratio]
        if ratio is not None and (1 in (ratio.numerator, ratio.denominator) or len(run) >= _SESSIONS_FOR_BROKEN):
            return _line(float(ratio), f"{day}: close {close:g}, known {own:g}")
    return None


def _step(
    bars: Bars,
    session: npt.NDArray[np.datetime64],
    cleared: Collection[date],
    before: tuple[date, float] | None,
    splits: Sequence[Split],
) -> str | None:
    """A step onto the basis of later splits; pages may be cut in mid-session. `cleared`: sessions known to be right."""
    day, close = before or (session[0].astype("datetime64[D]").item(), float(bars.open[0]))
    days = np.append(np.datetime64(day, "D"), session.astype("datetime64[D]"))
    closes = np.append(close, bars.close[:-1])
    basis = split_basis(days, splits)
    steps = np.log(bars.open / closes) + np.log(basis[1:] / basis[:-1])
    large = (np.abs(steps) > _LEAST_STEP - _STEP) & (np.diff(days) <= _LONGEST_NIGHT)
    for place in np.flatnonzero(large).tolist():
        today, opening, close = days[place + 1].item(), float(bars.open[place]), float(closes[place])
        if today in cleared or min(opening, close) < _LEAST_PRICE or _splits_after(place, days, steps, splits):
            continue
        for shares in _later(today, splits):
            if abs(steps[place] + math.log(shares)) <= _STEP and abs(math.log(shares)) >= _LEAST_STEP:
                return _line(shares, f"{today}: open {opening:g} after {close:g} of {days[place].item()}")
    return None


def _splits_after(
    place: int, days: npt.NDArray[np.datetime64], steps: npt.NDArray[np.float64], splits: Sequence[Split]
) -> bool:
    """Whether the prices after a step move by the next told split on its ex-date, as adjusted ones do not: then the
    step was a crash. (AAPL fell by 52 % on 2000-09-29 and was split 2:1 in 2005.)
    """
    ex_dates = [split.ex_date for split in splits if split.ex_date > days[place + 1].item()]
    if not ex_dates:
        return False
    at = int(np.searchsorted(days, np.datetime64(min(ex_dates), "D"))) - 1
    # `steps` have the told splits taken out: next to nothing is left where the prices have them.
    return place < at < len(steps) and abs(float(steps[at])) < (_LEAST_STEP - _STEP) / 2


def _later(day: date, splits: Sequence[Split]) -> list[float]:
    """Shares that one share of `day` became with the next split after it, with the next two, and so on."""
    later = sorted({split for split in splits if split.ex_date > day}, key=lambda split: split.ex_date)
    return list(accumulate((split.ratio for split in later), mul))


def _usual(shares: float) -> Fraction | None:
    """The usual split ratio that `shares` is near to."""
    size = math.log(shares)
    if abs(size) < _LEAST_USUAL:
        return None
    return next((ratio for ratio, log in _USUAL if abs(size - log) <= _SAME_SESSION), None)


def _line(shares: float, where: str) -> str:
    ratio = Fraction(shares).limit_denominator(1000)
    return f"basis mismatch {1 / shares:.3f} = split {ratio.numerator}:{ratio.denominator} ({where})"
