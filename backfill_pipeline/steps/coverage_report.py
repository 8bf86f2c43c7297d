"""How much of a range of one symbol is there, what is missing and how long that takes. Reads; asks and writes nothing.

Of runs it knows only what it is told: nothing here asks Dagster.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.completeness import is_listed
from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.storage.imports import imports_served
from backfill_pipeline.storage.progress import count_bars
from backfill_pipeline.storage.status import read_status

from .estimate import estimate
from .task import Task
from .warehouse import Subject, Warehouse

CoverageStatus = Literal["coverage_complete", "gaps_detected", "backfilling"]


@dataclass(frozen=True)
class InFlight:
    """Partitions of one symbol's chain that runs are at now, and that runs are queued for."""

    running: frozenset[Period]
    queued: frozenset[Period]


@dataclass(frozen=True)
class BackfillProgress:
    """A slice is a partition of the range that holds a session which is due, listed and served. Running and queued ones
    are not complete; None: not known. `progress_percent` is cut, so that 100 means all. `bars_written`: stored bars of
    the timeframe, every segment.
    """

    total_slices: int
    completed_slices: int
    running_slices: int | None
    queued_slices: int | None
    progress_percent: float
    bars_written: int

    @property
    def waiting(self) -> int:
        """Slices that are neither complete nor in any run's hands."""
        return self.total_slices - self.completed_slices - (self.running_slices or 0) - (self.queued_slices or 0)


@dataclass(frozen=True)
class Stretch:
    """Sessions that follow one another, `start` to `end`, both included."""

    start: date
    end: date
    sessions: int


@dataclass(frozen=True)
class CoverageReport:
    """Session dates `start` to `end`, both included. `eta_seconds`: until what is missing is there; None where nothing
    is. `missing`: newest first. `served`: what of the range can be had, where that is not all of it.
    """

    symbol: str
    timeframe: Timeframe
    start: date
    end: date
    status: CoverageStatus
    backfill_progress: BackfillProgress
    eta_seconds: int | None
    missing: tuple[Stretch, ...]
    served: str | None

    @property
    def next_command(self) -> str | None:
        """What a person types to have the missing sessions; None where there are none."""
        if not self.missing:
            return None
        name, first, last = shlex.quote(self.symbol), self.missing[-1].start, self.missing[0].end
        return f"backfill run --symbols {name} --timeframes {self.timeframe} --start {first} --end {last}"


def coverage_report(
    warehouse: Warehouse, task: Task, timeframe: Timeframe, in_flight: InFlight | None = None
) -> CoverageReport:
    """Of a task that has `days`, wanted already or not, in a `timeframe` of its chain. `in_flight` None: not known."""
    assert task.days is not None
    first, last = task.days
    subject, conn = warehouse.subject(task.instrument, task.chain), warehouse.conn
    due, is_unserved = _due(warehouse, subject, first, last)
    with conn:
        known = read_status(conn, task.instrument.symbol_id, task.chain.base, first, last)
        written = count_bars(conn, task.instrument.symbol_id, timeframe, subject.sessions.days_window(first, last))
    days = subject.sessions.session[due]
    complete = np.array([d in known and known[d].complete for d in days.astype(object)], dtype=bool)

    lacking: list[Period] = []
    total = 0
    for period in sorted(task.periods):
        places = subject.sessions.rows_between(period.first, period.last)
        low, high = np.searchsorted(due, [places.start, places.stop])
        total += int(high > low)
        if not complete[low:high].all():
            lacking.append(period)

    running = None if in_flight is None else in_flight.running.intersection(lacking)
    queued = None if in_flight is None else in_flight.queued.intersection(lacking) - in_flight.running
    done = total - len(lacking)
    progress = BackfillProgress(
        total,
        done,
        None if running is None else len(running),
        None if queued is None else len(queued),
        _percent(done, total, nothing=0.0 if is_unserved else 100.0),
        written,
    )
    status: CoverageStatus = "backfilling" if running or queued else "gaps_detected"
    if not lacking and (total or not is_unserved):
        status = "coverage_complete"
    eta = math.ceil(estimate(warehouse, [_only(task, lacking)]).seconds) if lacking else None
    missing = _stretches(subject.sessions, due[~complete])
    served = subject.route.reason if is_unserved else None
    return CoverageReport(task.instrument.symbol, timeframe, first, last, status, progress, eta, missing, served)


def _due(warehouse: Warehouse, subject: Subject, first: date, last: date) -> tuple[Rows, bool]:
    """Sessions that should be there by now, as ascending places; and whether the range has others nobody serves."""
    sessions, now = subject.sessions, to_micros(warehouse.now())
    rows = np.arange(len(sessions))[sessions.rows_between(first, last)]
    rows = rows[is_listed(sessions, subject.instrument)[rows] & (sessions.post_close[rows] <= now)]
    with warehouse.conn:
        imports = imports_served(warehouse.conn, subject.instrument.symbol_id, subject.chain.base)
    served = subject.route.choose(warehouse.now())[rows] >= 0
    served |= inside(sessions.day_start[rows], [window for _, window, _ in imports])
    due: Rows = rows[served & (subject.route.due_at()[rows] <= now)]
    return due, not served.all()


def _percent(done: int, total: int, *, nothing: float) -> float:
    """Two places, cut."""
    return done * 10_000 // total / 100 if total else nothing


def _only(task: Task, periods: Sequence[Period]) -> Task:
    return Task(task.instrument, task.chain, tuple(periods), task.days)


def _stretches(sessions: Sessions, rows: Rows) -> tuple[Stretch, ...]:
    """Newest first; weekends and holidays part nothing."""
    if not len(rows):
        return ()
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    days = sessions.session
    return tuple(
        Stretch(days[group[0]].astype(object), days[group[-1]].astype(object), len(group)) for group in groups[::-1]
    )
