"""What a run is to bring to completeness: one symbol's chain over some partitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from backfill_pipeline.domain.completeness import State, is_covered
from backfill_pipeline.domain.grain import Period, periods_between, stretches
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.storage.coverage import record_served, undoubted_coverage, want
from backfill_pipeline.storage.events import stale_since
from backfill_pipeline.storage.imports import imports_served
from backfill_pipeline.storage.symbols import get_instruments

from .open_sessions import begun_rows, expected_rows
from .outcomes import states
from .requests import BackfillRequest, RequestError
from .warehouse import Subject, Warehouse


@dataclass(frozen=True)
class Task:
    """Bring `periods` of one symbol's chain to completeness. `days`: what of them is wanted (None: all of them).

    `ask` False: ask no provider, derive anew from what is stored. `adds` False: what is wanted stays as it is.
    `again` False: nobody asked for it now, and sessions that lack bars wait for their next attempt.
    """

    instrument: Instrument
    chain: Chain
    periods: tuple[Period, ...]
    days: tuple[date, date] | None = None
    ask: bool = True
    adds: bool = True
    again: bool = True


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
    """Add what the task is about to what is wanted, and note what can be served of it; says what, in words."""
    conn, base, subject = warehouse.conn, task.chain.base, warehouse.subject(task.instrument, task.chain)
    served = note_served(warehouse, subject)
    if not task.adds:
        return served
    with conn:
        for group in stretches(task.periods):
            first, last = group[0].first, group[-1].last
            if task.days is not None:
                first, last = max(first, task.days[0]), min(last, task.days[1])
            want(conn, task.instrument.symbol_id, base, subject.sessions.days_window(first, last))
    return served


def note_served(warehouse: Warehouse, subject: Subject) -> str:
    """Keep what can be served of the subject, as far as it is known by now; says what, in words."""
    route = subject.route
    served = [(p.name, s.window, s.reason) for p, s in zip(route.providers, route.served, strict=True)]
    symbol_id, base = subject.instrument.symbol_id, subject.chain.base
    with warehouse.conn:
        # What was imported stays to be had, though nobody can be asked for it.
        record_served(warehouse.conn, symbol_id, base, [*served, *imports_served(warehouse.conn, symbol_id, base)])
    return route.reason


def survey(warehouse: Warehouse, task: Task) -> dict[Period, State]:
    """The state of each partition of a prepared task, from the tables; nothing is asked."""
    return states(warehouse, warehouse.subject(task.instrument, task.chain), sorted(task.periods))


def has_days(warehouse: Warehouse, task: Task, period: Period) -> bool:
    """Whether the days asked for have a session in the partition, or all of it was asked for: a month of which only a
    weekend was asked for has none.
    """
    if task.days is None or (task.days[0] <= period.first and period.last <= task.days[1]):
        return True
    sessions = warehouse.sessions(task.instrument.calendar)
    rows = sessions.rows_between(max(period.first, task.days[0]), min(period.last, task.days[1]))
    return bool(rows.stop > rows.start)


def to_do_again(warehouse: Warehouse, task: Task, complete: Sequence[Period]) -> list[Period]:
    """Complete partitions (ascending) that have something to do all the same: an answer was declared worth nothing, or,
    the newest for all, features have been changed by a new split.
    """
    if not complete:
        return []
    subject, base = warehouse.subject(task.instrument, task.chain), task.chain.base
    sessions, symbol_id = subject.sessions, task.instrument.symbol_id
    with warehouse.conn:
        begun = begun_rows(warehouse, subject, complete[0].first, complete[-1].last)
        known = undoubted_coverage(warehouse.conn, symbol_id, base)
        stale = stale_since(warehouse.conn, symbol_id, base) is not None
        expected = expected_rows(warehouse, subject, begun)
    doubted = sessions.session[expected[~is_covered(sessions, expected, known, warehouse.now())]].astype(object)
    found = [period for period in complete if any(period.first <= day <= period.last for day in doubted)]
    return found if found or not stale else [complete[-1]]


def without(task: Task, done: Collection[Period]) -> Task:
    """The task less the partitions `done`."""
    return replace(task, periods=tuple(period for period in task.periods if period not in done))
