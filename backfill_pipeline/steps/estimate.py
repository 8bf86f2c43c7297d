"""What a backfill would take, before anything of it starts: requests, time and disk. Asks nobody, adds nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backfill_pipeline.domain.planning import Rows, rows_per_session
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import to_micros

from .fetching import Unit
from .job import Job
from .market import days_to_ask, markets
from .task import Task
from .warehouse import Warehouse

# Measured with all that is derived: a base bar and its coarser bars of 150 bytes each and features of 193, indexes
# included. Minutes with extended hours: 1.32 rows of bars and 0.54 of features each; days: 1.21 and 1.21.
BYTES_PER_BAR: dict[Base, int] = {"1m": 300, "1d": 414}
# What one process takes from an answer to features, on two old cores: bars a second, and seconds for each symbol.
BARS_PER_SECOND = 60_000
SECONDS_PER_SYMBOL = 0.05


@dataclass(frozen=True)
class Estimate:
    """`requests`: by provider, of those that cost any. `waiting_s`: until the last could be sent, by the rates that are
    set and whoever waits now. `writing_s`: at a usual pace. `sessions`: symbol-sessions to ask for; `bars`: at most.
    `unserved`: what no provider has, in words.
    """

    requests: dict[str, int]
    waiting_s: float
    writing_s: float
    sessions: int
    bars: int
    disk_bytes: int
    unserved: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Requests and writing go on side by side."""
        return max(self.waiting_s, self.writing_s)


class _Imagined(Job):
    """A job as if what it is about were wanted already."""

    def _mine(self, wanted: Rows) -> Rows:  # noqa: ARG002  (imagined: all of it is)
        sessions, rows = self.subject.sessions, []
        every = np.arange(len(sessions))
        for period in self.task.periods:
            first, last = period.first, period.last
            if self.task.days is not None:
                first, last = max(first, self.task.days[0]), min(last, self.task.days[1])
            rows.append(every[sessions.rows_between(first, last)])
        mine = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        begun = sessions.pre_open[mine] < to_micros(self._warehouse.now())
        served: Rows = mine[begun & (self.subject.route.choose(self._warehouse.now())[mine] >= 0)]
        return served

    def _wanted(self) -> Rows:
        wanted = super()._wanted()
        return np.union1d(wanted, self._mine(wanted))


def estimate(warehouse: Warehouse, tasks: Sequence[Task]) -> Estimate:
    """What `run_tasks` would ask for. Sessions answered before by a still valid answer cost nothing."""
    jobs: list[Job] = [_Imagined(warehouse, task, place) for place, task in enumerate(tasks)]
    unserved = []
    for job in jobs:
        job.refresh()
        if all(served.window is None for served in job.subject.route.served):
            unserved.append(f"{job.task.instrument.symbol} {job.task.chain.base}: {job.subject.route.reason}")
    open_jobs = [job for job in jobs if len(job.needed)]
    requests: Counter[str] = Counter()
    sessions, bars, disk = 0, 0.0, 0.0
    for job in open_jobs:
        base = job.task.chain.base
        expected = len(job.needed) * rows_per_session(job.subject.sessions, base)
        sessions, bars, disk = sessions + len(job.needed), bars + expected, disk + expected * BYTES_PER_BAR[base]
    providers = {p.name: p for job in open_jobs for p in job.subject.route.providers}
    for market in markets(open_jobs):
        due = np.flatnonzero(
            market.provider.settle.due_at(warehouse.sessions(market.calendar)) <= to_micros(warehouse.now())
        )
        for days in days_to_ask(market, open_jobs, due):
            requests[market.provider.name] += len(days)
            for job in open_jobs:
                if job.task.chain.base == market.base and len(job.needed_of(market.provider)):
                    job.skip(np.intersect1d(days, job.needed))
    for job in open_jobs:
        job.refresh()
        while len(job.needed):
            unit = job.unit()
            requests[unit.provider.name] += _pages(unit, to_micros(warehouse.now()))
    costly = {name: count for name, count in requests.items() if providers[name].page_rows("1d") is not None}
    waiting = {name: providers[name].expected_wait(count) for name, count in costly.items()}
    return Estimate(
        costly,
        max(waiting.values(), default=0.0),
        bars / BARS_PER_SECOND + len(open_jobs) * SECONDS_PER_SYMBOL,
        sessions,
        int(bars),
        int(disk),
        tuple(unserved),
    )


def _pages(unit: Unit, now: int) -> int:
    """Requests for everything between the unit's first and last session, of which the last may be under way."""
    base, sessions, (first, last) = unit.subject.chain.base, unit.subject.sessions, (unit.rows[0], unit.rows[-1])
    page = unit.provider.page_rows(base)
    if page is None:
        return 0
    over = (now - sessions.pre_open[last]) / (sessions.post_close[last] - sessions.pre_open[last])
    return math.ceil(float(last - first + min(over, 1)) * rows_per_session(sessions, base) / page)
