"""Sessions on which nothing traded at all: taken as closed, unconfirmed, told once, and not asked for by everybody.

What is taken as closed follows from the tables alone, so it does not depend on which answer came first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import date

import numpy as np

from backfill_pipeline.domain.closures import (
    FEWEST,
    MOST_IN_A_ROW,
    UNCONFIRMED,
    Silence,
    around,
    days_off_with_bars,
    may_close,
    next_recheck,
    short_runs,
    taken_as_closed,
)
from backfill_pipeline.domain.completeness import SessionStatus, is_covered, is_listed
from backfill_pipeline.domain.grid import expected_per_session
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import chain_of
from backfill_pipeline.domain.windows import to_micros, union
from backfill_pipeline.providers.base import MarketProvider, MarketRequest
from backfill_pipeline.providers.errors import NoTrading, ProviderError
from backfill_pipeline.storage.closures import (
    SessionWord,
    assume_closed,
    assumed_closed,
    close_gaps,
    forget_assumption,
    note_trade,
    session_words,
    wanting,
)
from backfill_pipeline.storage.overrides import closed_days
from backfill_pipeline.storage.status import read_status, write_status
from backfill_pipeline.storage.symbols import try_lock, unlock

from .fetching import Fetched, Unit
from .open_sessions import begun_rows
from .warehouse import Subject, Warehouse
from .window import Work, judge_again, settle

logger = logging.getLogger(__name__)

# Sessions for which one run asks a provider whether anything traded in the whole market; a request each.
_MOST_ASKED = 2

Ask = Callable[[date], bool | None]


class Closures:
    """What one run makes of silent sessions."""

    def __init__(self, warehouse: Warehouse, work: Work) -> None:
        self._warehouse = warehouse
        self._work = work
        self._left = _MOST_ASKED

    def heed(self, unit: Unit, answers: Sequence[Fetched]) -> bool:
        """Look at stored answers, under the symbol's lock. True: other sessions are open now than were before."""
        subject = unit.subject
        if not may_close(subject.sessions):
            return False
        self._tell_days_off(subject, unit.provider.name, answers)
        silent, traded = _heard(self._warehouse, subject, answers)
        if not silent and not traded:
            return False
        with self._warehouse.conn:
            assumed = _rows(subject.sessions, assumed_closed(self._warehouse.conn, subject.instrument.calendar))
        near = set(around(silent, MOST_IN_A_ROW, len(subject.sessions)).tolist())
        suspects = {*short_runs(silent), *(assumed & (near | traded))}
        if not suspects:
            return False
        changed = judge_silence(self._warehouse, subject.sessions, suspects, self._work, self._asking(unit))
        settle_closed(self._warehouse, subject, self._work)
        return changed

    def market_silent(self, provider: MarketProvider, subject: Subject, row: int) -> None:
        """A provider had no bar of a session of the subject's whole market: it is asked once more, for a day off is not
        to be believed for one empty reply. No symbol's lock is held.
        """
        self._work.asked += 1
        if market_traded(self._warehouse, provider, subject, _day(subject.sessions, row)) is False:
            judge_silence(self._warehouse, subject.sessions, {row}, self._work)

    def _asking(self, unit: Unit) -> Ask | None:
        """How to ask the unit's provider about a whole market's day, twice a run at most; None: it has none."""
        provider = unit.provider
        if not isinstance(provider, MarketProvider) or provider.page_rows("1d") is None:
            return None

        def ask(day: date) -> bool | None:
            if not self._left:
                return None
            self._left -= 1
            self._work.asked += 1
            return market_traded(self._warehouse, provider, unit.subject, day)

        return ask

    def _tell_days_off(self, subject: Subject, provider: str, answers: Sequence[Fetched]) -> None:
        """Bars of a day that is no session are not stored. They are told once."""
        conn, calendar = self._warehouse.conn, subject.instrument.calendar
        off = np.concatenate([answer.validated.off_days for answer in answers])
        for day in days_off_with_bars(subject.sessions, subject.chain.base, off):
            with conn:
                closed = closed_days(conn, calendar)
                if not note_trade(conn, calendar, day, provider, self._warehouse.now(), traded=True):
                    continue
            does, then = "is no session by the calendar", "install a newer exchange_calendars"
            if day in closed:
                does, then = "is closed by hand", f"backfill calendar reopen {calendar} {day}"
            logger.warning(
                f"{calendar} {day} {does}, and {provider} has bars of {subject.instrument.symbol} then, which are not"
                f" stored. If there was trading: {then}"
            )


def _heard(warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched]) -> tuple[set[int], set[int]]:
    """The due sessions of the answers that are answered without a bar, and those that have some."""
    now = warehouse.now()
    rows = np.concatenate([answer.rows for answer in answers])
    rows = rows[subject.route.due_at()[rows] <= to_micros(now)]
    answered = union([stretch for answer in answers for stretch in answer.answered])
    rows = rows[is_covered(subject.sessions, rows, answered, now)]
    with_bars = np.unique(np.concatenate([subject.rows_of(answer.validated.bars.ts) for answer in answers]))
    return set(np.setdiff1d(rows, with_bars).tolist()), set(np.intersect1d(rows, with_bars).tolist())


def market_traded(warehouse: Warehouse, provider: MarketProvider, subject: Subject, day: date) -> bool | None:
    """Ask a provider whether anything traded in the subject's whole market on `day`, and keep its word; one request.
    None: it cannot tell now.
    """
    market = provider.market(subject.instrument, "1d")
    if market is None:
        return None
    try:
        provider.fetch_market(MarketRequest(market, "1d", day, frozenset(), subject.sessions), warehouse.now())
        traded = True
    except NoTrading:
        traded = False
    except ProviderError:
        return None
    with warehouse.conn as conn:
        note_trade(conn, subject.instrument.calendar, day, provider.name, warehouse.now(), traded=traded)
    return traded


def judge_silence(
    warehouse: Warehouse, sessions: Sessions, suspects: Collection[int], work: Work, ask: Ask | None = None
) -> bool:
    """Decide anew which of the sessions `suspects`, and of those next to them, are taken as closed, and make the tables
    say so. `ask`: about a whole market's day, where symbols alone do not tell. True: some are that were not, or the
    other way round.
    """
    words = _words(warehouse, sessions, suspects)
    told = [] if ask is None else [ask(_day(sessions, row)) for row in _to_ask(words, suspects)]
    if told != [None] * len(told):
        words = _words(warehouse, sessions, suspects)
    closed = taken_as_closed(_silences(words))
    conn, calendar, now = warehouse.conn, sessions.calendar, warehouse.now()
    new: list[int] = []
    gone: dict[int, set[tuple[int, str]]] = {}
    with conn:
        assumed = _rows(sessions, assumed_closed(conn, calendar))
        for row in around(suspects, MOST_IN_A_ROW, len(sessions)).tolist():
            day, word = _day(sessions, row), words[row]
            if (
                row in closed
                and row not in assumed
                and assume_closed(conn, calendar, day, _note(word), next_recheck(0, now), now)
            ):
                new.append(row)
            elif row in assumed and row not in closed:
                gone[row] = forget_assumption(conn, calendar, day, now)
    for row in new:
        _tell_closed(calendar, _day(sessions, row), words[row])
        _each_wanting(warehouse, calendar, _day(sessions, row), lambda subject: settle_closed(warehouse, subject, work))
    for row, silent in gone.items():
        at = np.array([row], dtype=np.int64)

        def missing(subject: Subject, silent: Collection[tuple[int, str]] = silent, at: Rows = at) -> None:
            if (subject.instrument.symbol_id, subject.chain.base) in silent:
                judge_again(warehouse, subject, at, work)

        _each_wanting(warehouse, calendar, _day(sessions, row), missing)
        why = "there was trade" if words[row].traded else "the sessions next to it are silent, too: rather an outage"
        logger.warning(f"{calendar} {_day(sessions, row)} was taken as closed, but {why}; it is asked for again")
    return bool(new or gone)


def _words(warehouse: Warehouse, sessions: Sessions, suspects: Collection[int]) -> dict[int, SessionWord]:
    """What is known of the suspects and of so many sessions around them that a verdict may rest on."""
    rows = around(suspects, 2 * MOST_IN_A_ROW + 1, len(sessions))
    day, before, after = (
        sessions.session[np.clip(rows + step, 0, len(sessions) - 1)].astype(object).tolist() for step in (0, -1, 1)
    )
    with warehouse.conn as conn:
        words = session_words(conn, sessions.calendar, day, before, after)
    by_day = {word.day: word for word in words}
    nothing = SessionWord(date.min, 0, 0, traded=False, market=False)
    return {row: by_day.get(of, nothing) for row, of in zip(rows.tolist(), day, strict=True)}


def _silences(words: dict[int, SessionWord]) -> list[Silence]:
    quiet = {row: word for row, word in words.items() if not word.traded and (word.silent or word.market)}
    return [Silence(row, word.witnesses, word.market) for row, word in quiet.items()]


def _to_ask(words: dict[int, SessionWord], suspects: Collection[int]) -> list[int]:
    """Those of the suspects on which the market's word would settle it, the newest first."""
    silences = _silences(words)
    settled = taken_as_closed(silences)
    alone = short_runs({silence.row for silence in silences})
    return [row for row in reversed(alone) if row in suspects and row not in settled and not words[row].market]


def _tell_closed(calendar: str, day: date, word: SessionWord) -> None:
    logger.warning(
        f"{calendar} {day}: {_note(word)}, and by the calendar it is a session; taken as {UNCONFIRMED}, asked for now"
        f" and then. If it was closed: backfill calendar close {calendar} {day} --note why. If it was not:"
        f" backfill calendar reopen {calendar} {day}"
    )


def _note(word: SessionWord) -> str:
    return "nothing traded in the whole market" if word.market else f"none of {max(word.silent, FEWEST)} symbols traded"


def _each_wanting(warehouse: Warehouse, calendar: str, day: date, do: Callable[[Subject], None]) -> None:
    """For every symbol that wants the session, under its lock. One that another run is at is left to that run's end, or
    to the next.
    """
    with warehouse.conn as conn:
        concerned = wanting(conn, calendar, day)
    for instrument, base in concerned:
        if try_lock(warehouse.conn, instrument.symbol_id, base):
            try:
                do(warehouse.subject(instrument, chain_of(base)))
            finally:
                unlock(warehouse.conn, instrument.symbol_id, base)


def settle_closed(warehouse: Warehouse, subject: Subject, work: Work) -> None:
    """Statuses of the subject's sessions that are taken as closed, and what follows; its lock is held."""
    conn, base, symbol_id, sessions = warehouse.conn, subject.chain.base, subject.instrument.symbol_id, subject.sessions
    with conn:
        days = assumed_closed(conn, subject.instrument.calendar)
        if not days:
            return
        rows = begun_rows(warehouse, subject, days[0], days[-1])
        known = read_status(conn, symbol_id, base, days[0], days[-1])
        done = [day for day, status in known.items() if status.stored or UNCONFIRMED in status.explained]
        due = subject.route.due_at() <= to_micros(warehouse.now())
        new = np.setdiff1d(np.array(days, dtype="datetime64[D]"), np.array(done, dtype="datetime64[D]"))
        rows = rows[(np.isin(sessions.session, new) & is_listed(sessions, subject.instrument) & due)[rows]]
        if not len(rows):
            return
        write_status(conn, symbol_id, base, _statuses(subject, rows), warehouse.now())
        closed = sessions.session[rows].astype(object).tolist()
        close_gaps(conn, symbol_id, base, closed, warehouse.now())
    settle(warehouse, subject, closed, work)


def _statuses(subject: Subject, rows: Rows) -> list[SessionStatus]:
    """Nobody is named as asked: whether this symbol was, or another, is no difference."""
    expected = expected_per_session(subject.sessions, subject.chain.base)[rows].tolist()
    return [
        SessionStatus(_day(subject.sessions, row), count, 0, {UNCONFIRMED: count}, 0, {}, None)
        for row, count in zip(rows.tolist(), expected, strict=True)
    ]


def _day(sessions: Sessions, row: int) -> date:
    day: date = sessions.session[row].astype(object)
    return day


def _rows(sessions: Sessions, days: Sequence[date]) -> set[int]:
    return set(np.flatnonzero(np.isin(sessions.session, np.array(days, dtype="datetime64[D]"))).tolist())
