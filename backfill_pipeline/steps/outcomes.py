"""What became of partitions, read back from the tables: their state, why, and what is stored of each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from backfill_pipeline.domain.closures import UNCONFIRMED
from backfill_pipeline.domain.completeness import SessionStatus, State, state_of
from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.grid import expected_per_session
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.storage.coverage import wanted_sessions
from backfill_pipeline.storage.status import read_status

from .summary import Summary, closed_days, summarize
from .warehouse import Subject, Warehouse


@dataclass(frozen=True)
class PartitionOutcome:
    """What became of one partition. `bars`, `features`: what is stored, by timeframe. `message`: for people."""

    symbol: str
    period: Period
    state: State
    message: str
    bars: dict[Timeframe, Summary] = field(default_factory=dict)
    features: dict[Timeframe, Summary] = field(default_factory=dict)


@dataclass(frozen=True)
class _View:
    """The tables' word on a stretch of periods: wanted sessions (ascending), whether each is due, and what is known of
    each.
    """

    wanted: Sequence[date]
    due: Sequence[bool]
    statuses: Mapping[date, SessionStatus]

    def of(self, period: Period) -> dict[date, bool]:
        """The period's wanted sessions, True where due."""
        low, high = bisect_left(self.wanted, period.first), bisect_right(self.wanted, period.last)
        return dict(zip(self.wanted[low:high], self.due[low:high], strict=True))


def _view(warehouse: Warehouse, subject: Subject, periods: Sequence[Period]) -> _View:
    conn, base, first, last = warehouse.conn, subject.chain.base, periods[0].first, periods[-1].last
    sessions = subject.sessions
    wanted = wanted_sessions(conn, subject.instrument, base, sessions, first, last)
    due = subject.route.due_at() <= to_micros(warehouse.now())
    rows = np.searchsorted(sessions.session, np.array(wanted, dtype="datetime64[D]"))
    return _View(wanted, due[rows].tolist(), read_status(conn, subject.instrument.symbol_id, base, first, last))


def _state(subject: Subject, view: _View, period: Period) -> State:
    rows = subject.sessions.rows_between(period.first, period.last)
    return state_of(view.of(period), view.statuses, has_sessions=rows.stop > rows.start)


def states(warehouse: Warehouse, subject: Subject, periods: Sequence[Period]) -> dict[Period, State]:
    """The state of each period (ascending), from the tables."""
    if not periods:
        return {}
    with warehouse.conn:
        view = _view(warehouse, subject, periods)
    return {period: _state(subject, view, period) for period in periods}


def outcomes(
    warehouse: Warehouse,
    subject: Subject,
    periods: Sequence[Period],
    served: str,
    notes: Mapping[Period, Sequence[str]],
    findings: Mapping[Period, Sequence[str]],
) -> Iterator[PartitionOutcome]:
    """The outcome of finished periods (ascending), from the tables. `served`: what can be served at all; `notes`: what
    providers said of them; `findings`: what was found when they were stored.
    """
    if not periods:
        return
    with warehouse.conn:
        view = _view(warehouse, subject, periods)
        summaries = summarize(warehouse.conn, subject, periods)
    closed = closed_days(subject, periods)
    for period in periods:
        state = _state(subject, view, period)
        found = findings.get(period, ())
        message = closed.get(period, "") or "; ".join([*_unconfirmed(view, period), *found])
        if state == "incomplete":
            message = _why(subject, period, view, [*notes.get(period, ()), *found])
        elif state == "in progress":
            message = f"{_name(subject, period)}: still in progress; it is settled when its sessions are due"
        elif state == "not served":
            message = f"{_name(subject, period)}: {served}"
        yield PartitionOutcome(subject.instrument.symbol, period, state, message, *summaries[period])


def _unconfirmed(view: _View, period: Period) -> list[str]:
    days = [day for day in view.of(period) if day in view.statuses and UNCONFIRMED in view.statuses[day].explained]
    return [f"{day} {UNCONFIRMED}: nothing traded" for day in days]


def _name(subject: Subject, period: Period) -> str:
    return f"{subject.instrument.symbol} {period.key} {subject.chain.base}"


def _why(subject: Subject, period: Period, view: _View, notes: Sequence[str]) -> str:
    """One line: what is missing of a partition's due sessions, and what the provider said."""
    sessions = subject.sessions
    of_row = expected_per_session(sessions, subject.chain.base)
    expected = missing = 0
    for day in (day for day, due in view.of(period).items() if due):
        count = int(of_row[sessions.rows_between(day, day)].sum())
        status = view.statuses.get(day)
        expected += count
        missing += count if status is None else status.missing + status.not_due
    said = f" ({'; '.join(dict.fromkeys(notes))})" if notes else ""
    return f"{_name(subject, period)}: {missing} of {expected} bars are missing{said}"
