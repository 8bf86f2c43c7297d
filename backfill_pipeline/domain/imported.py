"""What tells that bars from a file are not what was said of them: another zone, or adjusted prices.

Nobody else checks them: a file has no provider that would be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .adjust import Split
from .bars import Micros
from .sessions import REGULAR, Sessions
from .windows import MINUTE

# Shifts that are tried: up to 14 hours either way, as far as zones lie apart, by the half hour.
_SHIFTS = [30 * MINUTE * n for n in range(-28, 29) if n]
# Minutes of a month that are looked at, evenly chosen.
_LOOKED_AT = 4_000
# Fewer bars than half a session's tell nothing.
_LEAST_BARS = 200
# How much better hours must fit, as a share of the bars: an hour's mistake is 15 % of regular New York minutes.
_BETTER = 0.05

# Splits nearer to 1 (as ln) drown in a night's move.
_LEAST_SPLIT = math.log(1.5)
_LONGEST_NIGHT = 7


class WrongHours(NamedTuple):
    """Of `bars` looked at, `inside` fit regular hours and `better` would after `shift` microseconds, most months."""

    bars: int
    inside: int
    better: int
    shift: int


def wrong_hours(ts: Micros, sessions: Sessions) -> WrongHours | None:
    """Whether minutes starting at `ts` (ascending) would fit the sessions better at another time of day; None: no.

    Month by month, for a fixed offset instead of a zone is wrong for half of the year.
    """
    months = ts.astype("datetime64[us]").astype("datetime64[M]")
    edges: list[int] = np.flatnonzero(np.append(True, months[1:] != months[:-1])).tolist() if len(ts) else []
    bars = inside = better = 0
    shifts: list[int] = []
    fits: list[int] = []
    for low, high in pairwise([*edges, len(ts)]):
        chosen = ts[low : high : max(1, (high - low) // _LOOKED_AT)]
        points = {shift: _points(chosen + shift, sessions) for shift in (0, *_SHIFTS)}
        best = max(points, key=lambda shift: (points[shift], -abs(shift)))
        bars, inside, better = bars + len(chosen), inside + points[0], better + points[best]
        shifts.append(best)
        fits.append(points[best] - points[0])
    # A bar counts one for being inside of trading at all, one more for regular hours.
    if bars < _LEAST_BARS or better - inside < _BETTER * bars or better < bars:
        return None  # the last: a weekend's bars fit nowhere
    return WrongHours(bars, inside, better, shifts[int(np.argmax(fits))])


def _points(ts: Micros, sessions: Sessions) -> int:
    part = sessions.parts.locate(ts)
    traded = part >= 0
    return int(np.count_nonzero(traded) + np.count_nonzero(sessions.parts.segment[part[traded]] == REGULAR))


class Edge(NamedTuple):
    """First open and last close of a session's regular bars."""

    session: date
    open: float
    close: float


def unmoved_split(edges: Sequence[Edge], splits: Sequence[Split]) -> str | None:
    """None, or a known split over which the prices of a file do not jump, as unadjusted ones must. `edges`: of the
    file's sessions, ascending.
    """
    by_day = {split.ex_date: split.ratio for split in splits}
    for before, after in pairwise(edges):
        ratio = by_day.get(after.session)
        if (
            ratio is None
            or abs(math.log(ratio)) < _LEAST_SPLIT
            or (after.session - before.session).days > _LONGEST_NIGHT
        ):
            continue
        step = math.log(after.open / before.close)
        if abs(step) < abs(step + math.log(ratio)):
            return (
                f"the split {ratio:g}:1 of {after.session} does not show: {before.close:g} at the close of"
                f" {before.session}, {after.open:g} at the open after it"
            )
    return None
