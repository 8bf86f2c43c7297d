"""The look: are the tables still what our own writing left? What is not, is shown as missing, or derived again.

Nobody is asked. A session whose base bars another hand has changed is vouched for no longer: its coverage is cut, it is
judged anew, and so it lacks bars until the next run asks for it. What is derived is made anew at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import numpy as np

from backfill_pipeline.domain.completeness import is_covered, is_listed
from backfill_pipeline.domain.grain import day_after_chunk
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.timeframe import BASES, Base, Timeframe, chain_of
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.coverage import answered_windows
from backfill_pipeline.storage.look import Doubt, Scope, absent_weeks, doubts, feature_days
from backfill_pipeline.storage.looks import count_statuses, known_sessions, record_look
from backfill_pipeline.storage.symbols import get_instruments, list_symbols, symbol_lock
from backfill_pipeline.storage.vouching import cut_coverage, doubt_gaps, fill_sums, unvouched, withdraw_impossible

from .fetching import consecutive
from .job import CHUNK_MONTHS
from .looked import Kind, Lacking, Looked, joined
from .open_sessions import begun_rows
from .warehouse import Subject, Warehouse
from .window import Work, judge_again, rederive

_BY = "changed by another hand"


@dataclass
class _Case:
    """What is wrong with one chain of a symbol: by session, a detail; of `features`, the timeframes."""

    changed: dict[date, str] = field(default_factory=dict)
    unvouched: dict[date, str] = field(default_factory=dict)
    derived: dict[date, str] = field(default_factory=dict)
    stray: dict[date, str] = field(default_factory=dict)
    features: list[Timeframe] = field(default_factory=list)

    def add(self, doubt: Doubt) -> None:
        if doubt.session is None:
            self.features.append(doubt.timeframe)
        elif doubt.kind == "derived":
            before = self.derived.get(doubt.session)
            self.derived[doubt.session] = f"{before} {doubt.timeframe}" if before else doubt.timeframe
        else:
            (self.changed if doubt.kind == "changed" else self.stray)[doubt.session] = doubt.detail


Cases = dict[tuple[int, Base], _Case]


def look(warehouse: Warehouse, *, symbols: Sequence[str] | None = None, since: datetime | None = None) -> Looked:
    """Hold every session's bars, coverage, derived bars and features against what was written, and put right what can
    be without asking; what lacks bars now is open for the next run.

    `symbols` None: all that are followed. `since`: only sessions whose status was written from then on, and no weeks;
    else the look is complete and, over all symbols, is recorded. Commits; to be called with no lock held. Raises
    UnknownSymbolError.
    """
    conn = warehouse.conn
    with conn:
        if symbols is None:
            instruments = [one.instrument for one in list_symbols(conn) if one.active]
        else:
            instruments = list(get_instruments(conn, symbols).values())
        scope = Scope(None if symbols is None else [one.symbol_id for one in instruments], since)
        looked = Looked(since is None, len(instruments), filled=fill_sums(conn, scope))
        looked.sessions = count_statuses(conn, scope)
        cases = _cases(warehouse, scope)
    for instrument in instruments:
        for base in BASES:
            subject = warehouse.subject(instrument, chain_of(base))
            if (instrument.symbol_id, base) in cases:
                with symbol_lock(conn, instrument.symbol_id, base):
                    _put_right(warehouse, subject, since, looked)
            if since is None:
                _note_lacking(warehouse, subject, looked)
    if since is None and symbols is None:
        with conn:
            record_look(conn, warehouse.now(), looked.sessions, looked.counts)
    return looked


def _cases(warehouse: Warehouse, scope: Scope) -> Cases:
    """In the open transaction."""
    conn, found = warehouse.conn, Cases()
    for doubt in [*doubts(conn, scope), *(absent_weeks(conn, scope) if scope.since is None else [])]:
        found.setdefault((doubt.symbol_id, doubt.base), _Case()).add(doubt)
    for symbol_id, base, session in unvouched(conn, scope, warehouse.now()):
        found.setdefault((symbol_id, base), _Case()).unvouched[session] = ""
    return found


def _put_right(warehouse: Warehouse, subject: Subject, since: datetime | None, looked: Looked) -> None:
    """Look again under the symbol's lock, for a run may have been at it meanwhile, and act."""
    conn, symbol_id, base = warehouse.conn, subject.instrument.symbol_id, subject.chain.base
    work, zone = Work(), subject.sessions.zone
    with conn:
        case = _cases(warehouse, Scope([symbol_id], since)).get((symbol_id, base))
        if case is None:
            return
        features: dict[date, str] = {}
        for timeframe in case.features:
            for day in feature_days(conn, symbol_id, timeframe, zone):
                features[day] = f"{features[day]} {timeframe}" if day in features else timeframe
        known = known_sessions(conn, symbol_id, base)
        if case.changed:
            withdraw_impossible(conn, symbol_id, base, list(case.changed), warehouse.now())
            cut_coverage(conn, symbol_id, base, [_day(subject, day) for day in case.changed])
    doubted = {day: f"{_BY}: {detail}" for day, detail in case.changed.items()}
    doubted |= {day: "the answer that vouched for it is gone" for day in case.unvouched if day not in doubted}
    if doubted:
        judge_again(warehouse, subject, _rows(subject, sorted(doubted)), work)
        with conn:
            evidence = {_day(subject, day): {"by": _BY, "detail": detail} for day, detail in doubted.items()}
            doubt_gaps(conn, symbol_id, base, evidence, warehouse.now())
    stale = set(doubted)
    for day in (*case.derived, *features):
        stale |= known.keys() & _reach(base, day)
    _rederive(warehouse, subject, sorted(stale), work)
    # What is made of a doubted session cannot be as it was; nor can its week.
    told = doubted.keys() | {day - timedelta(days=day.weekday()) for day in doubted if base == "1d"}
    case.derived = {day: detail for day, detail in case.derived.items() if day not in told}
    told |= case.derived.keys()
    features = {day: detail for day, detail in features.items() if day not in told and stale & _reach(base, day)}
    _note(subject, "changed", case.changed, looked)
    _note(subject, "unvouched", {day: "" for day in case.unvouched if day not in case.changed}, looked)
    _note(subject, "derived", case.derived, looked)
    _note(subject, "features", features, looked)
    _note(subject, "stray", case.stray, looked)


def _reach(base: Base, day: date) -> set[date]:
    """The sessions that a bar labelled `day` may be made of: it may be a week's Monday."""
    return {day + timedelta(days=i) for i in range(7 if base == "1d" else 1)}


def _rederive(warehouse: Warehouse, subject: Subject, days: list[date], work: Work) -> None:
    """Window by window, so that memory does not grow with what is to be done."""
    while days:
        after = day_after_chunk(days[0], CHUNK_MONTHS[subject.chain.base])
        rederive(warehouse, subject, [day for day in days if day < after], work)
        days = [day for day in days if day >= after]


def _note_lacking(warehouse: Warehouse, subject: Subject, looked: Looked) -> None:
    """Wanted and due sessions that lack bars, or that nobody has looked at. Where coverage speaks of the latter all the
    same, it is cut: no night would ever ask for them.
    """
    conn, symbol_id, base, sessions = warehouse.conn, subject.instrument.symbol_id, subject.chain.base, subject.sessions
    with conn:
        begun = begun_rows(warehouse, subject)
        if not len(begun):
            return
        hull = Window(int(sessions.day_start[begun[0]]), int(sessions.day_end[begun[-1]]))
        answered = answered_windows(conn, symbol_id, base, hull)
        known = known_sessions(conn, symbol_id, base)  # after the answers: a run may be at it, and writes both at once
    due = begun[
        (subject.route.due_at()[begun] <= to_micros(warehouse.now())) & is_listed(sessions, subject.instrument)[begun]
    ]
    unseen = due[[day not in known for day in _days(subject, due)]]
    forgotten = unseen[is_covered(sessions, unseen, answered, warehouse.now())]
    if len(forgotten):
        with symbol_lock(conn, symbol_id, base), conn:
            cut_coverage(conn, symbol_id, base, [_day(subject, day) for day in _days(subject, forgotten)])
    _note(subject, "forgotten", dict.fromkeys(_days(subject, forgotten), ""), looked)
    for run in consecutive(begun):  # between runs lies what nobody wants
        lacking = [day for day in _days(subject, np.intersect1d(run, due)) if known.get(day, 1)]
        if lacking:
            never = sum(day not in known for day in lacking)
            looked.lacking.append(
                Lacking(subject.instrument.symbol, base, lacking[0], lacking[-1], len(lacking), never)
            )


def _note(subject: Subject, kind: Kind, details: Mapping[date, str], looked: Looked) -> None:
    ordered = {day: details[day] for day in sorted(details)}
    places = np.searchsorted(subject.sessions.session, np.array(list(ordered), dtype="datetime64[D]")).tolist()
    looked.findings += joined(subject.instrument.symbol, subject.chain.name, kind, ordered, places)


def _rows(subject: Subject, days: Sequence[date]) -> Rows:
    return np.searchsorted(subject.sessions.session, np.array(days, dtype="datetime64[D]")).astype(np.int64)


def _days(subject: Subject, rows: Rows) -> list[date]:
    days: list[date] = subject.sessions.session[rows].astype(object).tolist()
    return days


def _day(subject: Subject, day: date) -> Window:
    return subject.sessions.days_window(day, day)
