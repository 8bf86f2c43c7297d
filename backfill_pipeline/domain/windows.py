"""Window arithmetic: half-open intervals of UTC time, and sorted disjoint lists of them.

No calendars here; those are in sessions.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MICROSECOND = 1
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime. ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; pass an aware datetime such as ...+00:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_datetime(micros: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=int(micros))


@dataclass(frozen=True, order=True)
class Window:
    """`[start, end)` in microseconds since 1970-01-01 UTC; never empty."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"window ends at or before its start: {self}")

    def __contains__(self, micros: int) -> bool:
        return self.start <= micros < self.end

    def __str__(self) -> str:
        return f"[{to_datetime(self.start):%Y-%m-%d %H:%MZ}, {to_datetime(self.end):%Y-%m-%d %H:%MZ})"


def union(windows: Iterable[Window]) -> list[Window]:
    """Sorted, disjoint, and with touching windows joined: the one canonical form."""
    joined: list[Window] = []
    for window in sorted(windows):
        if joined and window.start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, window.end))
        else:
            joined.append(window)
    return joined


def subtract(windows: Iterable[Window], holes: Iterable[Window]) -> list[Window]:
    """What of `windows` no hole covers, in canonical form."""
    rest: list[Window] = []
    cuts = union(holes)
    for window in union(windows):
        start = window.start
        for cut in _meeting(cuts, window):
            if cut.start > start:
                rest.append(Window(start, cut.start))
            start = cut.end
        if start < window.end:
            rest.append(Window(start, window.end))
    return rest


def intersect(left: Iterable[Window], right: Iterable[Window]) -> list[Window]:
    """What both lists cover, in canonical form."""
    others = union(right)
    return [
        Window(max(window.start, other.start), min(window.end, other.end))
        for window in union(left)
        for other in _meeting(others, window)
    ]


def _meeting(windows: list[Window], window: Window) -> list[Window]:
    """Those of a canonical list that share time with `window`. By bisection: lists hold thousands of sessions."""
    low = bisect_right(windows, window.start, key=lambda other: other.end)
    high = bisect_left(windows, window.end, key=lambda other: other.start)
    return windows[low:high]


def span(windows: Sequence[Window]) -> Window | None:
    """The smallest window that holds all of them; None for none."""
    if not windows:
        return None
    return Window(min(w.start for w in windows), max(w.end for w in windows))
