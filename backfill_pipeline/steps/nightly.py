"""What a night has to do: everything that is kept complete, due, and not answered by a still valid answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from backfill_pipeline.domain.grain import period_of
from backfill_pipeline.domain.timeframe import chain_of
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.storage.coverage import kept_complete

from .lifetimes import look_up_ended
from .open_sessions import begun_rows, open_rows
from .rechecks import recheck_closures
from .task import Task, note_served
from .warehouse import Warehouse
from .window import Work


def nightly_tasks(warehouse: Warehouse, starts: Mapping[str, date]) -> list[Task]:
    """One task for each symbol and chain that is followed without an end and has due sessions open: new ones, those in
    their correction window, those of nights that were missed. `starts`: by chain, the first day that has a partition.

    First of all, where it is time, the market is asked about days that were taken as closed, a request a day, and about
    symbols whose end was told, two at most each.
    """
    recheck_closures(warehouse, Work())
    look_up_ended(warehouse, Work())
    with warehouse.conn:
        followed = kept_complete(warehouse.conn)
    tasks = []
    for instrument, base in followed:
        chain = chain_of(base)
        subject = warehouse.subject(instrument, chain)
        note_served(warehouse, subject)
        with warehouse.conn:
            begun = begun_rows(warehouse, subject, starts[chain.name])
            rows = open_rows(warehouse, subject, begun, again=False)
        rows = rows[subject.route.due_at()[rows] <= to_micros(warehouse.now())]
        days: list[date] = subject.sessions.session[rows].astype(object).tolist()
        if len(rows):
            periods = dict.fromkeys(period_of(day, warehouse.grain(chain)) for day in days)
            tasks.append(Task(instrument, chain, tuple(periods), (days[0], days[-1]), again=False))
    return tasks
