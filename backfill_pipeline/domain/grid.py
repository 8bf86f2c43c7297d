"""The grid of expected regular bars: how many, which ordinal each bar has, and where feature blocks begin.

Ordinals tell whether two stored bars are neighbours; blocks are the unit in which features are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bars import Micros
from .resample import bucket_ends, buckets_per_part, iso_monday
from .sessions import REGULAR, Sessions
from .timeframe import INTRADAY, LENGTH, Timeframe

Ints = npt.NDArray[np.int64]

# Trading days of a year, the field's convention; crypto trades every day.
_STOCK_DAYS = 252.0
_ALL_DAYS = 365.25


@dataclass(frozen=True, eq=False)
class GridPlaces:
    """Where bars stand.

    `ordinal`: int64, neighbours differ by 1. `first`: bool, first bucket of its session. `block`: int64,
    non-decreasing, the calendar month (intraday chain) or year (daily) of its session; a week's is its Monday's.
    """

    ordinal: Ints
    first: npt.NDArray[np.bool_]
    block: Ints


def is_intraday(timeframe: Timeframe) -> bool:
    return timeframe in INTRADAY.timeframes


def expected_per_session(sessions: Sessions, timeframe: Timeframe) -> Ints:
    """Regular bars that each session has when nothing is absent. 1 for `1d`; `1w` has no count by session."""
    if not is_intraday(timeframe):
        return np.ones(len(sessions), dtype=np.int64)
    parts = sessions.parts
    regular = parts.segment == REGULAR
    counts = buckets_per_part(parts, timeframe)
    return np.bincount(parts.row[regular], weights=counts[regular], minlength=len(sessions)).astype(np.int64)


def bars_per_year(sessions: Sessions, timeframe: Timeframe) -> float:
    """Bars of a usual session times sessions a year (252; 365.25 where every day trades); weeks: 365.25 / 7.

    The usual session is that of the table's last year: trading hours grew over the decades.
    """
    if timeframe == "1w":
        return _ALL_DAYS / 7  # a holiday shortens a week and never removes it
    usual = float(np.median(expected_per_session(sessions, timeframe)[-250:]))
    return usual * (_ALL_DAYS if sessions.calendar == "24/7" else _STOCK_DAYS)


def places(ts: Micros, sessions: Sessions, timeframe: Timeframe) -> GridPlaces:
    """The place of every regular bar of `timeframe` with start `ts` (ascending)."""
    if timeframe == "1w":
        return _week_places(ts, sessions)
    if timeframe == "1d":
        row = sessions.row_of(ts)
        return GridPlaces(row, np.ones(len(ts), dtype=bool), _years(sessions.session[row]))
    parts = sessions.parts
    part = parts.locate(ts)
    counts = np.where(parts.segment == REGULAR, buckets_per_part(parts, timeframe), 0)
    before = np.cumsum(counts) - counts
    ordinal = before[part] + (ts - parts.start[part]) // LENGTH[timeframe]
    row = parts.row[part]
    return GridPlaces(ordinal, ts == sessions.open[row], _months(sessions.session[row]))


def _week_places(ts: Micros, sessions: Sessions) -> GridPlaces:
    monday = _monday_of(ts)
    ordinal = np.searchsorted(np.unique(iso_monday(sessions.session)), monday)
    return GridPlaces(ordinal, np.ones(len(ts), dtype=bool), _years(monday))


def _monday_of(ts: Micros) -> npt.NDArray[np.datetime64]:
    """The Monday that a weekly bar's `ts` is the local midnight of, which is at most 14 hours away from UTC's."""
    return iso_monday(((ts + LENGTH["1d"]) // LENGTH["1d"]).astype("datetime64[D]"))


def _years(days: npt.NDArray[np.datetime64]) -> Ints:
    return days.astype("datetime64[Y]").astype(np.int64)


def _months(days: npt.NDArray[np.datetime64]) -> Ints:
    return days.astype("datetime64[M]").astype(np.int64)


def true_ends(ts: Micros, sessions: Sessions, timeframe: Timeframe) -> Micros:
    """When each bar starting at `ts` (ascending) was over.

    Intraday bars are cut at their part's end, a day ends at its close, a week at the close of its last session.
    """
    if is_intraday(timeframe):
        return bucket_ends(ts, sessions.parts.locate(ts), sessions.parts, timeframe)
    if timeframe == "1d":
        return sessions.close[sessions.row_of(ts)]
    last = np.searchsorted(sessions.session, _monday_of(ts) + np.timedelta64(7, "D")) - 1
    return sessions.close[last]
