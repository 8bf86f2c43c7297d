"""Gaps as lines for people: the biggest first, whole sessions of a symbol that follow one another in one. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from zoneinfo import ZoneInfo

import numpy as np

from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import LENGTH
from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.storage.gaps import StoredGap

from .gap_reason import fate, why
from .requests import MOST_SYMBOLS

_WORDS = {"1m": "minute", "1d": "day"}

# From so many symbols on, the same absent window is one cause and one line.
_FEWEST_SYMBOLS = 5
# Numbers of gaps that take more room than this are not printed in a table.
_MOST_LETTERS = 15


@dataclass(frozen=True)
class GapLine:
    """One gap, whole sessions that follow one another, or the same of several symbols; `first` to `last`. `zone`: the
    calendar's.
    """

    gaps: tuple[StoredGap, ...]
    first: date
    last: date
    zone: ZoneInfo

    @property
    def is_open(self) -> bool:
        return self.gaps[0].resolved_at is None

    @property
    def symbols(self) -> list[str]:
        return list(dict.fromkeys(gap.symbol for gap in self.gaps))

    @property
    def symbol(self) -> str:
        return self.gaps[0].symbol if len(self.symbols) == 1 else f"{len(self.symbols)} symbols"

    @property
    def ids(self) -> str:
        """`17`, `17-19`, `17-19,25`: what `backfill gaps accept` takes."""
        ids = sorted(gap.gap_id for gap in self.gaps)
        runs = [list(run) for _, run in groupby(enumerate(ids), key=lambda place: place[1] - place[0])]
        return ",".join(f"{run[0][1]}" if len(run) == 1 else f"{run[0][1]}-{run[-1][1]}" for run in runs)

    @property
    def number(self) -> str:
        """The ids, or how many there are."""
        return self.ids if len(self.ids) <= _MOST_LETTERS else f"{len(self.gaps)} gaps"

    @property
    def lacks(self) -> int:
        return sum(gap.expected - gap.found for gap in self.gaps)

    @property
    def bars(self) -> str:
        return _many(self.lacks, _WORDS[self.gaps[0].timeframe])

    @property
    def when(self) -> str:
        """`Mon 2024-05-13 11:00 to 11:30`, `Mon 2024-05-13`, or `2024-05-06 to 2024-05-08, 3 sessions`."""
        gap = self.gaps[0]
        sessions = len({gap.window for gap in self.gaps})
        if sessions > 1:
            return f"{self.first} to {self.last}, {sessions} sessions"
        if _is_whole(gap):
            return f"{self.first:%a %Y-%m-%d}"
        start, end = (to_datetime(edge).astimezone(self.zone) for edge in (gap.window.start, gap.window.end))
        return f"{start:%a %Y-%m-%d %H:%M} to {end:%H:%M}"

    @property
    def why(self) -> str:
        gap = self.gaps[0]
        differ = any(why(other) != why(gap) for other in self.gaps)
        return f"{gap.verdict}: {why(gap)}{f' ({gap.symbol})' if differ else ''}"

    def fate(self, now: datetime) -> str:
        """Of several gaps: of the one that is next."""
        return fate(min(self.gaps, key=lambda gap: gap.next_attempt_at), now, self.zone)

    @property
    def repair(self) -> str:
        """The command that asks for it at once."""
        names = shlex.quote(",".join(self.symbols[:MOST_SYMBOLS]))
        span = f"--start {self.first} --end {self.last}"
        return f"backfill run --symbols {names} --timeframes {self.gaps[0].timeframe} {span}"


def gap_lines(gaps: Sequence[StoredGap], calendars: Mapping[str, Sessions]) -> list[GapLine]:
    """By most time lacking, then the newest; past ones in the end, the last closed first.

    `gaps`: by symbol, timeframe and time. `calendars`: by symbol. A day that was closed since is told by the
    date on which the gap starts.
    """
    lines: list[GapLine] = []
    place = -1
    for gap in gaps:
        sessions = calendars[gap.symbol]
        before, place = place, int(sessions.row_of(np.array([gap.window.start]))[0])
        zone = ZoneInfo(sessions.zone)
        day = to_datetime(gap.window.start).astimezone(zone).date()
        if lines and place == before + 1 > 0 and _one_line(lines[-1].gaps[-1], gap):
            lines[-1] = GapLine((*lines[-1].gaps, gap), lines[-1].first, day, zone)
        else:
            lines.append(GapLine((gap,), day, day, zone))
    return sorted(_together(lines), key=_rank)


def _together(lines: Sequence[GapLine]) -> list[GapLine]:
    """With those of several symbols that lack the same for the same kind of reason in one."""
    alike: dict[tuple[object, ...], list[GapLine]] = {}
    for line in lines:
        gap = line.gaps[0]
        windows = gap.timeframe, gap.window.start, line.gaps[-1].window.end, len(line.gaps)
        alike.setdefault((*windows, gap.evidence.get("by"), *_likeness(gap)[2:]), []).append(line)
    joined = []
    for some in alike.values():
        if len({line.symbol for line in some}) < _FEWEST_SYMBOLS:
            joined += some
        else:
            every = tuple(gap for line in some for gap in line.gaps)
            joined.append(GapLine(every, some[0].first, some[0].last, some[0].zone))
    return joined


def _rank(line: GapLine) -> tuple[float, ...]:
    gap = line.gaps[0]
    if gap.resolved_at is not None:
        return 1, -gap.resolved_at.timestamp(), -line.last.toordinal()
    return 0, -line.lacks * LENGTH[gap.timeframe], -line.last.toordinal()


def _is_whole(gap: StoredGap) -> bool:
    return gap.timeframe == "1d" or gap.evidence.get("by") == "whole session"


def _one_line(one: StoredGap, other: StoredGap) -> bool:
    """Whether two gaps of neighbouring sessions read as one."""
    return _is_whole(one) and _is_whole(other) and _likeness(one) == _likeness(other)


def _likeness(gap: StoredGap) -> tuple[object, ...]:
    because = gap.evidence.get("because")
    return gap.symbol, gap.timeframe, gap.verdict, gap.attempts, gap.resolution, gap.resolved_at, because


def head(gaps: Sequence[StoredGap]) -> str:
    """Totals in a line: `3 open gaps of 2 symbols: 450 minutes and 1 day missing; 2 past`."""
    is_open = [gap for gap in gaps if gap.resolved_at is None]
    past = len(gaps) - len(is_open)
    beside = f"; {past:,} past" if past else ""
    if not is_open:
        return f"no open gaps{beside}"
    lacks: Counter[str] = Counter()
    for gap in is_open:
        lacks[gap.timeframe] += gap.expected - gap.found
    bars = " and ".join(_many(lacks[base], _WORDS[base]) for base in _WORDS if lacks[base])
    symbols = _many(len({gap.symbol for gap in is_open}), "symbol")
    return f"{_many(len(is_open), 'open gap')} of {symbols}: {bars} missing{beside}"


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
