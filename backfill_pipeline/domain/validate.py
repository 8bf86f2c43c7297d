"""What a provider sent, sorted into bars, refused rows (for the quarantine) and rows that are no bars here.

Pure: it decides, others store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bars import UNKNOWN_TRADES, Bars
from .sessions import Sessions
from .timeframe import Base
from .windows import MINUTE, Window

Mask = npt.NDArray[np.bool_]

_PRICES_AND_VOLUME = ("open", "high", "low", "close", "volume")
_MOST_TRADES = 2**31 - 1  # what the table's integer holds

_VALUES = (*_PRICES_AND_VOLUME, "vwap", "trades")


@dataclass(frozen=True)
class Refusal:
    """One refused row as it came, and why. `ts` in microseconds UTC."""

    ts: int
    row: dict[str, float | int | str | None]
    reason: str


@dataclass(frozen=True)
class Validated:
    """`bars`: sorted, unique by ts, inside sessions. `part`: their part of the calendar (1m) or session row (1d).

    `outside`: rows outside this project's sessions, dropped. `fillers`: rows of volume 0 and trades 0, which are
    evidence of no trade. Both are counted without their duplicates. `off_days`: ts of the dropped ones that lie on days
    without a session.
    """

    bars: Bars
    part: npt.NDArray[np.int64]
    refused: tuple[Refusal, ...]
    outside: int
    fillers: int
    off_days: npt.NDArray[np.int64]


def validate(bars: Bars, timeframe: Base, asked: Window, sessions: Sessions) -> Validated:
    """Check every row against the rules for `timeframe` and the window `asked`. Never raises for what a row says."""
    reasons: dict[int, str] = {}
    _refuse_values(bars, reasons)
    _refuse_times(bars, timeframe, asked, sessions, reasons)
    rows = bars
    if reasons or not (bars.ts[1:] > bars.ts[:-1]).all():  # most answers need no copy
        kept = np.ones(len(bars), dtype=bool)
        kept[list(reasons)] = False
        position = np.flatnonzero(kept)
        position = position[np.argsort(bars.ts[position], kind="stable")]
        # Before the fillers go: a filler that says "no trade" beside a bar of the same minute is a conflict too.
        rows = bars.take(_collapse_duplicates(bars, position, reasons))
    refused = tuple(Refusal(int(bars.ts[i]), as_row(bars, i), reasons[i]) for i in sorted(reasons))
    part = sessions.parts.locate(rows.ts) if timeframe == "1m" else sessions.row_of(rows.ts)
    inside = part >= 0
    filler = inside & (rows.volume == 0) & (rows.trades == 0)
    stray = rows.ts[~inside & (rows.volume > 0)]
    off_days = stray[sessions.row_of(stray) < 0]
    good = inside & ~filler
    if not good.all():
        rows, part = rows.take(good), part[good]
    return Validated(rows, part, refused, int(np.count_nonzero(~inside)), int(np.count_nonzero(filler)), off_days)


def _refuse(mask: Mask, reason: str, reasons: dict[int, str]) -> None:
    for i in np.flatnonzero(mask):
        reasons.setdefault(int(i), reason)


def _refuse_values(bars: Bars, reasons: dict[int, str]) -> None:
    finite = np.ones(len(bars), dtype=bool)
    for name in _PRICES_AND_VOLUME:
        finite &= np.isfinite(getattr(bars, name))
    finite &= ~np.isinf(bars.vwap)  # NaN is unknown, infinity is nonsense
    _refuse(~finite, "not a number", reasons)
    lowest = np.minimum(np.minimum(bars.open, bars.close), np.minimum(bars.high, bars.low))
    _refuse(finite & ~(lowest > 0), "price is not positive", reasons)
    _refuse(finite & (bars.volume < 0), "volume is negative", reasons)
    _refuse(finite & (bars.high < np.maximum(bars.open, bars.close)), "high is below open or close", reasons)
    _refuse(finite & (bars.low > np.minimum(bars.open, bars.close)), "low is above open or close", reasons)
    # A vwap outside [low, high] is normal (late and odd-lot trades); a negative one is no price.
    _refuse(finite & (bars.vwap < 0), "vwap is negative", reasons)
    _refuse((bars.trades < 0) & (bars.trades != UNKNOWN_TRADES), "trades is negative", reasons)
    _refuse(bars.trades > _MOST_TRADES, "trades is beyond any count", reasons)


def _refuse_times(bars: Bars, timeframe: Base, asked: Window, sessions: Sessions, reasons: dict[int, str]) -> None:
    not_asked = (bars.ts < asked.start) | (bars.ts >= asked.end)
    _refuse(not_asked, f"ts is outside the asked window {asked}", reasons)
    if timeframe == "1m":
        _refuse(bars.ts % MINUTE != 0, "ts is not at the start of a minute", reasons)
        return
    row = sessions.row_of(bars.ts)
    off = (row >= 0) & (sessions.day_start[np.maximum(row, 0)] != bars.ts)
    _refuse(off, f"ts is not the start of a day in {sessions.zone}", reasons)


def _collapse_duplicates(bars: Bars, position: npt.NDArray[np.intp], reasons: dict[int, str]) -> npt.NDArray[np.intp]:
    """One of each set of equal duplicates; none of a set that disagrees, which is refused whole."""
    ts = bars.ts[position]
    opens_group = np.ones(len(ts), dtype=bool)
    opens_group[1:] = ts[1:] != ts[:-1]
    if opens_group.all():
        return position
    first = np.flatnonzero(opens_group)
    group = np.cumsum(opens_group) - 1
    equal = np.ones(len(ts), dtype=bool)
    for name in _VALUES:
        column = getattr(bars, name)[position]
        leader = column[first][group]
        equal &= (column == leader) | ((column != column) & (leader != leader))  # an unknown vwap equals itself
    agreed = np.logical_and.reduceat(equal, first)
    size = np.bincount(group)
    for i, of in zip(position[~agreed[group]], size[group[~agreed[group]]], strict=True):
        reasons[int(i)] = f"{of} rows of the same ts disagree"
    return position[first[agreed]]


def as_row(bars: Bars, i: int) -> dict[str, float | int | str | None]:
    """The row for people and jsonb: numbers that JSON has, words for those it lacks, None for unknown."""

    def value(number: float) -> float | str:
        return float(number) if np.isfinite(number) else str(float(number))

    row: dict[str, float | int | str | None] = {name: value(getattr(bars, name)[i]) for name in _PRICES_AND_VOLUME}
    row["vwap"] = None if np.isnan(bars.vwap[i]) else value(bars.vwap[i])
    row["trades"] = None if bars.trades[i] == UNKNOWN_TRADES else int(bars.trades[i])
    return row
