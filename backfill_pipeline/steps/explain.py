"""Where a bar came from, or why there is none: everything that is stored around one instant of one symbol.

Reads only, and asks nobody. The words are in explain_reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np

from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.places import Nowhere, Place, place_of
from backfill_pipeline.domain.sessions import FIRST_DAY, Sessions
from backfill_pipeline.domain.timeframe import Base, Timeframe, chain_of, parse_timeframe
from backfill_pipeline.domain.windows import MINUTE, Window, to_datetime, to_micros
from backfill_pipeline.storage.coverage import wanted_sessions
from backfill_pipeline.storage.gaps import StoredGap, open_gaps
from backfill_pipeline.storage.names import tickers
from backfill_pipeline.storage.overrides import closed_days
from backfill_pipeline.storage.provenance import (
    Answered,
    Listed,
    Parts,
    Refused,
    Revised,
    StoredBar,
    answers_about,
    bar_at,
    parts_in,
    refused_in,
    revisions_in,
    wanted_stretches,
)
from backfill_pipeline.storage.status import read_status
from backfill_pipeline.storage.symbols import get_instruments

from .requests import RequestError
from .warehouse import Subject, Warehouse

# Refused rows so near to a bar of minutes are shown with it.
_NEAR = 15 * MINUTE


@dataclass(frozen=True)
class Asked:
    """An instant of a symbol's timeframe. `zone`: the calendar's, in which a time without an offset was read."""

    instrument: Instrument
    timeframe: Timeframe
    at: datetime
    zone: str


@dataclass(frozen=True)
class Evidence:
    """What is stored around the bar. `parts`: base bars in it, of which `expected` were (None: no number is);
    `wanted`: session dates of it that are wanted and served; `is_wanted`: served or not; `due`: of its last session;
    `names`: ticker by provider.
    """

    bar: StoredBar | None
    base: Base
    parts: Parts
    expected: int | None
    is_wanted: bool
    wanted: tuple[date, ...]
    served: str
    due: datetime
    statuses: Mapping[date, SessionStatus]
    answers: Listed[Answered]
    revisions: Listed[Revised]
    refused: Listed[Refused]
    gaps: tuple[StoredGap, ...]
    names: Mapping[str, str | None] = field(default_factory=dict)


def parse_asked(warehouse: Warehouse, symbol: str, time: str, timeframe: str | None) -> Asked:
    """Check and normalise. `time`: in the zone of the symbol's calendar unless it has an offset; a date alone is
    midnight, and without a timeframe means the day's bar. Raises RequestError, UnknownSymbolError.
    """
    with warehouse.conn:
        instrument = get_instruments(warehouse.conn, [symbol])[symbol]
    sessions = warehouse.sessions(instrument.calendar)
    try:
        chosen = parse_timeframe(timeframe or ("1d" if len(time) <= len("2026-08-05") else "1m"))
    except ValueError as error:
        raise RequestError(str(error)) from None
    at = _instant(time, sessions.zone)
    last = sessions.session[-1].astype(object)
    if not FIRST_DAY < at.date() < last:
        raise RequestError(f"time {time!r} is not between {FIRST_DAY} and {last}, the days of {sessions.calendar}")
    return Asked(instrument, chosen, at, sessions.zone)


def _instant(time: str, zone: str) -> datetime:
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        raise RequestError(f"time {time!r} is not known; write it as 2026-08-05 10:31, or with an offset") from None
    return at.replace(tzinfo=ZoneInfo(zone)) if at.tzinfo is None else at


def find_place(warehouse: Warehouse, asked: Asked) -> Place | Nowhere:
    """The bar's interval, or why there can be none; a day that was closed by hand says so."""
    sessions = warehouse.sessions(asked.instrument.calendar)
    place = place_of(to_micros(asked.at), sessions, asked.timeframe)
    if isinstance(place, Place) or place.session:
        return place
    with warehouse.conn:
        note = closed_days(warehouse.conn, sessions.calendar).get(place.day)
    return place if note is None else Nowhere(place.day, session=False, why=f"{place.day} was closed by hand: {note}")


def gather(warehouse: Warehouse, asked: Asked, place: Place) -> Evidence:
    """Read what is stored around the bar; one transaction."""
    conn, instrument, timeframe = warehouse.conn, asked.instrument, asked.timeframe
    chain, window = chain_of(timeframe), place.window
    subject, base, symbol_id = warehouse.subject(instrument, chain), chain.base, instrument.symbol_id
    near = Window(window.start - _NEAR, window.end + _NEAR) if base == "1m" else window
    with conn:
        bar = bar_at(conn, symbol_id, timeframe, window.start)
        names = [p.name for p in subject.route.providers]
        names += [bar.provider] if bar is not None and bar.provider not in names else []
        return Evidence(
            bar=bar,
            base=base,
            parts=parts_in(conn, symbol_id, base, window),
            expected=_expected(subject.sessions, timeframe, place),
            is_wanted=_is_wanted(warehouse, symbol_id, base, window),
            wanted=tuple(wanted_sessions(conn, instrument, base, subject.sessions, place.first, place.last)),
            served=subject.route.reason,
            due=_due(subject, place),
            statuses=read_status(conn, symbol_id, base, place.first, place.last),
            answers=answers_about(conn, symbol_id, base, window),
            revisions=revisions_in(conn, symbol_id, base, window),
            refused=refused_in(conn, symbol_id, base, near),
            gaps=tuple(open_gaps(conn, symbol_id, base, window)),
            names={name: _ticker(warehouse, instrument, name, place.last) for name in names},
        )


def _expected(sessions: Sessions, timeframe: Timeframe, place: Place) -> int | None:
    """Base bars that the interval has when none is absent; None before and after the market, where none is expected."""
    if timeframe in ("1d", "1w"):
        rows = sessions.rows_between(place.first, place.last)
        return len(sessions.session[rows])
    minutes = -((place.window.start - place.window.end) // MINUTE)
    return minutes if place.segment == "regular" else None


def _is_wanted(warehouse: Warehouse, symbol_id: int, base: Base, window: Window) -> bool:
    """Whether any of `window` is."""
    start, end = to_datetime(window.start), to_datetime(window.end)
    stretches = wanted_stretches(warehouse.conn, symbol_id, base)
    return any((low is None or low < end) and (high is None or high > start) for low, high in stretches)


def _due(subject: Subject, place: Place) -> datetime:
    row = int(np.searchsorted(subject.sessions.session, np.datetime64(place.last, "D")))
    return to_datetime(int(subject.route.due_at()[row]))


def _ticker(warehouse: Warehouse, instrument: Instrument, provider: str, day: date) -> str | None:
    """None: on that day the instrument had no ticker there."""
    called = tickers(warehouse.conn, instrument.symbol_id, provider, day, day, instrument.symbol)
    return called[0][0] if called else None
