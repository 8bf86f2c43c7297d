"""Writes to one chain of one symbol: an answer, or what follows from stored bars; whole or not at all.

The caller holds the symbol's lock; each function is one transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.completeness import SessionStatus, open_minutes
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.bars import read_bars
from backfill_pipeline.storage.coverage import answered_windows
from backfill_pipeline.storage.rows import Changes, Key
from backfill_pipeline.storage.status import read_status, write_status

from .basis_check import adjusted
from .derive import by_provider, derive_features, derive_intraday, derive_weeks, with_whole
from .disagreement import disagreement_notes
from .fetching import Fetched, consecutive
from .guard import ingest_guarded
from .ingest import Note, explain_unlisted
from .look_again import look_again
from .split_features import refresh_stale
from .verdicts import still_open
from .warehouse import Subject, Warehouse
from .weighing import weigh


@dataclass
class Work:
    """What a run has done so far. `asked`: requests' windows; `received`, `written`, `removed`: rows of bars. `to_ask`:
    requests that are left, about; `to_wait`: seconds until the last of them could be sent. `received_of`, `written_of`:
    the same rows by symbol and timeframe.
    """

    asked: int = 0
    to_ask: int = 0
    to_wait: float = 0.0
    received: int = 0
    written: int = 0
    removed: int = 0
    features: int = 0
    received_of: Counter[tuple[str, Timeframe]] = field(default_factory=Counter)
    written_of: Counter[tuple[str, Timeframe]] = field(default_factory=Counter)

    def stored(self, symbol: str, changes: Mapping[Timeframe, Changes]) -> None:
        """Count what a transaction has written, once it is through: until then a kill takes it back."""
        for timeframe, change in changes.items():
            self.written += change.written
            self.removed += change.withdrawn
            self.written_of[symbol, timeframe] += change.written

    @property
    def to_go(self) -> str:
        """What is left to ask for, for people: `; about 12 requests and 0:02:25 to go`; empty for nothing."""
        left = timedelta(seconds=round(self.to_wait))
        return f"; about {self.to_ask} requests and {left} to go" if self.to_ask else ""


def write_answers(warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched], work: Work) -> list[Note]:
    """Store answers and everything that follows from them. Returns what people should know of it; it is logged, too."""
    days = [subject.sessions.session[row].astype(object) for answer in answers for row in answer.rows.tolist()]
    received = sum(answer.received for answer in answers)
    work.received += received
    work.received_of[subject.instrument.symbol, subject.chain.base] += received
    refuse_full(warehouse)
    changes: dict[Timeframe, Changes] = {}
    with warehouse.conn:
        notes = adjusted(warehouse, subject, answers)
        if not notes:
            changes = _ingest(warehouse, subject, answers, notes)
            _weeks(warehouse, subject, days, changes)
            _follow(warehouse, subject, changes, work)
    work.stored(subject.instrument.symbol, changes)
    return notes


def settle(warehouse: Warehouse, subject: Subject, begun: Sequence[date], work: Work) -> None:
    """What follows without an answer: wanted sessions `begun` that the lifetime explains, whole weeks, and features
    that a new split has changed.
    """
    with warehouse.conn:
        unlisted = explain_unlisted(warehouse, subject, begun)
        write_status(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, unlisted, warehouse.now())
        changes: dict[Timeframe, Changes] = {}
        _weeks(warehouse, subject, begun, changes)
        _follow(warehouse, subject, changes, work)
        work.features += refresh_stale(warehouse, subject)
    work.stored(subject.instrument.symbol, changes)


def rederive(warehouse: Warehouse, subject: Subject, begun: Sequence[date], work: Work) -> None:
    """Everything derived anew from the stored base bars of the sessions `begun`."""
    refuse_full(warehouse)
    with warehouse.conn:
        unlisted = explain_unlisted(warehouse, subject, begun)
        write_status(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, unlisted, warehouse.now())
        changes = _rederive(warehouse, subject, begun)
        for timeframe, reached in _everything(subject, begun).items():  # features of bars that are as they were, too
            changes[timeframe] = changes.get(timeframe, Changes()) + reached
        _weeks(warehouse, subject, begun, changes)
        _follow(warehouse, subject, changes, work)
    work.stored(subject.instrument.symbol, changes)


def judge_again(warehouse: Warehouse, subject: Subject, rows: Rows, work: Work) -> list[date]:
    """Count and judge the stored sessions `rows` (ascending) anew, and derive again what follows from those that
    changed, which are returned.
    """
    changes: dict[Timeframe, Changes] = {}
    with warehouse.conn:
        changed = look_again(warehouse, subject, rows)
        if changed:
            changes = _rederive(warehouse, subject, changed)
            _weeks(warehouse, subject, changed, changes)
            _follow(warehouse, subject, changes, work)
    work.stored(subject.instrument.symbol, changes)
    return changed


def refuse_full(warehouse: Warehouse) -> None:
    """Raises DiskFullError where the server's disk has less than the floor: nothing is asked that cannot be stored."""
    if warehouse.disk is not None:
        warehouse.disk.refuse_full()


def _weeks(warehouse: Warehouse, subject: Subject, days: Sequence[date], changes: dict[Timeframe, Changes]) -> None:
    # Not only the asked days': a week becomes whole by what is wanted or not listed, too.
    if subject.chain.base == "1d" and days:
        _add(changes, {"1w": derive_weeks(warehouse, subject, min(days), max(days))})


def _ingest(
    warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched], notes: list[Note]
) -> dict[Timeframe, Changes]:
    """Store answers, and the coarser bars and statuses that follow from them. Adds to `notes`."""
    conn, symbol_id, base = warehouse.conn, subject.instrument.symbol_id, subject.chain.base
    changes: dict[Timeframe, Changes] = {}
    answers, changed = weigh(warehouse, subject, answers)
    _add(changes, _rederive(warehouse, subject, changed))
    for one in ingest_guarded(warehouse, subject, answers, notes):
        fetched = one.fetched
        notes += disagreement_notes(warehouse, subject, one)
        _add(changes, {base: one.changes})
        statuses: Sequence[SessionStatus] = one.statuses
        if base == "1m":
            derived = derive_intraday(
                warehouse,
                subject,
                fetched.rows,
                one.stored.bars,
                one.open_ts,
                fetched.fetched_at,
                fetched.provider,
            )
            _add(changes, derived.changes)
            statuses = with_whole(statuses, derived.whole)
        write_status(conn, symbol_id, base, statuses, fetched.fetched_at)
    return changes


def _rederive(warehouse: Warehouse, subject: Subject, days: Sequence[date]) -> dict[Timeframe, Changes]:
    """Coarser bars anew from the stored minutes of the sessions `days` (ascending), with their counts of whole ones."""
    conn, symbol_id, sessions = warehouse.conn, subject.instrument.symbol_id, subject.sessions
    if subject.chain.base == "1d" or not days:
        return {}
    statuses = read_status(conn, symbol_id, "1m", days[0], days[-1])
    known = [day for day in days if day in statuses]
    changes: dict[Timeframe, Changes] = {}
    providers = {day: statuses[day].provider for day in known}
    for group, provider in by_provider(known, providers, subject.route.providers[0].name):
        rows = np.searchsorted(sessions.session, np.array(group, dtype="datetime64[D]")).astype(np.int64)
        for run in consecutive(rows):
            window = Window(int(sessions.day_start[run[0]]), int(sessions.day_end[run[-1]]))
            vouched = answered_windows(conn, symbol_id, "1m", window)
            bars = read_bars(conn, Key(symbol_id, "1m", window))
            of_run = [statuses[sessions.session[row].astype(object)] for row in run.tolist()]
            open_ts = open_minutes(sessions, run, of_run, vouched, bars.ts[inside(bars.ts, vouched)])
            open_ts = still_open(warehouse, subject, run, of_run, open_ts)
            derived = derive_intraday(warehouse, subject, run, bars, open_ts, warehouse.now(), provider)
            _add(changes, derived.changes)
            write_status(conn, symbol_id, "1m", with_whole(of_run, derived.whole), warehouse.now())
    return changes


def _everything(subject: Subject, days: Sequence[date]) -> dict[Timeframe, Changes]:
    """As if all bars of the weeks that hold `days` (ascending) had changed."""
    if not days:
        return {}
    first = days[0] if subject.chain.base == "1m" else days[0] - timedelta(days=days[0].weekday())
    span = subject.sessions.days_window(first, days[-1])
    return dict.fromkeys(subject.chain.timeframes, Changes(first=span.start, last=span.end - 1))


def _follow(warehouse: Warehouse, subject: Subject, changes: dict[Timeframe, Changes], work: Work) -> None:
    for timeframe, change in changes.items():
        if change.first is not None and change.last is not None:
            reached = Window(change.first, change.last + 1)
            work.features += derive_features(warehouse, subject, timeframe, reached).written


def _add(total: dict[Timeframe, Changes], more: Mapping[Timeframe, Changes]) -> None:
    for timeframe, change in more.items():
        total[timeframe] = total.get(timeframe, Changes()) + change
