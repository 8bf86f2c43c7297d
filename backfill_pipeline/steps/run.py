"""One run's jobs side by side: several requests under way, one symbol after the other written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.errors import ProviderError, ProviderStopped, Unreachable
from backfill_pipeline.storage.symbols import lock, try_lock, unlock

from .closures import Closures
from .fetching import MOST, Answers, Fetching, Unit, ask, at_once
from .job import Job
from .lifetimes import relist
from .outcomes import PartitionOutcome
from .task import Task
from .warehouse import Warehouse
from .window import Work, refuse_full, write_answers

logger = logging.getLogger(__name__)

# Waits from here on are told before anything is asked, in seconds.
_TOLD = 5.0

Done = tuple[Task, PartitionOutcome]


def _ask(job: Job, unit: Unit, now: datetime) -> tuple[Job, Answers]:
    return job, ask(unit, now)


class Run:
    """All jobs of a run that ask. A symbol is locked while one of its units is under way, and no longer.

    A provider that says stop, or of which nothing was ever heard, is dead for this run: its sessions go to the next
    one. Where there is none they are left as they are, and once all others are through, its error is raised.
    """

    def __init__(self, warehouse: Warehouse, jobs: Sequence[Job], work: Work) -> None:
        self.warehouse = warehouse
        self.jobs = [job for job in jobs if len(job.needed)]
        self.work = work
        self._flying: list[Job] = []
        self.heard: set[str] = set()
        self._dead: dict[str, ProviderError] = {}
        self._under_way: Counter[str] = Counter()
        self._at_once: dict[str, int] = {}
        self._ready: list[Done] = []
        self.closures = Closures(warehouse, work)
        self.relisted: set[str] = set()

    def through(self) -> Iterator[Done]:
        """Ask, write, tell; until no job needs anything more. Raises what dead providers said, if sessions are left."""
        fetching: Fetching[tuple[Job, Answers]] = Fetching(MOST)
        self._look_ahead()
        if self.work.to_wait >= _TOLD:
            logger.info(f"about {self.work.to_ask} requests to go; the last can be sent in {self.work.to_wait:.0f} s")
        while True:
            while fetching.flying < fetching.most and (job := self._next()) is not None:
                refuse_full(self.warehouse)
                unit = job.unit()
                self._under_way[unit.provider.name] += 1
                fetching.start(partial(_ask, job, unit, self.warehouse.now()))
            yield from self.told()
            if not fetching.flying:
                break
            self._take(*fetching.next())
            self._look_ahead()
            yield from self.told()
        if any(len(job.left) for job in self.jobs):
            failures = list(self._dead.values())
            raise type(failures[0])("; ".join(map(str, failures)))

    def _look_ahead(self) -> None:
        """How many requests are left, and how long they must wait for their turns."""
        left: Counter[Provider] = Counter()
        for job in self.jobs:
            if len(job.needed):
                for provider, count in job.outlook.requests.items():
                    left[provider] += count
        self.work.to_ask = sum(left.values())
        self.work.to_wait = max((provider.expected_wait(count) for provider, count in left.items()), default=0.0)

    def release(self) -> None:
        """Give back the locks of what is still under way: the run was stopped."""
        while self._flying:
            self.unlock(self._flying[-1])

    def _next(self) -> Job | None:
        """A locked job with something to ask, or None: nothing is left, or others are at it."""
        candidates = sorted((job for job in self.jobs if len(job.needed)), key=lambda job: job.outlook.order)
        for job in candidates:
            if self._has_room(job.outlook.provider) and self.lock(job, wait=False) and self._is_open(job):
                return job
        if not self._flying:
            for job in candidates:
                if len(job.needed) and self.lock(job, wait=True) and self._is_open(job):
                    return job
        return None

    def _has_room(self, provider: Provider) -> bool:
        """Whether one more question to the provider is of use now."""
        name = provider.name
        if name not in self._at_once:
            self._at_once[name] = at_once(provider)
        # One first: a wrong key or a dead network is not to be met more than once.
        return self._under_way[name] < (self._at_once[name] if name in self.heard else 1)

    def _is_open(self, job: Job) -> bool:
        """Whether a locked job still needs anything; if not, it is unlocked and told."""
        job.refresh()
        if len(job.needed):
            return True
        self.unlock(job)
        self.tell(job)
        return False

    def lock(self, job: Job, *, wait: bool) -> bool:
        of = self.warehouse.conn, job.task.instrument.symbol_id, job.task.chain.base
        if wait:
            lock(*of)
        elif not try_lock(*of):
            return False
        self._flying.append(job)
        return True

    def unlock(self, job: Job) -> None:
        self._flying.remove(job)
        unlock(self.warehouse.conn, job.task.instrument.symbol_id, job.task.chain.base)

    def _take(self, job: Job, answers: Answers) -> None:
        self._under_way[answers.unit.provider.name] -= 1
        self.work.asked += 1
        news = job.look_up(answers)
        for line in news:
            logger.warning(line)
        if news:
            self._relist(job)
        else:
            findings = write_answers(self.warehouse, answers.unit.subject, answers.fetched, self.work)
            self.hear(answers.unit.provider, answers.failure, partly=any(one.answered for one in answers.fetched))
            job.take(answers, findings)
            if self.closures.heed(answers.unit, answers.fetched):
                self._refresh_others(job)
        job.refresh()
        self.unlock(job)
        self.tell(job)

    def _relist(self, job: Job) -> None:
        """The symbol of a locked job is not what it was: the tables and its other job are to know."""
        relist(self.warehouse, job.task.instrument.symbol, self.work)
        for other in self.jobs:
            if other.task.instrument.symbol_id == job.task.instrument.symbol_id:
                other.task = replace(other.task, instrument=job.task.instrument)
        self.relisted.add(job.task.instrument.symbol)

    def _refresh_others(self, job: Job) -> None:
        """A session was taken as closed, or is one after all: what is open has changed for all."""
        for other in self.jobs:
            if other is not job:
                other.refresh()
                self.tell(other)

    def hear(self, provider: Provider, failure: ProviderError | None, *, partly: bool = False) -> None:
        """Note what came of a question. A provider that is dead is asked nothing more. `partly`: it answered some."""
        if not isinstance(failure, Unreachable) or partly:
            self.heard.add(provider.name)
        dead = isinstance(failure, ProviderStopped) or provider.name not in self.heard
        if failure is None or not dead or provider.name in self._dead:
            return
        self._dead[provider.name] = failure
        if any(len(job.subject.route.providers) > 1 for job in self.jobs):  # else the error at the end is soon enough
            logger.warning(f"{failure}; nothing more is asked of {provider.name} in this run")
        for job in self.jobs:
            job.stop(provider)
            job.refresh()
            self.tell(job)

    def is_dead(self, provider: Provider) -> bool:
        return provider.name in self._dead

    def tell(self, job: Job) -> None:
        self._ready += [(job.task, outcome) for outcome in job.finished()]

    def told(self) -> Iterator[Done]:
        while self._ready:
            yield self._ready.pop(0)
