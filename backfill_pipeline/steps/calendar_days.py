"""Days on which a calendar is wrong: closing one, trusting the calendar again, and what follows for stored bars.

The override, the table `sessions` and the day's gaps change in one transaction; what follows is done symbol by symbol
under its lock, and the same command does it again if it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from backfill_pipeline.domain.bars import no_bars
from backfill_pipeline.domain.overrides import without
from backfill_pipeline.domain.sessions import Sessions, canonical_calendar, closed_day_names, horizon, load_sessions
from backfill_pipeline.domain.timeframe import CHAINS, DAILY, Chain
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.bars import StoredBars, write_bars
from backfill_pipeline.storage.calendars import put_sessions
from backfill_pipeline.storage.overrides import close_day, closed_days, reopen_day, symbols_with_bars
from backfill_pipeline.storage.rows import Changes, Key
from backfill_pipeline.storage.symbols import Registered, list_symbols
from backfill_pipeline.storage.vouching import cut_coverage

from .derive import derive_features, derive_weeks
from .patient_lock import patient_lock
from .requests import RequestError, parse_date
from .warehouse import Subject, Warehouse

# Symbols that are named in a message.
_MOST_NAMES = 5


@dataclass(frozen=True)
class CalendarDay:
    """A session of the calendar as its authors know it. `window`: the day, in the calendar's zone."""

    sessions: Sessions
    day: date
    window: Window

    def __str__(self) -> str:
        return f"{self.sessions.calendar} {self.day}"


@dataclass
class Followed:
    """What followed from a change of a calendar. `gaps`: closed with it. `weeks`: written or removed. `withdrawn`: base
    bars of the day that are now only in bar_revisions.
    """

    gaps: int = 0
    symbols: int = 0
    weeks: int = 0
    withdrawn: int = 0


def parse_calendar_day(calendar: str, text: str, today: date) -> CalendarDay:
    """Check a calendar's name and a day that is a session of it. Raises RequestError, UnknownCalendarError."""
    sessions = load_sessions(canonical_calendar(calendar), horizon(today))
    day = parse_date("date", text)
    first, last = sessions.session[[0, -1]].astype(object)
    if not first <= day <= last:
        raise RequestError(f"date {day} is not between {first} and {last}, the days of {sessions.calendar}")
    if day in (names := closed_day_names(sessions, day, day)):
        raise RequestError(f"{day} is no session of {sessions.calendar} ({names[day]}); nothing to close or reopen")
    return CalendarDay(sessions, day, sessions.days_window(day, day))


def close(warehouse: Warehouse, of: CalendarDay, note: str, *, force: bool, waiting: Callable[[str], None]) -> Followed:
    """There is no trading on the day. `force`: even where bars of it are stored, which are withdrawn then.

    Raises RequestError. `waiting`: told when a run is at a symbol, whose end is waited for.
    """
    conn, calendar = warehouse.conn, of.sessions.calendar
    if not note.strip():
        raise RequestError(f"{of} is not closed without a reason; say why with --note")
    with conn:
        traded = symbols_with_bars(conn, calendar, of.window)
        if traded and not force:
            raise RequestError(
                f"{of}: bars of that day are stored, {_names(traded)}; if they are wrong, --force withdraws them"
            )
        done = Followed(gaps=close_day(conn, calendar, of.day, note, warehouse.now()))
        put_sessions(conn, without(of.sessions, closed_days(conn, calendar)))
    _follow(warehouse, of, done, waiting)
    return done


def reopen(warehouse: Warehouse, of: CalendarDay, *, waiting: Callable[[str], None]) -> Followed:
    """Trust the calendar about the day again: it is missing until it is asked for. Raises RequestError."""
    conn, calendar = warehouse.conn, of.sessions.calendar
    with conn:
        if not reopen_day(conn, calendar, of.day):
            raise RequestError(f"{of} was not closed by hand; days that were: backfill calendar list")
        put_sessions(conn, without(of.sessions, closed_days(conn, calendar)))
    done = Followed()
    _follow(warehouse, of, done, waiting)
    return done


def _names(symbols: list[str]) -> str:
    some = ", ".join(symbols[:_MOST_NAMES]) + (", …" if len(symbols) > _MOST_NAMES else "")
    return f"of {len(symbols)} symbol{'' if len(symbols) == 1 else 's'} ({some})"


def _follow(warehouse: Warehouse, of: CalendarDay, done: Followed, waiting: Callable[[str], None]) -> None:
    """A week without the day may be whole, one with it is not; bars of a day that is none are withdrawn."""
    conn, calendar = warehouse.conn, of.sessions.calendar
    fresh = replace(warehouse, _sessions={})  # the calendar as it is now
    with conn:
        closed = of.day in closed_days(conn, calendar)
        traded = set(symbols_with_bars(conn, calendar, of.window))
        symbols = [one for one in list_symbols(conn) if one.instrument.calendar == calendar]
    for one in symbols:
        chains = [chain for chain in CHAINS if _is_concerned(one, chain, traded, closed=closed)]
        done.symbols += bool(chains)
        for chain in chains:
            with patient_lock(conn, one.instrument, chain, waiting):
                _change(fresh, fresh.subject(one.instrument, chain), of, done, closed=closed)


def _is_concerned(one: Registered, chain: Chain, traded: set[str], *, closed: bool) -> bool:
    if one.instrument.symbol in traded or (chain is DAILY and chain.base in one.bases):
        return True
    return not closed and chain.base in one.bases


def _change(warehouse: Warehouse, subject: Subject, of: CalendarDay, done: Followed, *, closed: bool) -> None:
    """One chain of one symbol, in one transaction."""
    chain = subject.chain
    with warehouse.conn:
        if not closed:  # an answer about a closed day says nothing of an open one: it is asked for again
            cut_coverage(warehouse.conn, subject.instrument.symbol_id, chain.base, [of.window])
        changes: dict[str, Changes] = {}
        for timeframe in chain.timeframes:
            if timeframe == "1w":
                changes[timeframe] = derive_weeks(warehouse, subject, of.day, of.day)
                done.weeks += changes[timeframe].written + changes[timeframe].withdrawn
            elif closed:
                key = Key(subject.instrument.symbol_id, timeframe, of.window)
                is_base = timeframe == chain.base
                gone = write_bars(warehouse.conn, key, _NOTHING, "", now=warehouse.now(), keep_revisions=is_base)
                changes[timeframe] = gone
                done.withdrawn += gone.withdrawn if is_base else 0
        for timeframe in chain.timeframes:
            change = changes.get(timeframe, Changes())
            if change.first is not None and change.last is not None:
                derive_features(warehouse, subject, timeframe, Window(change.first, change.last + 1))


_NOTHING = StoredBars(no_bars(), np.zeros(0, dtype="datetime64[D]"), np.zeros(0, dtype=np.int8))
