"""The last act of a run: sessions that lack bars are judged by all that is stored by now, and only then told.

A verdict rests on the sessions around, on the day's bar and on other symbols, and these come in any order. Judged at
the end, it depends on what is stored and not on what came first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.timeframe import INTRADAY, Chain
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.gaps import symbols_lacking
from backfill_pipeline.storage.symbols import get_instruments, symbol_lock

from .job import Job
from .look_again import doubtful_around
from .run import Done
from .warehouse import Warehouse
from .window import Work, judge_again

# A verdict may rest on others: of sessions nearby, and of the same minutes of other symbols.
_PASSES = 3


@dataclass(frozen=True)
class _Target:
    instrument: Instrument
    chain: Chain
    rows: Rows


def judge_all(warehouse: Warehouse, jobs: Sequence[Job], work: Work) -> Iterator[Done]:
    """Judge what is in doubt in the jobs' sessions and around, and tell the partitions that have waited for it."""
    targets = _targets(jobs)
    targets += _others(warehouse, targets)
    for _ in range(_PASSES):
        targets = [target for target in targets if _judge(warehouse, target, work)]
        if not targets:
            break
    for job in jobs:
        job.judged()
        yield from ((job.task, outcome) for outcome in job.finished())


def _targets(jobs: Sequence[Job]) -> list[_Target]:
    """The jobs' own sessions, days before minutes, for a day's volume tells of its minutes: also of those that no job
    is about.
    """
    days = [_Target(job.task.instrument, job.task.chain, job.begun()) for job in jobs]
    minutes: dict[str, _Target] = {}
    for target in days:
        known = minutes.get(target.instrument.symbol)
        rows = target.rows if known is None else np.union1d(known.rows, target.rows)
        minutes[target.instrument.symbol] = _Target(target.instrument, INTRADAY, rows)
    return [*(target for target in days if target.chain is not INTRADAY), *minutes.values()]


def _others(warehouse: Warehouse, targets: Sequence[_Target]) -> list[_Target]:
    """Other symbols that lack minutes of the same sessions: what these symbols did then may tell why."""
    by_calendar: dict[str, Rows] = {}
    for target in targets:
        if target.chain is INTRADAY and len(target.rows):
            calendar = target.instrument.calendar
            by_calendar[calendar] = np.union1d(by_calendar.get(calendar, target.rows), target.rows)
    mine = {target.instrument.symbol for target in targets}
    found = []
    for calendar, rows in by_calendar.items():
        sessions = warehouse.sessions(calendar)
        hull = Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))
        with warehouse.conn:
            lacking = symbols_lacking(warehouse.conn, calendar, hull)
            instruments = get_instruments(warehouse.conn, [symbol for symbol in lacking if symbol not in mine])
        for symbol, instrument in instruments.items():
            theirs = np.intersect1d(sessions.row_of(np.array(lacking[symbol], dtype=np.int64)), rows)
            found.append(_Target(instrument, INTRADAY, theirs))
    return found


def _judge(warehouse: Warehouse, target: _Target, work: Work) -> bool:
    """Whether any verdict is another one now."""
    subject, conn = warehouse.subject(target.instrument, target.chain), warehouse.conn
    with conn:
        doubtful = doubtful_around(warehouse, subject, target.rows)
    if not len(doubtful):
        return False
    with symbol_lock(conn, target.instrument.symbol_id, target.chain.base):
        return bool(judge_again(warehouse, subject, doubtful, work))
