"""Symbols that stop trading, or begin later than thought: looked up when there is reason to, then left in peace."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np

from backfill_pipeline.domain.completeness import is_listed
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.names import LONG_SILENCE, is_doubtful
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.storage.lifetimes import (
    close_unlisted_gaps,
    ended,
    forget_relisted,
    known_sessions,
    market_trades,
)
from backfill_pipeline.storage.symbols import get_instruments, try_lock, unlock

from .fetching import Unit
from .identity import FRESH, look_up
from .open_sessions import begun_rows
from .warehouse import Subject, Warehouse
from .window import Work, settle

logger = logging.getLogger(__name__)

# An end that a provider told is asked about again each month for so long: it may have been a mistake.
_DOUBT_ENDS = timedelta(days=100)


def is_in_doubt(warehouse: Warehouse, unit: Unit, traded: Rows) -> bool:
    """Whether an answer, with what was known before, is reason to ask who the instrument is: too many sessions are
    absent, or trade goes on after so many; unless other symbols are as silent. `traded`: the sessions with bars.
    """
    subject, conn = unit.subject, warehouse.conn
    rows = unit.rows[subject.route.due_at()[unit.rows] <= to_micros(warehouse.now())]
    if not len(rows):
        return False
    days: list[date] = subject.sessions.session[rows].astype(object).tolist()
    with conn:
        before = known_sessions(conn, subject.instrument.symbol_id, days[0], LONG_SILENCE)
        present = np.concatenate([np.array([bars for _, bars in before], dtype=bool), np.isin(rows, traded)])
        if present.all():
            return False
        absent = [day for day, bars in zip([*(day for day, _ in before), *days], present, strict=True) if not bars]
        goes_on = len(present) > LONG_SILENCE and not present[:LONG_SILENCE].any() and bool(present[LONG_SILENCE])
        return (goes_on or is_doubtful(present)) and market_trades(
            conn, subject.instrument.symbol_id, absent[-LONG_SILENCE:]
        )


def look_up_absent(warehouse: Warehouse, instruments: Iterable[Instrument], work: Work) -> None:
    """Look up those of the instruments that are absent in their last 3 sessions, whoever answered for these, while
    others trade. No lock is held.
    """
    conn = warehouse.conn
    for instrument in dict.fromkeys(instruments):
        with conn:
            known = known_sessions(conn, instrument.symbol_id, date.max, LONG_SILENCE)
            absent = [day for day, bars in known if not bars]
            silent = len(absent) == LONG_SILENCE and market_trades(conn, instrument.symbol_id, absent)
        if silent:
            _look_up(warehouse, instrument, work, has_ended=True)


def look_up_ended(warehouse: Warehouse, work: Work) -> None:
    """Ask once a month, for some months, whether symbols are listed again whose end a provider told."""
    now = warehouse.now()
    with warehouse.conn as conn:
        found = get_instruments(conn, ended(conn, now - FRESH, (now - _DOUBT_ENDS).date()))
    for instrument in found.values():
        _look_up(warehouse, instrument, work, has_ended=False)


def _look_up(warehouse: Warehouse, instrument: Instrument, work: Work, *, has_ended: bool) -> None:
    provider = _provider(warehouse, instrument)
    if provider is None:
        return
    news = look_up(warehouse.conn, provider, instrument, warehouse.now(), has_ended=has_ended)
    for line in news:
        logger.warning(line)
    if news:
        relist(warehouse, instrument.symbol, work)


def _provider(warehouse: Warehouse, instrument: Instrument) -> Provider | None:
    """Who has the newest session."""
    for chain in CHAINS:
        subject = warehouse.subject(instrument, chain)
        with warehouse.conn:
            begun = begun_rows(warehouse, subject)
        if len(begun) and (place := int(subject.route.choose(warehouse.now())[begun[-1]])) >= 0:
            return subject.route.providers[place]
    return None


def relist(warehouse: Warehouse, symbol: str, work: Work) -> None:
    """Make the tables say what a changed lifetime explains, and no more. A chain that another run is at is left to that
    run's next answers and the next run.
    """
    conn = warehouse.conn
    with conn:
        instrument = get_instruments(conn, [symbol])[symbol]
    for chain in CHAINS:
        if not try_lock(conn, instrument.symbol_id, chain.base):
            continue
        try:
            subject = warehouse.subject(instrument, chain)
            with conn:
                begun = begun_rows(warehouse, subject)
            unlisted = begun[~is_listed(subject.sessions, instrument)[begun]]
            days = subject.sessions.session[unlisted].astype(object).tolist()
            keep_lifetime(warehouse, subject)
            settle(warehouse, subject, days, work)
        finally:
            unlock(conn, instrument.symbol_id, chain.base)


def keep_lifetime(warehouse: Warehouse, subject: Subject) -> None:
    """Gaps outside of the lifetime are none, and what it does not explain any more is open; the lock is held."""
    with warehouse.conn as conn:
        close_unlisted_gaps(conn, subject.instrument.symbol_id, subject.chain.base, warehouse.now())
        forget_relisted(conn, subject.instrument.symbol_id, subject.chain.base)
