"""The evidence about absent minutes, read from the tables into the form that verdicts are made from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.absence import Known, inside
from backfill_pipeline.domain.bars import Micros
from backfill_pipeline.domain.completeness import SessionStatus, is_covered
from backfill_pipeline.domain.habits import REACH, Book, make_book
from backfill_pipeline.domain.verdicts import Others
from backfill_pipeline.domain.windows import MINUTE, Window, intersect, union
from backfill_pipeline.storage.bars import StoredBars
from backfill_pipeline.storage.evidence import (
    Seen,
    day_volumes,
    minute_volumes,
    neighbours,
    other_symbols,
    refused_minutes,
    settled_windows,
)
from backfill_pipeline.storage.gaps import ACCEPTED, AGREED, explained_windows

from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# Sessions between others that are read with them: a query costs as much as those of a week.
_BRIDGED = 5
# Who has so many of the minutes on the days before and after usually trades through them; who has so few lacks them.
_USUALLY, _LACKS = 0.9, 0.1


def known_of(warehouse: Warehouse, subject: Subject, window: Window) -> Known:
    """What was found out about `window` before."""
    symbol_id, base = subject.instrument.symbol_id, subject.chain.base
    told = explained_windows(warehouse.conn, symbol_id, base, window)
    refused = refused_minutes(warehouse.conn, symbol_id, window) if base == "1m" else []
    return Known(told[ACCEPTED], told[AGREED], refused)


def gather(
    warehouse: Warehouse,
    subject: Subject,
    rows: Rows,
    statuses: Sequence[SessionStatus],
    stored: StoredBars,
    answered: Sequence[Window],
    now: datetime,
) -> Book:
    """The sessions `rows`, as they are about to be stored, and those around them as they are.

    `stored`: minutes of all segments that answers vouch for. `answered`: what the newest answer vouches for.
    """
    conn, symbol_id, sessions = warehouse.conn, subject.instrument.symbol_id, subject.sessions
    lacking = rows[[status.missing > 0 for status in statuses]]
    near = np.searchsorted(rows, [lacking[0] - REACH, lacking[-1] + REACH + 1])
    mine, own = rows[slice(*near)], statuses[slice(*near)]
    labels = sessions.session
    first, last = labels[lacking[[0, -1]]].astype(object).tolist()
    around = neighbours(conn, symbol_id, first, last, REACH)
    places = np.searchsorted(labels, np.array(around, dtype="datetime64[D]")).astype(np.int64)
    theirs = places[~np.isin(places, rows)]
    every = np.union1d(mine, theirs)
    hull = Window(int(sessions.day_start[every[0]]), int(sessions.day_end[every[-1]]))
    settled = union([*settled_windows(conn, symbol_id, "1m", hull), *intersect(answered, [hull])])
    ts, volume = _with_theirs(warehouse, subject, theirs, stored)
    due = np.ones(len(every), dtype=bool)
    due[np.searchsorted(every, mine)] = [status.not_due == 0 for status in own]
    covered = is_covered(sessions, every, settled, now) & due
    return make_book(sessions, every, ts, volume, day_volumes(conn, symbol_id, hull), covered)


def _with_theirs(
    warehouse: Warehouse, subject: Subject, theirs: Rows, stored: StoredBars
) -> tuple[Micros, npt.NDArray[np.float64]]:
    """Starts and volumes of the minutes `stored` and of those that the database has of the sessions `theirs`."""
    sessions, stamps, volumes = subject.sessions, [stored.bars.ts], [stored.bars.volume]
    for part in np.split(theirs, np.flatnonzero(np.diff(theirs) > _BRIDGED) + 1) if len(theirs) else ():
        window = Window(int(sessions.day_start[part[0]]), int(sessions.day_end[part[-1]]))
        ts, volume = minute_volumes(warehouse.conn, subject.instrument.symbol_id, window)
        mine = np.isin(sessions.row_of(ts), part)
        stamps.append(ts[mine])
        volumes.append(volume[mine])
    every = np.concatenate(stamps)
    order = np.argsort(every, kind="stable")
    return every[order], np.concatenate(volumes)[order]


class Market:
    """Asks what other symbols of the calendar did in a window of one session."""

    def __init__(self, warehouse: Warehouse, subject: Subject) -> None:
        self._conn, self._subject = warehouse.conn, subject

    def __call__(self, window: Window) -> Others:
        sessions = self._subject.sessions
        row = int(sessions.row_of(np.array([window.start]))[0])
        spans = []
        for place in (row, row - 1, row + 1):
            if not 0 <= place < len(sessions):
                continue
            shift = int(sessions.open[place] - sessions.open[row])
            minutes = Window(window.start + shift, window.end + shift)
            if place == row or minutes.end <= sessions.close[place]:
                day = Window(int(sessions.day_start[place]), int(sessions.day_end[place]))
                spans.append((sessions.session[place].astype(object), minutes, day))
        instrument = self._subject.instrument
        seen = other_symbols(self._conn, instrument.symbol_id, instrument.calendar, spans)
        by_symbol: dict[int, list[Seen]] = {}
        for one in seen:
            by_symbol.setdefault(one.symbol_id, []).append(one)
        expected = (window.end - window.start) // MINUTE
        return _count(list(by_symbol.values()), spans[0][0], expected)


def _count(symbols: Sequence[Sequence[Seen]], session: object, expected: int) -> Others:
    usually = lack = short = whole = 0
    for seen in symbols:
        then = next(one for one in seen if one.session == session)
        usual = [one for one in seen if one.session != session and one.total > 0]
        if not usual or any(one.bars < _USUALLY * expected for one in usual):
            continue
        usually += 1
        if then.bars > _LACKS * expected:
            continue
        lack += 1
        if not then.day:
            continue
        share = sum(one.volume / one.total for one in usual) / len(usual)
        ratios = [one.total / one.day for one in usual if one.day] or [1.0]
        lost = 1 - then.total / then.day / (sum(ratios) / len(ratios)) > share / 2
        short, whole = short + lost, whole + (not lost)
    return Others(usually, lack, short, whole)


def counted(stored: StoredBars, vouched: Sequence[Window]) -> StoredBars:
    """Those bars that an answer vouches for."""
    chosen = inside(stored.bars.ts, vouched)
    if chosen.all():
        return stored
    return StoredBars(stored.bars.take(chosen), stored.session[chosen], stored.segment[chosen])
