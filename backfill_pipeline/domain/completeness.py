"""How complete a session is: what was expected, what is there, and why the rest is not. Pure counts, no storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import compress
from typing import Literal

import numpy as np
import numpy.typing as npt

from .bars import Bars, Micros
from .instruments import Instrument
from .resample import bucket_starts
from .sessions import REGULAR, Sessions
from .timeframe import LENGTH, Base, Timeframe
from .windows import MINUTE, Window, intersect, subtract, to_datetime, to_micros, union

Rows = npt.NDArray[np.int64]
State = Literal["complete", "incomplete", "in progress", "not served"]

# Sessions after its own that a session stays open to correction: volumes and trades change after the close.
CORRECTION_SESSIONS = 2


@dataclass(frozen=True)
class Sums:
    """Of all base bars stored of a session, of every segment: rows that another hand deletes or edits change them.

    `prices`: of open + 2 high + 3 low + 5 close + 7 vwap (0 where unknown).
    """

    bars: int
    prices: float
    volume: float


@dataclass(frozen=True)
class SessionStatus:
    """Counts of base bars of one session: expected = stored + sum(explained) + missing.

    `derived`: regular bars stored and whole, by derived timeframe. `provider` None: nothing was asked. `due_at`: when
    what is explained as not due stops being so; None where nothing is. `sums` None: not known.
    """

    session: date
    expected: int
    stored: int
    explained: Mapping[str, int]
    missing: int
    derived: Mapping[str, int]
    provider: str | None
    due_at: datetime | None = None
    sums: Sums | None = None

    @property
    def not_due(self) -> int:
        return self.explained.get("not_due", 0)

    @property
    def complete(self) -> bool:
        return self.missing == 0 and self.not_due == 0


def is_final(sessions: Sessions, now: datetime) -> npt.NDArray[np.bool_]:
    """Per session: closed, and its correction window has passed."""
    closed = int(np.searchsorted(sessions.post_close, to_micros(now), side="right"))
    return np.arange(len(sessions)) < closed - CORRECTION_SESSIONS


def latest_begun(sessions: Sessions, now: datetime) -> date:
    """The newest session whose first segment opened before `now`: at the very opening there is nothing to ask for."""
    latest: date = sessions.session[np.searchsorted(sessions.pre_open, to_micros(now)) - 1].astype(object)
    return latest


def is_listed(sessions: Sessions, instrument: Instrument) -> npt.NDArray[np.bool_]:
    """Per session: within the instrument's known lifetime."""
    listed = np.ones(len(sessions), dtype=bool)
    if instrument.first_date is not None:
        listed &= sessions.session >= np.datetime64(instrument.first_date, "D")
    if instrument.last_date is not None:
        listed &= sessions.session <= np.datetime64(instrument.last_date, "D")
    return listed


def is_covered(sessions: Sessions, rows: Rows, windows: Sequence[Window], now: datetime) -> npt.NDArray[np.bool_]:
    """Per session of `rows`: one of the `windows` (disjoint, joined and ascending) holds it from the start of its day
    to its last segment's close, or to `now`: an answer of the evening need not reach midnight.
    """
    starts, ends = (np.array([getattr(w, edge) for w in windows], dtype=np.int64) for edge in ("start", "end"))
    until = np.minimum(sessions.post_close[rows], to_micros(now))
    place = np.searchsorted(starts, sessions.day_start[rows], side="right") - 1
    covered = place >= 0
    covered[covered] = ends[place[covered]] >= until[covered]
    return covered


def judge(
    sessions: Sessions,
    rows: Rows,
    timeframe: Base,
    present: Rows,
    *,
    listed: npt.NDArray[np.bool_],
    due_at: Micros,
    now: datetime,
    provider: str | None,
    sums: Sequence[Sums | None] | None = None,
) -> list[SessionStatus]:
    """The status of the sessions `rows`, of which a settled or provisional answer gave regular bars in rows `present`.

    `present`: the session row of each regular base bar that an answer vouches for. `listed`, `due_at`: per session of
    the calendar. `sums`: per session of `rows`. What is absent is explained by the lifetime or by not being due;
    everything else is missing.
    """
    due = due_at <= to_micros(now)
    expected = sessions.expected_1m[rows] if timeframe == "1m" else np.ones(len(rows), dtype=np.int64)
    stored = np.bincount(present, minlength=len(sessions))[rows] if len(present) else np.zeros_like(expected)
    labels = sessions.session[rows].astype(object).tolist()
    counts = zip(rows.tolist(), labels, expected.tolist(), stored.tolist(), sums or [None] * len(rows), strict=True)
    statuses = []
    for row, session, wanted, there, own in counts:
        explained: dict[str, int] = {}
        until: datetime | None = None
        missing = wanted - there
        if missing and not listed[row]:
            explained["not_listed"], missing = missing, 0
        elif missing and not due[row]:
            explained["not_due"], missing, until = missing, 0, to_datetime(int(due_at[row]))
        statuses.append(SessionStatus(session, wanted, there, explained, missing, {}, provider, until, own))
    return statuses


def sums_of(rows: Rows, bars: Bars, at: Rows) -> list[Sums]:
    """The sums of the bars of each of the sessions `rows` (ascending). `at`: the session row of each bar, ascending."""
    vwap = np.where(np.isnan(bars.vwap), 0.0, bars.vwap)
    weighted = bars.open + 2 * bars.high + 3 * bars.low + 5 * bars.close + 7 * vwap
    lows, highs = np.searchsorted(at, rows), np.searchsorted(at, rows, side="right")
    return [
        Sums(high - low, float(np.add.reduce(weighted[low:high])), float(np.add.reduce(bars.volume[low:high])))
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True)
    ]


def open_minutes(
    sessions: Sessions, rows: Rows, statuses: Sequence[SessionStatus], vouched: Sequence[Window], present_ts: Micros
) -> Micros:
    """Minutes of the consecutive sessions `rows` that may still get a bar. Ascending microseconds UTC.

    Those about which no answer speaks (outside of `vouched`), and the regular ones that an incomplete session lacks.
    `present_ts`: starts of the bars that answers vouch for.
    """
    parts = sessions.parts
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    low, high = np.searchsorted(parts.row, [rows[0], rows[-1] + 1]).tolist()
    incomplete = np.zeros(len(sessions), dtype=bool)
    incomplete[rows] = [not status.complete for status in statuses]
    trading = slice(low, high)
    doubtful = (parts.segment[trading] == REGULAR) & incomplete[parts.row[trading]]
    silent = subtract([Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))], vouched)
    if not doubtful.any() and not silent:
        return np.zeros(0, dtype=np.int64)
    edges = zip(parts.start[trading].tolist(), parts.end[trading].tolist(), strict=True)
    stretches = [Window(*edge) for edge in edges]
    windows = union([*compress(stretches, doubtful), *intersect(silent, stretches)])
    if not windows:
        return np.zeros(0, dtype=np.int64)
    minutes = [np.arange(w.start - w.start % MINUTE, w.end, MINUTE, dtype=np.int64) for w in windows]
    return np.setdiff1d(np.concatenate(minutes), present_ts)


def is_whole(bucket_ts: Micros, timeframe: Timeframe, sessions: Sessions, open_ts: Micros) -> npt.NDArray[np.bool_]:
    """Per bucket: no minute of it is still open. `bucket_ts` ascending starts of buckets of `timeframe`."""
    if not len(open_ts):
        return np.ones(len(bucket_ts), dtype=bool)
    parts = sessions.parts
    broken = np.unique(bucket_starts(open_ts, parts.locate(open_ts), parts, LENGTH[timeframe]))
    return ~np.isin(bucket_ts, broken)


def state_of(wanted: Mapping[date, bool], statuses: Mapping[date, SessionStatus], *, has_sessions: bool) -> State:
    """The state of a partition. `wanted`: its wanted and servable sessions, True where due; `has_sessions`: whether
    the calendar has any in its window.

    complete: every wanted session is due and complete, or there is nothing to trade on its days.
    """
    if not wanted:
        return "not served" if has_sessions else "complete"
    for session, due in wanted.items():
        status = statuses.get(session)
        if due and (status is None or not status.complete):
            return "incomplete"
    return "complete" if all(wanted.values()) else "in progress"
