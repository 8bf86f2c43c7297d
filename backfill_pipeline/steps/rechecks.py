"""Asking again, once in a while, about days that were taken as closed: for one symbol, or the market's day."""

from __future__ import annotations

from datetime import date

import numpy as np

from backfill_pipeline.domain.closures import next_recheck
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base, chain_of
from backfill_pipeline.providers.base import MarketProvider, Request
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.storage.closures import count_recheck, due_rechecks, note_trade, wanting

from .closures import judge_silence, market_traded
from .fetching import days_window
from .warehouse import Subject, Warehouse
from .window import Work


def recheck_closures(warehouse: Warehouse, work: Work) -> None:
    """Ask about each day taken as closed whose time has come, one request a day. Where something traded the assumption
    is dropped, and the session is open for every symbol. A provider that cannot be asked is asked the next night.
    """
    conn = warehouse.conn
    with conn:
        due = due_rechecks(conn, warehouse.now())
    for calendar, day, attempts in due:
        with conn:
            candidates = wanting(conn, calendar, day)
        traded = _traded(warehouse, candidates, day, work)
        if traded is None:
            continue
        with conn:
            count_recheck(conn, calendar, day, next_recheck(attempts + 1, warehouse.now()))
        sessions = warehouse.sessions(calendar)
        judge_silence(warehouse, sessions, [sessions.rows_between(day, day).start], work)


def _traded(warehouse: Warehouse, candidates: list[tuple[Instrument, Base]], day: date, work: Work) -> bool | None:
    """Whether anything traded, by the market's day if any provider has it, else by the first of the candidates: one
    that was never asked, or the busiest. None: it could not be asked.
    """
    for instrument, base in candidates:
        subject = warehouse.subject(instrument, chain_of(base))
        row = subject.sessions.rows_between(day, day).start
        place = int(subject.route.choose(warehouse.now(), {})[row])
        if place < 0:
            continue
        work.asked += 1
        provider = subject.route.providers[place]
        by_market = isinstance(provider, MarketProvider) and provider.page_rows("1d") is not None
        if isinstance(provider, MarketProvider) and by_market and provider.market(instrument, "1d") is not None:
            return market_traded(warehouse, provider, subject, day)
        return _symbol_traded(warehouse, subject, place, row)
    return None


def _symbol_traded(warehouse: Warehouse, subject: Subject, place: int, row: int) -> bool | None:
    sessions, now, provider = subject.sessions, warehouse.now(), subject.route.providers[place]
    window = days_window(subject, np.array([row]), now)
    request = Request(subject.instrument, subject.chain.base, window, sessions)
    try:
        traded = any(len(piece.bars.between(window.start, window.end)) for piece in provider.fetch(request, now))
    except ProviderError:
        return None
    if traded:
        day: date = sessions.session[row].astype(object)
        with warehouse.conn as conn:
            note_trade(conn, sessions.calendar, day, provider.name, now, traded=True)
    return traded
