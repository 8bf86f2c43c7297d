"""Any timeframe, by its text: a stored one, or a multiple of one that is built when it is read.

Buckets of minutes and hours are anchored at the start of their segment and cut at its end, as stored ones are. Longer
ones are whole calendar days, weeks from Monday, or months, by session date; of more than one, they are counted from
Monday 1970-01-05 and from January 1970, so that a bucket never depends on what is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from .bars import Micros
from .resample import bucket_starts
from .sessions import Days, Sessions
from .timeframe import INTRADAY, LENGTH, TIMEFRAMES, Timeframe
from .windows import MINUTE

Unit = Literal["minute", "day", "month"]

_TEXT = re.compile(r"([1-9]\d{0,3})(mo|m|h|d|w)")
_MINUTES = {"m": 1, "h": 60}
_DAYS = {"d": 1, "w": 7}
_MONDAY = 4  # 1970-01-05, in days since 1970-01-01


@dataclass(frozen=True)
class Span:
    """`number` of `unit`, as `text`. `source`: the stored timeframe that it is built from, or is."""

    text: str
    number: int
    unit: Unit
    source: Timeframe

    @property
    def is_stored(self) -> bool:
        return self.text == self.source

    @property
    def is_intraday(self) -> bool:
        return self.unit == "minute"

    @property
    def length(self) -> int:
        """Microseconds of an uncut intraday bucket."""
        assert self.is_intraday
        return self.number * MINUTE

    def labels(self, days: Days) -> Days:
        """The first calendar day of the bucket that each of `days` is in. Not for intraday ones."""
        if self.unit == "month":
            months = days.astype("datetime64[M]").astype(np.int64)
            return (months - months % self.number).astype("datetime64[M]").astype("datetime64[D]")
        ordinal = days.astype("datetime64[D]").astype(np.int64)
        return (ordinal - (ordinal - _MONDAY) % self.number).astype("datetime64[D]")

    def after(self, label: np.datetime64) -> np.datetime64:
        """The first day of the bucket after the one that starts on `label`."""
        if self.unit == "month":
            months = int(label.astype("datetime64[M]").astype(np.int64)) + self.number
            return np.datetime64(date(1970 + months // 12, 1 + months % 12, 1), "D")
        return label + np.timedelta64(self.number, "D")

    def ends(self, ts: Micros, labels: Days, sessions: Sessions) -> Micros:
        """When buckets starting at `ts` (ascending) were over; the longer ones at the close of their last session."""
        if self.is_intraday:
            parts = sessions.parts
            return np.minimum(ts + self.length, parts.end[parts.locate(ts)])
        last = np.searchsorted(self.labels(sessions.session), labels, side="right") - 1
        return sessions.close[last]

    def broken(self, open_ts: Micros, sessions: Sessions) -> Micros:
        """Starts of the intraday buckets that hold any of `open_ts` (ascending, inside parts); ascending, unique."""
        parts = sessions.parts
        return np.unique(bucket_starts(open_ts, parts.locate(open_ts), parts, self.length))


def parse_span(text: str) -> Span:
    """The timeframe that `text` names: minutes, hours (up to a day), days, weeks or months. ValueError says which."""
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(
            f"timeframe {text!r} is not known; use one of {' '.join(TIMEFRAMES)}, or a number of minutes, hours, days,"
            " weeks or months such as 45m 2h 3d 2w 1mo"
        )
    number, unit = int(found[1]), found[2]
    if unit == "mo":
        return Span(text, number, "month", "1d")
    if unit in _DAYS:
        days = number * _DAYS[unit]
        return Span(text, days, "day", "1w" if text == "1w" else "1d")
    length = number * _MINUTES[unit] * MINUTE
    if length > LENGTH["1d"]:
        raise ValueError(f"timeframe {text!r} is longer than a day, at whose end its bars are cut; use days, as in 2d")
    source = max((t for t in INTRADAY.timeframes if length % LENGTH[t] == 0), key=LENGTH.__getitem__)
    return Span(source if LENGTH[source] == length else text, length // MINUTE, "minute", source)
