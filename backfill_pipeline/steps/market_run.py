"""A market's days asked for once and written for every symbol that lacks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial

import numpy as np

from backfill_pipeline.domain.timeframe import chain_of
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.providers.base import MarketProvider
from backfill_pipeline.providers.errors import NeverServed, NotBelieved, NoTrading
from backfill_pipeline.storage.symbols import list_symbols, market_lock

from .job import Job
from .market import Market, MarketDay, answers_for, ask_market, days_to_ask
from .run import Done, Run
from .task import Task
from .window import refuse_full, write_answers


class MarketRun:
    """What of a run's jobs one market brings."""

    def __init__(self, run: Run, market: Market) -> None:
        self._run = run
        self._market = market

    def through(self) -> Iterator[Done]:
        """The sessions that are to be had by the day for all symbols: those of this run, and what other symbols lack of
        the same days, so that no other run asks for them again.
        """
        market, warehouse = self._market, self._run.warehouse
        now = warehouse.now()
        with market_lock(warehouse.conn, market.key):
            for job in self._run.jobs:
                job.refresh()
            sessions = warehouse.sessions(market.calendar)
            due = np.flatnonzero(market.provider.settle.due_at(sessions) <= to_micros(now))
            batches = days_to_ask(market, self._run.jobs, due)
            others = self._others() if batches else []
            for days in batches:
                everybody = [*self._run.jobs, *others]
                tickers = partial(_tickers, market.provider, everybody)
                refuse_full(warehouse)
                heard = market.provider.name in self._run.heard
                found = ask_market(market, days, sessions, tickers, now, heard=heard)
                self._run.work.asked += len(found)
                self._judge(found)
                for job in everybody:
                    self._take(job, found)
                    yield from self._run.told()

    def _others(self) -> list[Job]:
        """Followed symbols of the market that this run is not about."""
        mine = {job.task.instrument.symbol_id for job in self._run.jobs if job.task.chain.base == self._market.base}
        with self._run.warehouse.conn:
            registered = list_symbols(self._run.warehouse.conn)
        tasks = [
            Task(r.instrument, chain_of(self._market.base), ())
            for r in registered
            if r.active and r.instrument.symbol_id not in mine and r.instrument.calendar == self._market.calendar
        ]
        return list(filter(self._concerns, (Job(self._run.warehouse, task, len(self._run.jobs)) for task in tasks)))

    def _concerns(self, job: Job) -> bool:
        market, instrument = self._market, job.task.instrument
        return job.task.chain.base == market.base and market.provider.market(instrument, market.base) == market.name

    def _judge(self, found: Sequence[MarketDay]) -> None:
        """What failed: given up for this run, or left to be asked for symbol by symbol, or of another provider."""
        for day in found:
            failure, provider = day.failure, self._market.provider
            self._run.hear(provider, failure)
            if failure is None or self._run.is_dead(provider):
                continue
            if isinstance(failure, NoTrading):
                subject = next(filter(self._concerns, self._run.jobs)).subject
                self._run.closures.market_silent(provider, subject, day.row)
            for job in filter(self._concerns, self._run.jobs):
                if not isinstance(failure, (NeverServed, NotBelieved)):
                    job.give_up(np.array([day.row]), failure)
                elif provider.page_rows(self._market.base) is None:  # for one symbol it would read the same file again
                    job.pass_on(provider, np.array([day.row]), failure)

    def _take(self, job: Job, found: Sequence[MarketDay]) -> None:
        if not self._concerns(job):
            return
        self._run.lock(job, wait=True)
        job.refresh()
        answers = answers_for(job, self._market, found)
        if answers is not None:
            findings = write_answers(self._run.warehouse, job.subject, answers.fetched, self._run.work)
            job.take(answers, findings)
            job.refresh()
        self._run.unlock(job)
        self._run.tell(job)


def _tickers(provider: MarketProvider, jobs: Sequence[Job], day: date) -> frozenset[str]:
    return frozenset(ticker for job in jobs if (ticker := job.called.on(provider, day)) is not None)
