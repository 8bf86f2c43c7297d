"""Tasks from providers to features: asking, decoding and writing side by side, each partition told once settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from backfill_pipeline.domain.grain import Period, day_after_chunk, stretches
from backfill_pipeline.providers.errors import ProviderError, ProviderStopped, Unreachable
from backfill_pipeline.storage.symbols import list_symbols, symbol_lock

from .closures import settle_closed
from .job import CHUNK_MONTHS, Job
from .judge_all import judge_all
from .lifetimes import keep_lifetime, look_up_absent, relist
from .market import Market, markets
from .market_run import MarketRun
from .open_sessions import begun_rows
from .outcomes import PartitionOutcome, outcomes
from .run import Done, Run
from .task import Task, note_served, prepare
from .warehouse import Warehouse
from .window import Work, rederive


def run_tasks(warehouse: Warehouse, tasks: Sequence[Task], work: Work) -> Iterator[Done]:
    """Work through the tasks, yielding each partition once it is settled and stored.

    The newest sessions of all symbols come first; of equally new ones, those of the symbol that comes first in the
    registry. A provider's failure ends up as incomplete partitions, not as an
    exception: one symbol's trouble stays its own. Only where a provider says stop, or nothing was ever heard of it, and
    no other has its sessions, ProviderStopped or Unreachable is raised, after everything else is done; partitions with
    such a session are not told.
    """
    tasks = _by_priority(warehouse, tasks)
    for task in tasks:
        prepare(warehouse, task)
    jobs = []
    for place, task in enumerate(tasks):
        if not task.ask:
            yield from ((task, outcome) for outcome in _rederive(warehouse, task, work))
            continue
        job = Job(warehouse, task, place)
        with symbol_lock(warehouse.conn, task.instrument.symbol_id, task.chain.base):
            job.settle(work)
            settle_closed(warehouse, job.subject, work)
            keep_lifetime(warehouse, job.subject)
        job.refresh()
        yield from ((task, outcome) for outcome in job.finished())
        jobs.append(job)
    run = Run(warehouse, jobs, work)
    stopped: ProviderError | None = None
    try:
        through: list[Market] = []
        # What one market does not have may be another's.
        while market := next((market for market in markets(run.jobs) if market not in through), None):
            through.append(market)
            yield from MarketRun(run, market).through()
        yield from run.through()
    except (ProviderStopped, Unreachable) as error:
        stopped = error
    finally:
        run.release()
    for symbol in sorted(run.relisted):  # answers that were under way took it for what it was
        relist(warehouse, symbol, work)
    look_up_absent(warehouse, [job.task.instrument for job in jobs], work)
    yield from judge_all(warehouse, jobs, work)
    if stopped is not None:
        raise stopped


def _by_priority(warehouse: Warehouse, tasks: Sequence[Task]) -> list[Task]:
    with warehouse.conn:
        priorities = {registered.instrument.symbol: registered.priority for registered in list_symbols(warehouse.conn)}
    return sorted(tasks, key=lambda task: priorities.get(task.instrument.symbol, 0))


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
            yield from outcomes(warehouse, subject, done, note_served(warehouse, subject), {}, {})
            day = after
