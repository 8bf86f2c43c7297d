"""Repair: the partitions whose sessions lack bars and are to be asked for again, and telling what became of partitions
without asking anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from backfill_pipeline.domain.grain import Period, period_of, periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.repairing import Slot, Stretch
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.domain.timeframe import Chain, chain_of
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.storage.repairs import waiting_sessions, wanted_chains
from backfill_pipeline.storage.status import read_status
from backfill_pipeline.storage.symbols import get_instruments

from .open_sessions import begun_rows, expected_rows
from .outcomes import outcomes
from .run import Done
from .task import Task, note_served
from .warehouse import Subject, Warehouse
from .window import Work

# No market is closed for so long between two sessions.
_CLOSED = timedelta(days=10)


@dataclass(frozen=True)
class Lacking:
    """A symbol's chain with partitions (ascending) that lack bars, and how often these were asked for since."""

    instrument: Instrument
    chain: Chain
    attempts: Mapping[Period, int]

    @property
    def slots(self) -> list[Slot]:
        of = self.instrument.symbol, self.chain.name
        return [Slot(*of, period, made + 1) for period, made in self.attempts.items()]


def due_repairs(warehouse: Warehouse, starts: Mapping[str, date]) -> list[Lacking]:
    """What is to be asked for again now: gaps whose next attempt has come, and sessions that became due and that nobody
    has asked for since. `starts`: by chain, the first day that has a partition.
    """
    with warehouse.conn:
        waiting = waiting_sessions(warehouse.conn, warehouse.now())
        instruments = get_instruments(warehouse.conn, list(dict.fromkeys(one.symbol for one in waiting)))
    places: dict[tuple[str, Chain], dict[date, int]] = {}
    for one in waiting:
        places.setdefault((one.symbol, chain_of(one.timeframe)), {})[one.session] = one.attempts
    found = []
    for (symbol, chain), sessions in places.items():
        subject = warehouse.subject(instruments[symbol], chain)
        rows = subject.sessions.rows_between(min(sessions), max(sessions))
        if (subject.route.due_at()[rows] > to_micros(warehouse.now())).all():
            continue  # a whole evening between the close and the provider's settle delay
        due = _due(warehouse, subject, max(min(sessions), starts[chain.name]), max(sessions))
        found.append(_by_period(warehouse, subject, {day: sessions[day] for day in due if day in sessions}))
    return [one for one in found if one.attempts]


def all_repairs(warehouse: Warehouse, starts: Mapping[str, date], places: set[tuple[str, str]] | None) -> list[Lacking]:
    """Everything wanted and due that lacks bars, whenever it was asked for or never. `places`: of these symbols' chains
    only.
    """
    with warehouse.conn:
        wanted = wanted_chains(warehouse.conn)
    found = []
    for instrument, base in wanted:
        chain = chain_of(base)
        if places is not None and (instrument.symbol, chain.name) not in places:
            continue
        subject = warehouse.subject(instrument, chain)
        due = _due(warehouse, subject, max(FIRST_DAY, starts[chain.name]), date.max)
        with warehouse.conn:
            known = read_status(warehouse.conn, instrument.symbol_id, base, due[0], due[-1]) if due else {}
        lacking = [day for day in due if day not in known or not known[day].complete]
        found.append(_by_period(warehouse, subject, dict.fromkeys(lacking, 0)))
    return [one for one in found if one.attempts]


def repair_tasks(
    warehouse: Warehouse, starts: Mapping[str, date], where: Sequence[Stretch] | None, *, again: bool
) -> list[Task]:
    """A task for each symbol's chain that lacks bars, anywhere or on the days of `where`. `again`: as a person asks,
    whether or not the next attempt has come. Nothing is added to what is wanted.
    """
    if again:
        found = all_repairs(warehouse, starts, None if where is None else {one.place for one in where})
    else:
        found = due_repairs(warehouse, starts)
    tasks = []
    for one in found:
        of = one.instrument.symbol, one.chain.name
        mine = None if where is None else [stretch for stretch in where if stretch.place == of]
        periods = tuple(p for p in one.attempts if mine is None or any(stretch.holds(p) for stretch in mine))
        if periods:
            tasks.append(Task(one.instrument, one.chain, periods, adds=False, again=again))
    return tasks


def verification_tasks(warehouse: Warehouse, starts: Mapping[str, date], where: Sequence[Stretch]) -> list[Task]:
    """A task for each symbol's chain, of the partitions of `where` that hold wanted sessions or lie between such, for
    `verified`.
    """
    with warehouse.conn:
        instruments = get_instruments(warehouse.conn, list(dict.fromkeys(one.symbol for one in where)))
    places: dict[tuple[str, Chain], set[Period]] = {}
    for one in where:
        chain = one.of_chain
        subject = warehouse.subject(instruments[one.symbol], chain)
        with warehouse.conn:
            rows = begun_rows(warehouse, subject, one.first - _CLOSED, one.last + _CLOSED)
        if not len(rows):
            continue
        low, high = subject.sessions.session[rows[[0, -1]]].astype(object).tolist()
        periods = periods_between(max(one.first, starts[chain.name]), one.last, warehouse.grain(chain))
        mine = places.setdefault((one.symbol, chain), set())
        mine.update(period for period in periods if period.first <= high and period.last >= low)
    return [
        Task(instruments[symbol], chain, tuple(sorted(periods)), ask=False, adds=False)
        for (symbol, chain), periods in places.items()
        if periods
    ]


def verified(warehouse: Warehouse, tasks: Sequence[Task], work: Work) -> Iterator[Done]:  # noqa: ARG001  (as run_tasks)
    """Each partition of the tasks as the tables have it. Asks nobody, writes nothing."""
    for task in tasks:
        subject = warehouse.subject(task.instrument, task.chain)
        served = note_served(warehouse, subject)
        for outcome in outcomes(warehouse, subject, task.periods, served, {}, {}):
            yield task, outcome


def _due(warehouse: Warehouse, subject: Subject, first: date, last: date) -> list[date]:
    """The wanted, servable and expected sessions of [first, last] whose answers are believed by now, ascending."""
    with warehouse.conn:
        rows: Rows = expected_rows(warehouse, subject, begun_rows(warehouse, subject, first, last))
    rows = rows[subject.route.due_at()[rows] <= to_micros(warehouse.now())]
    days: list[date] = subject.sessions.session[rows].astype(object).tolist()
    return days


def _by_period(warehouse: Warehouse, subject: Subject, attempts: Mapping[date, int]) -> Lacking:
    periods: dict[Period, int] = {}
    for day, made in sorted(attempts.items()):
        period = period_of(day, warehouse.grain(subject.chain))
        periods[period] = max(made, periods.get(period, 0))
    return Lacking(subject.instrument, subject.chain, periods)
