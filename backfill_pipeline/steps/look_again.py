"""Judging stored sessions anew without asking anybody: a daily bar came later, or somebody wants to know.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import concatenate
from backfill_pipeline.domain.closures import UNCONFIRMED
from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.habits import REACH
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.bars import StoredBars, read_bars
from backfill_pipeline.storage.coverage import answered_windows
from backfill_pipeline.storage.evidence import explained_or_lacking, neighbours
from backfill_pipeline.storage.rows import Key
from backfill_pipeline.storage.status import read_status, write_status

from .evidence import counted
from .fetching import consecutive
from .verdicts import judge_absence
from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# Nobody has looked at these for want of an answer, or for a reason that is no matter of bars.
_NOT_JUDGED = {"not_due", "not_listed", UNCONFIRMED}
# Sessions looked at together span at most so many: with those within reach that is 4 MB a column of 24/7 minutes.
_TOGETHER = 2 * REACH


def look_again(warehouse: Warehouse, subject: Subject, rows: Rows, *, asked: bool = False) -> list[date]:
    """Count and judge the sessions `rows` (ascending) anew from what is stored, those that were looked at before.
    `asked`: somebody was asked about them and had nothing better, which counts as an attempt.

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
    for group in _groups(known):
        old = [before[label] for label in sessions.session[group].astype(object)]
        hull = Window(int(sessions.day_start[group[0]]), int(sessions.day_end[group[-1]]))
        heard = counted(_stored(warehouse, subject, group), answered_windows(conn, symbol_id, base, hull))
        bare = _bare(subject.rows_of(heard.bars.ts[heard.segment == REGULAR]), group, old)
        new = judge_absence(warehouse, subject, group, bare, heard, (), warehouse.now(), asked=asked)
        changed += [now for then, now in zip(old, new, strict=True) if now != then]
    write_status(conn, symbol_id, base, changed, warehouse.now())
    return [status.session for status in changed]


def doubtful_around(warehouse: Warehouse, subject: Subject, rows: Rows) -> Rows:
    """Sessions of minutes whose verdicts may be others now that `rows` (ascending) are stored: judged ones among them,
    and those before and after that have one of them within reach. In the open transaction.
    """
    if not len(rows):
        return rows
    first, last = subject.sessions.session[rows[[0, -1]]].astype(object).tolist()
    around = neighbours(warehouse.conn, subject.instrument.symbol_id, first, last, REACH)
    return in_doubt(warehouse, subject, min([first, *around]), max([last, *around]))


def in_doubt(warehouse: Warehouse, subject: Subject, first: date, last: date) -> Rows:
    """The judged sessions of [first, last] that lack bars or whose silence was explained, in the open transaction."""
    days = explained_or_lacking(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, first, last)
    return np.searchsorted(subject.sessions.session, np.array(days, dtype="datetime64[D]")).astype(np.int64)


def _groups(rows: Rows) -> list[Rows]:
    """Ascending places cut so that none spans more than `_TOGETHER` sessions."""
    groups: list[Rows] = []
    while len(rows):
        stop = int(np.searchsorted(rows, rows[0] + _TOGETHER))
        groups.append(rows[:stop])
        rows = rows[stop:]
    return groups


def _stored(warehouse: Warehouse, subject: Subject, rows: Rows) -> StoredBars:
    """The base bars of the sessions `rows` (ascending)."""
    sessions, base, symbol_id = subject.sessions, subject.chain.base, subject.instrument.symbol_id
    windows = [Window(int(sessions.day_start[run[0]]), int(sessions.day_end[run[-1]])) for run in consecutive(rows)]
    bars = concatenate([read_bars(warehouse.conn, Key(symbol_id, base, window)) for window in windows])
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
