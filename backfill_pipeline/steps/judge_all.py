"""The last act of a run: sessions that lack minutes are judged by all that is stored by now, and only then told.

A verdict rests on the bars of the sessions around, on the days' volume and on other symbols, and these come in any
order. Judged at the end, it depends on what is stored and not on what came first. It never rests on other verdicts, so
once is enough; and an absent day is missing whatever else is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from backfill_pipeline.domain.halts import halts_of
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.storage.evidence import judged_by_others
from backfill_pipeline.storage.symbols import get_instruments, symbol_lock

from .job import Job
from .look_again import doubtful_around
from .run import Done
from .warehouse import Warehouse
from .window import Work, judge_again

Places = Mapping[str, Rows]


def judge_all(warehouse: Warehouse, jobs: Sequence[Job], work: Work) -> Iterator[Done]:
    """Judge what is in doubt in the jobs' sessions and around, and tell the partitions that have waited for it."""
    by_calendar: dict[str, dict[str, Rows]] = {}
    for job in jobs:  # of days, too: their volume tells of minutes that no job is about
        mine = by_calendar.setdefault(job.task.instrument.calendar, {})
        symbol, rows = job.task.instrument.symbol, job.begun()
        mine[symbol] = np.union1d(mine.get(symbol, rows), rows)
    for calendar, mine in by_calendar.items():
        _judge(warehouse, mine, work, around=True)
        _judge(warehouse, _others(warehouse, calendar, mine), work, around=False)
    for job in jobs:
        job.judged()
        yield from ((job.task, outcome) for outcome in job.finished())


def _others(warehouse: Warehouse, calendar: str, mine: Places) -> Places:
    """By symbol, sessions whose verdicts may be others now that `mine` are stored: the market is made of these, too."""
    sessions = warehouse.sessions(calendar)
    rows = np.unique(np.concatenate(list(mine.values())))
    if not len(rows):
        return {}
    # What a symbol usually does at a time of day is read off the sessions before and after.
    rows = np.clip(np.unique([rows - 1, rows, rows + 1]), 0, len(sessions) - 1)
    listed = sessions.row_of(np.array([window.start for window in halts_of(calendar)], dtype=np.int64))
    labels = sessions.session[rows].astype(object).tolist()
    spared = sessions.session[listed[listed >= 0]].astype(object).tolist()
    with warehouse.conn:
        found = judged_by_others(warehouse.conn, calendar, sorted(mine), labels, spared)
    return {
        symbol: np.searchsorted(sessions.session, np.array(days, dtype="datetime64[D]")).astype(np.int64)
        for symbol, days in found.items()
    }


def _judge(warehouse: Warehouse, places: Places, work: Work, *, around: bool) -> None:
    """`around`: all in doubt that have one of these sessions within reach; else these alone."""
    conn = warehouse.conn
    with conn:
        instruments = get_instruments(conn, list(places))
    for symbol, rows in places.items():
        subject = warehouse.subject(instruments[symbol], INTRADAY)
        if around:
            with conn:
                rows = doubtful_around(warehouse, subject, rows)  # noqa: PLW2901  (more of the same)
        if len(rows):
            with symbol_lock(conn, instruments[symbol].symbol_id, INTRADAY.base):
                judge_again(warehouse, subject, rows, work)
