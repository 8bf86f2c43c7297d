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
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.symbols import add_symbol, get_instruments

from .requests import RequestError, parse_date
from .warehouse import Warehouse

_MONTHS = {"m": 1, "y": 12}
_DAYS = {"d": 1, "w": 7}


@dataclass(frozen=True)
class Registration:
    """`bases`: whose chains the symbols become partitions of. `since`: keep complete from that day on; None: only
    what runs ask for.
    """

    symbols: tuple[str, ...]
    asset_class: AssetClass | None
    calendar: str | None
    bases: tuple[Base, ...]
    since: date | None

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
    return Registration(names, classes[0] if classes else None, book, bases, _since(since, today))


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
    """Put the symbols into the registry and want what is to be kept; the names that are new. Commits."""
    new = []
    for symbol in registration.symbols:
        asset_class = registration.asset_class or ("crypto" if symbol.startswith("X:") else "stock")
        calendar = registration.calendar or default_calendar(symbol, asset_class)
        lifetime = _lifetime(warehouse, symbol)
        with warehouse.conn:
            if add_symbol(
                warehouse.conn,
                symbol,
                asset_class,
                calendar,
                first_date=lifetime.first if lifetime else None,
                last_date=lifetime.last if lifetime else None,
                lifetime_source=warehouse.provider.name if lifetime else None,
            ):
                new.append(symbol)
            instrument = get_instruments(warehouse.conn, [symbol])[symbol]
        if registration.since is not None:
            start = warehouse.sessions(instrument.calendar).days_window(registration.since, registration.since).start
            with warehouse.conn:
                for base in registration.bases:
                    want(warehouse.conn, instrument.symbol_id, base, None, start)
    return new


def _lifetime(warehouse: Warehouse, symbol: str) -> Lifetime | None:
    """What the provider knows of it. A symbol is registered whatever the provider says; a run tells its troubles."""
    try:
        return warehouse.provider.lifetime(symbol)
    except ProviderError:
        return None
