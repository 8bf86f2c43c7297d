"""Tasks from providers to features: requests, decoding and writing side by side, each partition told once it is settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import partial

from backfill_pipeline.domain.grain import Period, day_after_chunk, stretches
from backfill_pipeline.providers.errors import ProviderStopped, Unreachable
from backfill_pipeline.storage.symbols import lock, symbol_lock, try_lock, unlock

from .fetching import Answers, Fetching, Unit, ask, at_once
from .job import CHUNK_MONTHS, Job
from .open_sessions import begun_rows
from .outcomes import PartitionOutcome, outcomes
from .task import Task, note_served, prepare
from .warehouse import Warehouse
from .window import Work, rederive, write_answers

Done = tuple[Task, PartitionOutcome]


def run_tasks(warehouse: Warehouse, tasks: Sequence[Task], work: Work) -> Iterator[Done]:
    """Work through the tasks, yielding each partition once it is settled and stored.

    The newest sessions of all symbols come first. A provider's failure ends up as incomplete partitions, not as an
    exception: one symbol's trouble stays its own. Only where nothing more can be asked at all, or nothing was ever
    heard of the provider, ProviderStopped or Unreachable is raised.
    """
    for task in tasks:
        prepare(warehouse, task)
    jobs = []
    for place, task in enumerate(tasks):
        if not task.ask:
            yield from ((task, outcome) for outcome in _rederive(warehouse, task, work))
            continue
        job = Job(warehouse, task, place)
        with symbol_lock(warehouse.conn, task.instrument.symbol_id, task.chain.base):
            job.settle(warehouse, work)
        job.refresh(warehouse)
        yield from ((task, outcome) for outcome in job.finished(warehouse))
        jobs.append(job)
    run = _Run(warehouse, jobs, work)
    try:
        yield from run.through()
    finally:
        run.release()


def _rederive(warehouse: Warehouse, task: Task, work: Work) -> Iterator[PartitionOutcome]:
    """A task that asks nobody, window by window."""
    subject, base = warehouse.subject(task.instrument, task.chain), task.chain.base
    for group in stretches(task.periods):
        waiting: list[Period] = list(group)
        day: date = group[0].first
        while day <= group[-1].last:
            after = min(day_after_chunk(day, CHUNK_MONTHS[base]), group[-1].last + timedelta(days=1))
            with symbol_lock(warehouse.conn, task.instrument.symbol_id, base):
                with warehouse.conn:
                    begun = begun_rows(warehouse, subject, day, after - timedelta(days=1))
                rederive(warehouse, subject, [d.astype(object) for d in subject.sessions.session[begun]], work)
            done = [period for period in waiting if period.last < after]
            waiting = waiting[len(done) :]
            yield from outcomes(warehouse, subject, done, [], note_served(warehouse, subject))
            day = after


def _ask(job: Job, unit: Unit, now: datetime) -> tuple[Job, Answers]:
    return job, ask(unit, now)


class _Run:
    """All jobs of a run that ask. A symbol is locked while one of its units is under way, and no longer."""

    def __init__(self, warehouse: Warehouse, jobs: Sequence[Job], work: Work) -> None:
        self._warehouse = warehouse
        self._jobs = [job for job in jobs if len(job.needed)]
        self._work = work
        self._flying: list[Job] = []
        self._heard: set[str] = set()
        self._ready: list[Done] = []

    def through(self) -> Iterator[Done]:
        """Ask, write, tell; until no job needs anything more."""
        newest = (job.provider(int(job.needed[-1])) for job in self._jobs)
        most = max((at_once(provider) for provider in {p.name: p for p in newest}.values()), default=1)
        fetching: Fetching[tuple[Job, Answers]] = Fetching(most)
        while True:
            # One question first: a wrong key or a dead network is not to be met eight times.
            while fetching.flying < (fetching.most if self._heard else 1) and (job := self._next()) is not None:
                fetching.start(partial(_ask, job, job.unit(), self._warehouse.now()))
            yield from self._told()
            if not fetching.flying:
                return
            self._take(*fetching.next())
            yield from self._told()

    def release(self) -> None:
        """Give back the locks of what is still under way: the run was stopped."""
        while self._flying:
            self._unlock(self._flying[-1])

    def _next(self) -> Job | None:
        """A locked job with something to ask, or None: nothing is left, or others are at it."""
        candidates = sorted((job for job in self._jobs if len(job.needed)), key=Job.order)
        for job in candidates:
            if self._lock(job, wait=False) and self._is_open(job):
                return job
        if not self._flying:
            for job in candidates:
                if len(job.needed) and self._lock(job, wait=True) and self._is_open(job):
                    return job
        return None

    def _is_open(self, job: Job) -> bool:
        """Whether a locked job still needs anything; if not, it is unlocked and told."""
        job.refresh(self._warehouse)
        if len(job.needed):
            return True
        self._unlock(job)
        self._tell(job)
        return False

    def _lock(self, job: Job, *, wait: bool) -> bool:
        of = self._warehouse.conn, job.task.instrument.symbol_id, job.task.chain.base
        if wait:
            lock(*of)
        elif not try_lock(*of):
            return False
        self._flying.append(job)
        return True

    def _unlock(self, job: Job) -> None:
        self._flying.remove(job)
        unlock(self._warehouse.conn, job.task.instrument.symbol_id, job.task.chain.base)

    def _take(self, job: Job, answers: Answers) -> None:
        failure, name = answers.failure, answers.unit.provider.name
        if failure is None:
            self._heard.add(name)
        write_answers(self._warehouse, answers.unit.subject, answers.fetched, self._work)
        self._work.asked += 1
        job.take(answers)
        job.refresh(self._warehouse)
        self._unlock(job)
        if isinstance(failure, ProviderStopped) and not len(job.needed):
            raise failure
        if isinstance(failure, Unreachable) and name not in self._heard:
            raise failure
        self._tell(job)

    def _tell(self, job: Job) -> None:
        self._ready += [(job.task, outcome) for outcome in job.finished(self._warehouse)]

    def _told(self) -> Iterator[Done]:
        while self._ready:
            yield self._ready.pop(0)
