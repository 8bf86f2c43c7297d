"""A chain of one symbol from provider to features, window by window, each partition reported once it is settled."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from backfill_pipeline.domain.completeness import State
from backfill_pipeline.domain.grain import Period, day_after_chunk, periods_between, stretches
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base, Chain
from backfill_pipeline.storage.coverage import record_served, want
from backfill_pipeline.storage.symbols import get_instruments

from .outcomes import PartitionOutcome, outcomes, states
from .requests import BackfillRequest, RequestError
from .warehouse import Subject, Warehouse
from .window import Work, run_window

# Months a window spans at most: half a year of minutes with extended hours is some 120,000 bars, a century of days
# 25,000; each costs a wait for the disk. Aligned to the calendar, so that a feature block (a month, a year) is
# computed once.
CHUNK_MONTHS: dict[Base, int] = {"1m": 6, "1d": 1200}


@dataclass(frozen=True)
class Task:
    """Bring `periods` of one symbol's chain to completeness. `days`: what of them is wanted (None: all of them).

    `ask` False: ask no provider, derive anew from what is stored.
    """

    instrument: Instrument
    chain: Chain
    periods: tuple[Period, ...]
    days: tuple[date, date] | None = None
    ask: bool = True


def tasks_of(warehouse: Warehouse, request: BackfillRequest, starts: Mapping[str, date]) -> list[Task]:
    """One task per chain and symbol of a request. `starts`: by chain, the first day that has a partition.

    Raises UnknownSymbolError, RequestError.
    """
    instruments = get_instruments(warehouse.conn, request.symbols)
    warehouse.conn.rollback()
    tasks = []
    for chain in request.chains:
        if request.start < starts[chain.name]:
            variable = f"BACKFILL_{chain.name.upper()}_START"
            raise RequestError(
                f"start {request.start} is before {variable}={starts[chain.name]}; start later or set {variable}"
            )
        periods = tuple(periods_between(request.start, request.end, warehouse.grain(chain)))
        tasks += [Task(instrument, chain, periods, (request.start, request.end)) for instrument in instruments.values()]
    return tasks


def prepare(warehouse: Warehouse, task: Task) -> str:
    """Add what the task is about to what is wanted, and note what the provider can serve of it; says what, in words."""
    conn, base, subject = warehouse.conn, task.chain.base, _subject(warehouse, task)
    served = _note_served(warehouse, subject)
    with conn:
        for group in stretches(task.periods):
            first, last = group[0].first, group[-1].last
            if task.days is not None:
                first, last = max(first, task.days[0]), min(last, task.days[1])
            want(conn, task.instrument.symbol_id, base, subject.sessions.days_window(first, last))
    return served


def _note_served(warehouse: Warehouse, subject: Subject) -> str:
    """Keep what the provider can serve of the subject, as far as it knows by now; says what, in words."""
    conn, symbol_id, base = warehouse.conn, subject.instrument.symbol_id, subject.chain.base
    served = warehouse.provider.served(subject.instrument, base, subject.sessions)
    with conn:
        record_served(conn, symbol_id, base, warehouse.provider.name, served.window, served.reason)
    return served.reason


def survey(warehouse: Warehouse, task: Task) -> dict[Period, State]:
    """The state of each partition of a prepared task, from the tables; nothing is asked."""
    return states(warehouse, _subject(warehouse, task), sorted(task.periods))


def without(task: Task, done: Collection[Period]) -> Task:
    """The task less the partitions `done`."""
    return replace(task, periods=tuple(period for period in task.periods if period not in done))


def run_task(warehouse: Warehouse, task: Task, work: Work) -> Iterator[PartitionOutcome]:
    """Work through the task, yielding each partition once it is settled and stored. A provider's failure ends up as
    incomplete partitions, not as an exception: one symbol's trouble stays its own.
    """
    prepare(warehouse, task)
    subject = _subject(warehouse, task)
    for group in stretches(task.periods):
        yield from _run_stretch(warehouse, subject, task, group, work)


def _subject(warehouse: Warehouse, task: Task) -> Subject:
    return Subject(task.instrument, task.chain, warehouse.sessions(task.instrument.calendar))


def _run_stretch(
    warehouse: Warehouse, subject: Subject, task: Task, group: Sequence[Period], work: Work
) -> Iterator[PartitionOutcome]:
    waiting = list(group)
    day = group[0].first
    notes: list[str] = []
    while day <= group[-1].last:
        after = min(day_after_chunk(day, CHUNK_MONTHS[subject.chain.base]), group[-1].last + timedelta(days=1))
        last = after - timedelta(days=1)
        if waiting[0].first == day:
            notes = []  # no period reaches over from the windows before
        notes += run_window(warehouse, subject, day, last, work, ask=task.ask)
        served = _note_served(warehouse, subject)  # a first answer may have told where the plan ends
        done = [period for period in waiting if period.last <= last]
        waiting = waiting[len(done) :]
        yield from outcomes(warehouse, subject, done, notes, served)
        day = after
