"""One window of one chain: ask, store, derive, judge; stored whole or not at all, under the symbol's lock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from backfill_pipeline.domain.completeness import SessionStatus, is_listed, latest_begun, open_minutes
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, subtract, to_micros
from backfill_pipeline.storage.bars import read_bars
from backfill_pipeline.storage.coverage import answered_windows, valid_coverage, wanted_sessions
from backfill_pipeline.storage.rows import Changes, Key
from backfill_pipeline.storage.status import read_status, write_status
from backfill_pipeline.storage.symbols import symbol_lock

from .derive import by_provider, derive_features, derive_intraday, derive_weeks, with_whole
from .ingest import Fetched, explain_unlisted, fetch, ingest, inside
from .warehouse import Subject, Warehouse


@dataclass
class Work:
    """What a run has done so far. `asked`: requests' windows; `received`, `written`, `removed`: rows of bars."""

    asked: int = 0
    received: int = 0
    written: int = 0
    removed: int = 0
    features: int = 0


def run_window(warehouse: Warehouse, subject: Subject, first: date, last: date, work: Work, *, ask: bool) -> list[str]:
    """Bring [first, last] as far as the provider goes, in one transaction under the lock. What it could not do."""
    conn, base = warehouse.conn, subject.chain.base
    with symbol_lock(conn, subject.instrument.symbol_id, base):
        with conn:
            wanted = wanted_sessions(conn, subject.instrument, base, subject.sessions, first, last)
            begun = wanted[: bisect_right(wanted, latest_begun(subject.sessions, warehouse.now()))]
            days = _open_sessions(warehouse, subject, begun) if ask else []
        answers = fetch(warehouse, subject, days)
        notes = [note for answer in answers for note in answer.notes]
        with conn:
            unlisted = explain_unlisted(warehouse, subject, begun)
            write_status(conn, subject.instrument.symbol_id, base, unlisted, warehouse.now())
            changes = _ingest(warehouse, subject, answers, work) if ask else _rederive(warehouse, subject, begun)
            if base == "1d" and begun:
                # Not only the asked days': a week becomes whole by what is wanted or not listed, too.
                _add(changes, {"1w": derive_weeks(warehouse, subject, begun[0], begun[-1])})
            _follow(warehouse, subject, changes, work)
    return notes


def _open_sessions(warehouse: Warehouse, subject: Subject, begun: Sequence[date]) -> list[date]:
    """Which of the wanted sessions to ask for: listed, and not covered by a still valid answer. One known to lack
    bars, or never looked at, is asked whatever the coverage says: a run is somebody's decision to try again.
    """
    if not begun:
        return []
    conn, symbol_id, base, sessions = warehouse.conn, subject.instrument.symbol_id, subject.chain.base, subject.sessions
    rows = np.searchsorted(sessions.session, np.array(begun, dtype="datetime64[D]"))
    known = read_status(conn, symbol_id, base, begun[0], begun[-1])
    covered = valid_coverage(conn, symbol_id, base, warehouse.now())
    listed = is_listed(sessions, subject.instrument)
    open_days = []
    now = to_micros(warehouse.now())
    for day, row in zip(begun, rows.tolist(), strict=True):
        # Until the last segment's close: an answer of the evening need not reach midnight.
        whole = Window(int(sessions.day_start[row]), min(int(sessions.post_close[row]), now))
        settled = day in known and not known[day].missing and not subtract([whole], _near(covered, whole))
        if listed[row] and not settled:
            open_days.append(day)
    return open_days


def _near(covered: Sequence[Window], whole: Window) -> Sequence[Window]:
    """The one covered stretch (they are disjoint and ascending) that could hold `whole`."""
    place = bisect_right(covered, whole.start, key=lambda window: window.start)
    return covered[max(0, place - 1) : place]


def _ingest(warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched], work: Work) -> dict[Timeframe, Changes]:
    """Store answers, and the coarser bars and statuses that follow from them."""
    conn, symbol_id, base = warehouse.conn, subject.instrument.symbol_id, subject.chain.base
    changes: dict[Timeframe, Changes] = {}
    for fetched in answers:
        one = ingest(warehouse, subject, fetched)
        work.asked += 1
        work.received += fetched.received
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
                warehouse.provider.name,
            )
            _add(changes, derived.changes)
            statuses = with_whole(statuses, derived.whole)
        write_status(conn, symbol_id, base, statuses, fetched.fetched_at)
    return changes


def _rederive(warehouse: Warehouse, subject: Subject, days: Sequence[date]) -> dict[Timeframe, Changes]:
    """Coarser bars anew from the stored base bars of the sessions `days`, and every timeframe's features with them;
    nothing is asked.
    """
    conn, symbol_id, sessions = warehouse.conn, subject.instrument.symbol_id, subject.sessions
    statuses = read_status(conn, symbol_id, subject.chain.base, days[0], days[-1]) if days else {}
    known = [day for day in days if day in statuses]
    if not known:
        return {}
    monday = known[0] - timedelta(days=known[0].weekday())
    span = sessions.days_window(known[0] if subject.chain.base == "1m" else monday, known[-1])
    whole_span = Changes(first=span.start, last=span.end - 1)
    changes: dict[Timeframe, Changes] = dict.fromkeys(subject.chain.timeframes, whole_span)
    if subject.chain.base == "1d":
        return changes
    vouched = answered_windows(conn, symbol_id, "1m", span)
    providers = {day: statuses[day].provider for day in known}
    for group, provider in by_provider(known, providers, warehouse.provider.name):
        rows = np.searchsorted(sessions.session, np.array(group, dtype="datetime64[D]")).astype(np.int64)
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            window = Window(int(sessions.day_start[run[0]]), int(sessions.day_end[run[-1]]))
            bars = read_bars(conn, Key(symbol_id, "1m", window))
            of_run = [statuses[sessions.session[row].astype(object)] for row in run.tolist()]
            open_ts = open_minutes(sessions, run, of_run, vouched, bars.ts[inside(bars.ts, vouched)])
            derived = derive_intraday(warehouse, subject, run, bars, open_ts, warehouse.now(), provider)
            _add(changes, derived.changes)
            write_status(conn, symbol_id, "1m", with_whole(of_run, derived.whole), warehouse.now())
    return changes


def _follow(warehouse: Warehouse, subject: Subject, changes: dict[Timeframe, Changes], work: Work) -> None:
    for timeframe, change in changes.items():
        work.written += change.written
        work.removed += change.withdrawn
        if change.first is not None and change.last is not None:
            reached = Window(change.first, change.last + 1)
            work.features += derive_features(warehouse, subject, timeframe, reached).written


def _add(total: dict[Timeframe, Changes], more: Mapping[Timeframe, Changes]) -> None:
    for timeframe, change in more.items():
        total[timeframe] = total.get(timeframe, Changes()) + change
