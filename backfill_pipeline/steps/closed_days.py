"""Partitions on whose days nothing trades: complete by the calendar, and asked of nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from backfill_pipeline.domain.grain import Period, periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Chain, chain_of
from backfill_pipeline.storage.coverage import kept_complete

from .open_sessions import begun_rows
from .task import Task
from .warehouse import Warehouse

# Days that a night looks back for closed ones that nobody has recorded: more nights than anybody lets pass.
LOOK_BACK = timedelta(days=31)


def closed_periods(warehouse: Warehouse, starts: Mapping[str, date]) -> list[tuple[Instrument, Chain, list[Period]]]:
    """By symbol and chain followed without an end, the periods of the last month that hold no session and follow a
    wanted one; today is the last. `starts`: by chain, the first day that has a partition.
    """
    with warehouse.conn:
        followed = kept_complete(warehouse.conn)
    found = []
    for instrument, base in followed:
        chain = chain_of(base)
        subject = warehouse.subject(instrument, chain)
        sessions = subject.sessions
        today = warehouse.now().astimezone(ZoneInfo(sessions.zone)).date()
        first = max(starts[chain.name], today - LOOK_BACK)
        with warehouse.conn:
            wanted = begun_rows(warehouse, subject, first - LOOK_BACK, today)
        periods = []
        for period in periods_between(first, today, warehouse.grain(chain)):
            rows = sessions.rows_between(period.first, period.last)
            if rows.start == rows.stop and np.isin(rows.start - 1, wanted) and period.last <= today:
                periods.append(period)
        if periods:
            found.append((instrument, chain, periods))
    return found


def with_periods(tasks: list[Task], instrument: Instrument, chain: Chain, periods: list[Period]) -> list[Task]:
    """The tasks with more periods of one symbol's chain: in its own task if it has one."""
    mine = next((t for t in tasks if t.instrument.symbol_id == instrument.symbol_id and t.chain is chain), None)
    days = sorted(day for period in periods for day in (period.first, period.last))
    if mine is None:
        return [*tasks, Task(instrument, chain, tuple(periods), (days[0], days[-1]), again=False)]
    assert mine.days is not None
    merged = tuple(sorted({*mine.periods, *periods}))
    span = (min(days[0], mine.days[0]), max(days[-1], mine.days[1]))
    return [replace(task, periods=merged, days=span) if task is mine else task for task in tasks]
