"""What a quarter of an hour has to do: bars of the sessions that run, of everything followed without an end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from backfill_pipeline.domain.grain import period_of
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import chain_of
from backfill_pipeline.domain.windows import MINUTE, to_datetime, to_micros
from backfill_pipeline.providers.base import HasToday
from backfill_pipeline.storage.coverage import kept_complete

from .open_sessions import begun_rows, open_rows
from .task import Task, note_served
from .warehouse import Subject, Warehouse

# After its last segment a session brings late bars for so long; a provider that settles it after midnight would be
# asked seventeen times for nothing.
_AFTER_CLOSE = 30 * MINUTE


@dataclass(frozen=True)
class Intraday:
    """`idle`: why there are no tasks; empty where there are some."""

    tasks: tuple[Task, ...]
    idle: str


def intraday_tasks(warehouse: Warehouse, starts: Mapping[str, date]) -> Intraday:
    """One task for each followed symbol and chain of which a session runs, or has closed and is not settled yet, and
    has bars that nobody was asked for. `starts`: by chain, the first day that has a partition. Asks nobody.
    """
    with warehouse.conn:
        followed = kept_complete(warehouse.conn)
    tasks: list[Task] = []
    resting: dict[str, str] = {}
    unserved: dict[str, None] = {}
    is_served = False
    for instrument, base in followed:
        chain = chain_of(base)
        subject = warehouse.subject(instrument, chain)
        rows = _running(warehouse, subject)
        if not len(rows):
            resting[instrument.calendar] = _next_opening(subject.sessions, to_micros(warehouse.now()))
            continue
        rows = rows[_has_today(warehouse, subject, rows)]
        if not len(rows):
            unserved[f"{base} from {', '.join(p.name for p in subject.route.providers)}"] = None
            continue
        is_served = True
        note_served(warehouse, subject)
        days: list[date] = subject.sessions.session[rows].astype(object).tolist()
        with warehouse.conn:
            begun = begun_rows(warehouse, subject, max(days[0], starts[chain.name]), days[-1])
            rows = open_rows(warehouse, subject, np.intersect1d(begun, rows), again=False)
        days = subject.sessions.session[rows].astype(object).tolist()
        if days:
            periods = dict.fromkeys(period_of(day, warehouse.grain(chain)) for day in days)
            tasks.append(Task(instrument, chain, tuple(periods), (days[0], days[-1])))
    if tasks:
        return Intraday(tuple(tasks), "")
    everything = "everything of the running sessions has been asked for"
    return Intraday((), everything if is_served else _idle(resting, unserved))


def _running(warehouse: Warehouse, subject: Subject) -> Rows:
    """Sessions that have begun, and have not closed long ago or are settled."""
    now = to_micros(warehouse.now())
    until = np.minimum(subject.route.due_at(), subject.sessions.post_close + _AFTER_CLOSE)
    return np.flatnonzero((subject.sessions.pre_open < now) & (until > now)).astype(np.int64)


def _has_today(warehouse: Warehouse, subject: Subject, rows: Rows) -> list[bool]:
    """Whether who is asked for a session has it while it runs; of days, only who is made for it."""
    chosen = subject.route.choose(warehouse.now())[rows].tolist()
    of, base = subject.instrument, subject.chain.base
    providers = [subject.route.providers[place] if place >= 0 else None for place in chosen]
    return [
        p is not None and (p.live or (base == "1m" and isinstance(p, HasToday) and p.serves_today(of)))
        for p in providers
    ]


def _next_opening(sessions: Sessions, now: int) -> str:
    row = int(np.searchsorted(sessions.pre_open, now))
    if row == len(sessions):
        return f"{sessions.calendar}'s calendar ends"
    return f"{sessions.calendar} opens {to_datetime(int(sessions.pre_open[row])):%a %Y-%m-%d %H:%M} UTC"


def _idle(resting: Mapping[str, str], unserved: Collection[str]) -> str:
    if unserved:
        what = "; ".join(unserved)
        return f"nobody serves today ({what}); set TRADIER_TOKEN for today's minutes of US stocks"
    if resting:
        return f"nothing is open: {'; '.join(resting.values())}"
    return "no symbol is followed without an end: backfill symbols add AAPL --since 2y"
