"""Registering symbols: what they are, which bars are wanted of them, and since when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from backfill_pipeline.domain.instruments import ASSET_CLASSES, AssetClass, check_symbol, default_calendar
from backfill_pipeline.domain.sessions import FIRST_DAY, canonical_calendar
from backfill_pipeline.domain.timeframe import BASES, CHAINS, Base, Chain
from backfill_pipeline.providers.base import Lifetime
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.symbols import add_symbol, get_instruments, list_symbols, set_priority

from .identity import OF_NAMES, free_since, refuse_taken
from .requests import RequestError, parse_date
from .warehouse import Warehouse

_MONTHS = {"m": 1, "y": 12}
_DAYS = {"d": 1, "w": 7}


@dataclass(frozen=True)
class Registration:
    """`bases`: whose chains the symbols become partitions of. `since`: keep complete from that day on; None: only
    what runs ask for. `priority`: lower is asked for first; None: as it is, 100 for a new one.
    """

    symbols: tuple[str, ...]
    asset_class: AssetClass | None
    calendar: str | None
    bases: tuple[Base, ...]
    since: date | None
    priority: int | None = None

    @property
    def chains(self) -> tuple[Chain, ...]:
        return tuple(chain for chain in CHAINS if chain.base in self.bases)


def parse_registration(
    symbols: Sequence[object],
    *,
    asset_class: str | None,
    calendar: str | None,
    bars: Sequence[str],
    since: str | None,
    today: date,
    priority: int | None = None,
) -> Registration:
    """Check and normalise. `since`: a date, or a span before `today` such as 2y, 6m, 30d. Raises RequestError."""
    try:
        names = tuple(dict.fromkeys(check_symbol(symbol) for symbol in symbols))
        book = None if calendar is None else canonical_calendar(calendar)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if not names:
        raise RequestError("no symbols given")
    classes = [known for known in ASSET_CLASSES if known == asset_class]
    if asset_class is not None and not classes:
        raise RequestError(f"asset class {asset_class!r} is not known; use one of {' '.join(ASSET_CLASSES)}")
    wrong = [text for text in bars if text not in BASES]
    if wrong or not bars:
        raise RequestError(
            f"bars {','.join(bars)!r}: only 1m and 1d are asked of providers; the rest derives from them"
        )
    bases = tuple(base for base in BASES if base in bars)
    return Registration(names, classes[0] if classes else None, book, bases, _since(since, today), priority)


def _since(text: str | None, today: date) -> date | None:
    if text is None:
        return None
    span = re.fullmatch(r"(\d{1,4})([dwmy])", text)
    if span is None:
        day = parse_date("since", text)
    elif span[2] in _DAYS:
        day = today - timedelta(days=int(span[1]) * _DAYS[span[2]])
    else:
        day = _months_before(today, int(span[1]) * _MONTHS[span[2]])
    if day < FIRST_DAY:
        raise RequestError(f"since {text} is before {FIRST_DAY}, where calendars start; give a later date")
    if day > today:
        raise RequestError(f"since {day} is in the future; today is {today} (UTC)")
    return day


def _months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, last)
        except ValueError:
            continue
    raise RequestError(f"{months} months before {day} is no date")


def register(warehouse: Warehouse, registration: Registration) -> list[str]:
    """Put the symbols into the registry and want what is to be kept; the names that are new. Commits.

    A ticker that another instrument had before is this one's from the day after. RequestError if another has it now.
    """
    new = []
    with warehouse.conn:
        known = {registered.instrument.symbol for registered in list_symbols(warehouse.conn)}
        for symbol in (symbol for symbol in registration.symbols if symbol not in known):
            refuse_taken(warehouse.conn, symbol)  # before anything is registered
    for symbol in registration.symbols:
        asset_class = registration.asset_class or ("crypto" if symbol.startswith("X:") else "stock")
        calendar = registration.calendar or default_calendar(symbol, asset_class)
        lifetime, source = _lifetime(warehouse, symbol)
        with warehouse.conn:
            if add_symbol(
                warehouse.conn,
                symbol,
                asset_class,
                calendar,
                first_date=lifetime.first,
                last_date=lifetime.last,
                lifetime_source=source,
            ):
                new.append(symbol)
            if registration.priority is not None:
                set_priority(warehouse.conn, symbol, registration.priority)
            instrument = get_instruments(warehouse.conn, [symbol])[symbol]
        if registration.since is not None:
            start = warehouse.sessions(instrument.calendar).days_window(registration.since, registration.since).start
            with warehouse.conn:
                for base in registration.bases:
                    want(warehouse.conn, instrument.symbol_id, base, None, start)
    return new


def _lifetime(warehouse: Warehouse, symbol: str) -> tuple[Lifetime, str | None]:
    """What is known of it without a request, and by whom: 100 symbols would wait 20 minutes for 5 requests a minute.

    Providers that are asked over the network are, once a run has reason to: see `identity.look_up`.
    """
    found, source = Lifetime(None, None), None
    for provider in warehouse.router.providers:
        told = provider.lifetime(symbol) if provider.page_rows("1d") is None and source is None else None
        found, source = (found, source) if told is None else (told, provider.name)
    with warehouse.conn:
        free = free_since(warehouse.conn, None, symbol)
    if free is not None and (found.first is None or found.first < free):
        return Lifetime(free, None), OF_NAMES
    return found, source


def followed_symbols(warehouse: Warehouse) -> list[str]:
    """Every symbol that is followed, by priority. Raises RequestError where there is none."""
    with warehouse.conn:
        names = [registered.instrument.symbol for registered in list_symbols(warehouse.conn) if registered.active]
    if not names:
        raise RequestError("no symbols are registered; add some: backfill symbols add AAPL")
    return names
