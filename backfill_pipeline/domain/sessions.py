"""Trading sessions of a calendar as numpy columns: days, segments and the parts that buckets live in.

Calendars come from exchange_calendars; nothing here reads a clock or a database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .windows import MINUTE, Window

Segment = Literal["pre", "regular", "post"]
SEGMENTS: tuple[Segment, ...] = get_args(Segment)
PRE, REGULAR, POST = range(3)

Micros = npt.NDArray[np.int64]
Days = npt.NDArray[np.datetime64]

# US stocks trade from 04:00 to 20:00 New York; on a half day the post-market ends four hours after the close.
_EXTENDED_HOURS = frozenset({"XNYS"})
_PRE_OPEN = 4 * 60 * MINUTE
_POST_LENGTH = 4 * 60 * MINUTE

FIRST_DAY = date(1990, 1, 1)


class UnknownCalendarError(ValueError):
    """No calendar of that name."""


@dataclass(frozen=True)
class Parts:
    """Stretches of uninterrupted trading, ascending: a row per pre, regular (two around a lunch break) or post.

    `start`, `end`: int64 microseconds UTC. `row`: index into the sessions. `segment`: 0 pre, 1 regular, 2 post.
    """

    start: Micros
    end: Micros
    row: npt.NDArray[np.int64]
    segment: npt.NDArray[np.int8]

    def locate(self, ts: Micros) -> npt.NDArray[np.int64]:
        """The part of each `ts` (ascending), -1 outside of trading. Shape of `ts`."""
        if not len(ts):
            return np.zeros(0, dtype=np.int64)
        first = int(np.searchsorted(self.end, ts[0], side="right"))
        last = max(first, int(np.searchsorted(self.start, ts[-1], side="right")))
        # Parts do not overlap, so `ts` is cut into stretches: outside, part, outside, part, ..., outside.
        edges = np.empty(2 * (last - first) + 2, dtype=np.int64)
        edges[0], edges[-1] = 0, len(ts)
        edges[1:-1:2] = np.searchsorted(ts, self.start[first:last])
        edges[2:-1:2] = np.searchsorted(ts, self.end[first:last])
        stretch = np.full(len(edges) - 1, -1, dtype=np.int64)
        stretch[1::2] = np.arange(first, last)
        return np.repeat(stretch, np.diff(edges))


@dataclass(frozen=True, eq=False)
class Sessions:
    """All sessions of one calendar, ascending; one element per session in every column.

    `session`: datetime64[D] labels in the calendar's zone. Times: int64 microseconds UTC; `day_start`/`day_end`
    are midnights of the label's day in that zone; `break_start`/`break_end` equal `close` where there is no break.
    `expected_1m`: regular minutes.
    """

    calendar: str
    zone: str
    session: Days
    day_start: Micros
    day_end: Micros
    pre_open: Micros
    open: Micros
    break_start: Micros
    break_end: Micros
    close: Micros
    post_close: Micros
    expected_1m: npt.NDArray[np.int64]
    parts: Parts

    def __len__(self) -> int:
        return len(self.session)

    def rows(self, window: Window) -> slice:
        """The sessions whose day starts in `window`."""
        low, high = np.searchsorted(self.day_start, [window.start, window.end])
        return slice(int(low), int(high))

    def rows_between(self, first: date, last: date) -> slice:
        """The sessions labelled `first` to `last`, both included."""
        low = np.searchsorted(self.session, np.datetime64(first, "D"))
        high = np.searchsorted(self.session, np.datetime64(last, "D"), side="right")
        return slice(int(low), int(high))

    def midnights(self, days: Days) -> Micros:
        """Starts of `days` (datetime64[D], sessions or not) in the calendar's zone, microseconds UTC."""
        return _midnights(days, self.zone)

    def days_window(self, first: date, last: date) -> Window:
        """From the start of day `first` to the end of day `last` in the calendar's zone, as UTC."""
        return _days_window(first, last, self.zone)

    def row_of(self, ts: Micros) -> npt.NDArray[np.int64]:
        """The session in whose day each `ts` lies (any order), -1 on days without one."""
        row = np.searchsorted(self.day_start, ts, side="right") - 1
        inside = (row >= 0) & (ts < self.day_end[np.maximum(row, 0)])
        return np.where(inside, row, -1)


@lru_cache(maxsize=4096)  # a night asks for a symbol's few windows a dozen times, at 0.5 ms each
def _days_window(first: date, last: date, zone: str) -> Window:
    start, end = _midnights(np.array([first, last + timedelta(days=1)], dtype="datetime64[D]"), zone)
    return Window(int(start), int(end))


def _midnights(days: Days, zone: str) -> Micros:
    import pandas as pd

    index = pd.DatetimeIndex(days)
    # Some zones skip or repeat midnight when their clocks change: the day then starts at its first instant.
    local = index.tz_localize(zone, ambiguous=np.ones(len(index), dtype=bool), nonexistent="shift_forward")
    return local.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def _micros(column: object) -> Micros:
    """Microseconds of a column of UTC timestamps; NaT becomes the smallest int64."""
    import pandas as pd

    stamps = pd.DatetimeIndex(column)  # type: ignore[arg-type]  # exchange_calendars is untyped
    return stamps.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def canonical_calendar(name: str) -> str:
    """The calendar's own name (`NASDAQ` is `XNYS`). UnknownCalendarError names what was asked."""
    import exchange_calendars

    try:
        return str(exchange_calendars.resolve_alias(name))
    except exchange_calendars.errors.InvalidCalendarName:
        raise UnknownCalendarError(
            f"calendar {name!r} is not known; use an exchange_calendars name such as XNYS, XLON, XHKG or 24/7"
        ) from None


def horizon(today: date) -> date:
    """How far calendars are built: the end of next year, so that one table serves all of a process."""
    return date(today.year + 1, 12, 31)


def _one_month(name: str) -> Any:
    """The calendar of one month: the cheapest way to the bounds and holiday rules of its class."""
    import exchange_calendars

    return exchange_calendars.get_calendar(name, start="2024-01-01", end="2024-01-31")


def _bounds(name: str, last: date) -> tuple[date, date]:
    """`FIRST_DAY` to `last`, narrowed to what the calendar's authors vouch for."""
    month = _one_month(name)
    low, high = type(month).bound_min(), type(month).bound_max()
    first = FIRST_DAY if low is None else max(FIRST_DAY, low.date())
    return first, last if high is None else min(last, high.date())


@lru_cache(maxsize=16)
def load_sessions(calendar: str, last: date) -> Sessions:
    """Sessions of `calendar` from 1990 (or the calendar's own first day) to `last`. Half a second, then cached.

    The end is explicit because the library's default ends a year from today and then raises.
    Raises UnknownCalendarError.
    """
    import exchange_calendars

    name = canonical_calendar(calendar)
    first, last = _bounds(name, last)
    book = exchange_calendars.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    labels = book.schedule.index.to_numpy().astype("datetime64[D]")
    zone = str(book.tz)
    opens, closes = _micros(book.schedule["open"]), _micros(book.schedule["close"])
    break_starts, break_ends = _micros(book.schedule["break_start"]), _micros(book.schedule["break_end"])
    no_break = break_starts == np.iinfo(np.int64).min
    break_starts = np.where(no_break, closes, break_starts)
    break_ends = np.where(no_break, closes, break_ends)
    day_start = _midnights(labels, zone)
    extended = name in _EXTENDED_HOURS
    pre_open = np.minimum(_at_local(labels, zone, _PRE_OPEN), opens) if extended else opens
    post_close = closes + _POST_LENGTH if extended else closes
    return Sessions(
        calendar=name,
        zone=zone,
        session=labels,
        day_start=day_start,
        day_end=_midnights(labels + np.timedelta64(1, "D"), zone),
        pre_open=pre_open,
        open=opens,
        break_start=break_starts,
        break_end=break_ends,
        close=closes,
        post_close=post_close,
        expected_1m=((closes - opens) - (break_ends - break_starts)) // MINUTE,
        parts=_parts(pre_open, opens, break_starts, break_ends, closes, post_close),
    )


def _at_local(days: Days, zone: str, after_midnight: int) -> Micros:
    """The wall-clock time `after_midnight` of each day, in UTC: 04:00 is 04:00 on the day the clocks change too."""
    import pandas as pd

    wall = pd.DatetimeIndex(days.astype("datetime64[us]") + np.timedelta64(after_midnight, "us"))
    return _micros(wall.tz_localize(zone))


def _parts(
    pre_open: Micros,
    opens: Micros,
    break_starts: Micros,
    break_ends: Micros,
    closes: Micros,
    post_close: Micros,
) -> Parts:
    rows = np.arange(len(opens), dtype=np.int64)
    start = np.stack([pre_open, opens, break_ends, closes], axis=1).ravel()
    end = np.stack([opens, break_starts, closes, post_close], axis=1).ravel()
    segment = np.tile(np.array([PRE, REGULAR, REGULAR, POST], dtype=np.int8), len(opens))
    real = end > start
    return Parts(start[real], end[real], np.repeat(rows, 4)[real], segment[real])


def closed_day_names(sessions: Sessions, first: date, last: date) -> dict[date, str]:
    """Why days from `first` to `last` (both included) are no sessions.

    The holiday's name, `weekend`, or `closed` where nobody named it.
    """
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    closed = np.setdiff1d(days, sessions.session[sessions.rows_between(first, last)]).astype(object).tolist()
    if not closed:
        return {}
    names = _holiday_names(sessions.calendar, sessions.session[-1].astype(object))
    return {day: names.get(day, "weekend" if day.weekday() >= 5 else "closed") for day in closed}


@lru_cache(maxsize=16)
def _holiday_names(calendar: str, last: date) -> dict[date, str]:
    """The named holidays of all years up to `last`: the rules cost 0.1 s to apply, to a month or to forty years."""
    holidays = _one_month(calendar).regular_holidays
    named = {} if holidays is None else holidays.holidays(FIRST_DAY, last, return_name=True).to_dict()
    return {stamp.date(): str(name) for stamp, name in named.items()}
