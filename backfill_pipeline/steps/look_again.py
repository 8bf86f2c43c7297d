"""Judging stored sessions anew without asking anybody: a daily bar came later, or somebody wants to know.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.habits import NEAREST
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.bars import StoredBars, read_bars
from backfill_pipeline.storage.coverage import answered_windows
from backfill_pipeline.storage.evidence import explained_or_lacking
from backfill_pipeline.storage.rows import Key
from backfill_pipeline.storage.status import read_status, write_status

from .evidence import counted
from .fetching import consecutive
from .verdicts import judge_absence
from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# Nobody has looked at these for want of an answer, or for a reason that is no matter of bars.
_NOT_JUDGED = {"not_due", "not_listed"}


def look_again(warehouse: Warehouse, subject: Subject, rows: Rows) -> list[date]:
    """Count and judge the sessions `rows` (ascending) anew from what is stored, those that were looked at before.

    Returns the sessions whose status changed: coarser bars, weeks and features of these are to be derived again, which
    also counts their `derived`.
    """
    conn, symbol_id, base, sessions = warehouse.conn, subject.instrument.symbol_id, subject.chain.base, subject.sessions
    if not len(rows):
        return []
    first, last = sessions.session[rows[[0, -1]]].astype(object).tolist()
    before = {
        day: status
        for day, status in read_status(conn, symbol_id, base, first, last).items()
        if not _NOT_JUDGED & status.explained.keys()
    }
    known = rows[np.isin(sessions.session[rows], np.array(list(before), dtype="datetime64[D]"))]
    changed = []
    for run in consecutive(known):
        old = [before[label] for label in sessions.session[run].astype(object)]
        window = Window(int(sessions.day_start[run[0]]), int(sessions.day_end[run[-1]]))
        heard = counted(_stored(warehouse, subject, window), answered_windows(conn, symbol_id, base, window))
        bare = _bare(subject.rows_of(heard.bars.ts[heard.segment == REGULAR]), run, old)
        new = judge_absence(warehouse, subject, run, bare, heard, (), warehouse.now(), asked=False)
        changed += [now for then, now in zip(old, new, strict=True) if now != then]
    write_status(conn, symbol_id, base, changed, warehouse.now())
    return [status.session for status in changed]


def doubtful_around(warehouse: Warehouse, subject: Subject, rows: Rows) -> Rows:
    """Sessions whose verdicts may be others now that `rows` (ascending) are stored: judged ones among them, and the 20
    before and after, whose habits these have become. In the open transaction.
    """
    sessions = subject.sessions
    if not len(rows):
        return rows
    ends = np.clip([rows[0] - NEAREST, rows[-1] + NEAREST], 0, len(sessions) - 1)
    first, last = sessions.session[ends].astype(object).tolist()
    return in_doubt(warehouse, subject, first, last)


def in_doubt(warehouse: Warehouse, subject: Subject, first: date, last: date) -> Rows:
    """The judged sessions of [first, last] that lack bars or whose silence was explained, in the open transaction."""
    days = explained_or_lacking(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, first, last)
    return np.searchsorted(subject.sessions.session, np.array(days, dtype="datetime64[D]")).astype(np.int64)


def _stored(warehouse: Warehouse, subject: Subject, window: Window) -> StoredBars:
    sessions, base = subject.sessions, subject.chain.base
    bars = read_bars(warehouse.conn, Key(subject.instrument.symbol_id, base, window))
    if base == "1d":
        segment = np.full(len(bars), REGULAR, dtype=np.int8)
    else:
        segment = sessions.parts.segment[sessions.parts.locate(bars.ts)]
    return StoredBars(bars, sessions.session[subject.rows_of(bars.ts)], segment)


def _bare(present: Rows, rows: Rows, statuses: list[SessionStatus]) -> list[SessionStatus]:
    """The statuses with what is stored counted anew, and nothing explained. `present`: the session of each bar."""
    low, high = np.searchsorted(present, rows), np.searchsorted(present, rows, side="right")
    return [
        replace(status, stored=count, explained={}, missing=status.expected - count)
        for status, count in zip(statuses, (high - low).tolist(), strict=True)
    ]
