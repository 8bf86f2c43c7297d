"""Made-up trading of one symbol, as the domain's verdicts take it. Withheld minutes are in the day's volume and not in
the book, as at a provider that lost them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.habits import Book, make_book
from backfill_pipeline.domain.sessions import REGULAR, Sessions, load_sessions
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros

XNYS = load_sessions("XNYS", date(2025, 12, 31))
NEW_YORK = ZoneInfo("America/New_York")
Floats = npt.NDArray[np.float64]


def ny(day: date, hour: int, minute: int = 0) -> int:
    return to_micros(datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK))


def span(day: date, start: tuple[int, int], end: tuple[int, int]) -> Window:
    return Window(ny(day, *start), ny(day, *end))


def rows_around(sessions: Sessions, day: date, before: int, after: int = 0) -> npt.NDArray[np.int64]:
    row = sessions.rows_between(day, day).start
    return np.arange(row - before, row + after + 1)


@dataclass
class Trading:
    """Sessions that trade each regular minute with chance `p` (a number, or one for each minute of a full session) and
    pre- and post-market ones with 0.2. `noise`: how far the day's volume is off the sum of its minutes, relative, one
    standard deviation. `auction`: what the day has and no minute, as a share.
    """

    rows: npt.NDArray[np.int64]
    p: float | Floats = 1.0
    sessions: Sessions = field(default_factory=lambda: XNYS)
    noise: float = 0.0
    auction: float = 0.0
    daily: bool = True
    seed: int = 1
    withheld: list[Window] = field(default_factory=list)
    silent: list[Window] = field(default_factory=list)
    unanswered: Collection[int] = ()

    def book(self) -> Book:
        """The sessions as a provider's complete answer has them; nobody has judged any of them yet."""
        random = np.random.default_rng(self.seed)
        stamps, volumes, days = [], [], {}
        for row in self.rows.tolist():
            ts, volume = self._session(row, random)
            traded = ~_within(ts, self.silent)
            ts, volume = ts[traded], volume[traded]
            total = volume.sum() * (1 + self.auction) * (1 + self.noise * random.standard_normal())
            if self.daily and len(ts):
                days[self.sessions.session[row].astype(object)] = float(total)
            kept = ~_within(ts, self.withheld)
            stamps.append(ts[kept])
            volumes.append(volume[kept])
        answered = ~np.isin(self.rows, list(self.unanswered))
        return make_book(
            self.sessions,
            self.rows,
            np.concatenate(stamps),
            np.concatenate(volumes),
            days,
            answered,
        )

    def _session(self, row: int, random: np.random.Generator) -> tuple[npt.NDArray[np.int64], Floats]:
        sessions = self.sessions
        ts = np.arange(sessions.pre_open[row], sessions.post_close[row], MINUTE)
        part = sessions.parts.locate(ts)
        regular = (part >= 0) & (sessions.parts.segment[part] == REGULAR)
        since = np.minimum((ts - sessions.open[row]) // MINUTE, np.size(self.p) - 1)
        chance = np.where(regular, np.ravel(self.p)[np.maximum(since, 0)], np.where(part >= 0, 0.2, 0.0))
        ts = ts[random.random(len(ts)) < chance]
        return ts, np.round(1 + random.gamma(1.6, 20_000, len(ts)), 2)


def _within(ts: npt.NDArray[np.int64], windows: list[Window]) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(ts), dtype=bool)
    for window in windows:
        found |= (ts >= window.start) & (ts < window.end)
    return found
