"""Which bar of a timeframe holds an instant, and where there can be none, why. Times in the calendar's own zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from .resample import bucket_ends, bucket_starts, iso_monday
from .sessions import REGULAR, SEGMENTS, Segment, Sessions, closed_day_names
from .timeframe import INTRADAY, LENGTH, Timeframe
from .windows import Window, to_datetime


@dataclass(frozen=True)
class Place:
    """A bar's interval: from its start to its true end (a day's: the next midnight; a week's: the next Monday's), the
    session dates it is of, both included, and its segment.
    """

    window: Window
    first: date
    last: date
    segment: Segment


@dataclass(frozen=True)
class Nowhere:
    """There can be no bar then. `day`: in the calendar's zone; `session`: whether it is one, closed at that hour."""

    day: date
    session: bool
    why: str


def place_of(ts: int, sessions: Sessions, timeframe: Timeframe) -> Place | Nowhere:
    """`ts`: microseconds UTC, within the days of the calendar."""
    if timeframe == "1w":
        return _week(ts, sessions)
    row = int(sessions.row_of(np.array([ts]))[0])
    if timeframe == "1d" and row >= 0:
        session = sessions.session[row].astype(object)
        return Place(Window(int(sessions.day_start[row]), int(sessions.day_end[row])), session, session, "regular")
    part = sessions.parts.locate(np.array([ts], dtype=np.int64))
    if row < 0 or timeframe not in INTRADAY.timeframes or part[0] < 0:
        return _nowhere(ts, sessions, row)
    parts, session = sessions.parts, sessions.session[sessions.parts.row[part[0]]].astype(object)
    start = bucket_starts(np.array([ts], dtype=np.int64), part, parts, LENGTH[timeframe])
    window = Window(int(start[0]), int(bucket_ends(start, part, parts, timeframe)[0]))
    return Place(window, session, session, SEGMENTS[parts.segment[part[0]]])


def hours(sessions: Sessions, session: date) -> str:
    """The session's trading hours in words: `pre 04:00-09:30, regular 09:30-16:00, post 16:00-20:00`."""
    zone, parts = ZoneInfo(sessions.zone), sessions.parts
    row = int(np.searchsorted(sessions.session, np.datetime64(session, "D")))
    low, high = np.searchsorted(parts.row, [row, row + 1]).tolist()
    named = any(parts.segment[low:high] != REGULAR)
    spans = []
    for i in range(low, high):
        start, end = (to_datetime(int(edge[i])).astimezone(zone) for edge in (parts.start, parts.end))
        spans.append(f"{SEGMENTS[parts.segment[i]] + ' ' if named else ''}{start:%H:%M}-{end:%H:%M}")
    return ", ".join(spans)


def local_day(ts: int, sessions: Sessions) -> date:
    return to_datetime(ts).astimezone(ZoneInfo(sessions.zone)).date()


def _week(ts: int, sessions: Sessions) -> Place | Nowhere:
    day = local_day(ts, sessions)
    monday: date = iso_monday(np.array([day], dtype="datetime64[D]"))[0].astype(object)
    window = sessions.days_window(monday, monday + timedelta(days=6))
    rows = sessions.rows(window)
    if rows.stop == rows.start:
        return Nowhere(day, session=False, why=f"the week of {monday} has no session of {sessions.calendar}")
    first, last = (sessions.session[i].astype(object) for i in (rows.start, rows.stop - 1))
    return Place(window, first, last, "regular")


def _nowhere(ts: int, sessions: Sessions, row: int) -> Nowhere:
    day = local_day(ts, sessions)
    if row < 0:
        name = closed_day_names(sessions, day, day)[day]
        return Nowhere(day, session=False, why=f"{day} is no session of {sessions.calendar} ({name})")
    return Nowhere(day, session=True, why=f"{sessions.calendar} trades {hours(sessions, day)} on {day}")
