"""A person says what an instrument is called: from a day on everywhere, or at one provider for a time. Bars stay."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument, check_symbol
from backfill_pipeline.domain.names import ANY_PROVIDER, EVER, FOREVER, Name, cut, joined, renamed, renamed_anywhere
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.storage.names import NameTakenError, read_names, rename_symbol, write_names
from backfill_pipeline.storage.symbols import UnknownSymbolError, get_instruments

from .requests import RequestError, parse_date


@dataclass(frozen=True)
class Rename:
    """The same instrument is called `new`, not `old`, from `on` on; at one provider, or (`*`) wherever it is `old`."""

    old: str
    new: str
    on: date
    provider: str = ANY_PROVIDER


@dataclass(frozen=True)
class Alias:
    """`provider` calls the instrument `ticker` from `first` to `last`."""

    symbol: str
    provider: str
    ticker: str
    first: date = EVER
    last: date = FOREVER


def parse_rename(
    old: str, new: str, on: str, provider: str | None, *, providers: Collection[str], today: date
) -> Rename:
    """Check the arguments. `providers`: those in use. Raises RequestError."""
    _check(new)
    if old == new:
        raise RequestError(f"{old} is called so already; give another name")
    day = parse_date("on", on)
    if not FIRST_DAY <= day <= today:
        raise RequestError(f"on {day} is not between {FIRST_DAY}, where calendars start, and today, {today} (UTC)")
    return Rename(old, new, day, ANY_PROVIDER if provider is None else _known(provider, providers))


def parse_alias(
    symbol: str, provider: str, ticker: str, first: str | None, last: str | None, *, providers: Collection[str]
) -> Alias:
    """Check the arguments. Raises RequestError."""
    _check(ticker)
    start = EVER if first is None else parse_date("from", first)
    end = FOREVER if last is None else parse_date("to", last)
    if start > end:
        raise RequestError(f"from {start} is after to {end}; swap them")
    return Alias(symbol, _known(provider, providers), ticker, start, end)


def _check(name: str) -> None:
    try:
        check_symbol(name)
    except ValueError as error:
        raise RequestError(str(error)) from None


def _known(provider: str, providers: Collection[str]) -> str:
    if provider not in providers:
        raise RequestError(f"provider {provider!r} is not in use; use one of {', '.join(providers)}")
    return provider


def state_rename(conn: Connection, wish: Rename) -> None:
    """Do it, in the open transaction. Raises RequestError, UnknownSymbolError."""
    instrument = _registered(conn, wish.old)
    if wish.on <= (instrument.first_date or EVER):
        raise RequestError(
            f"on {wish.on} is not after {instrument.first_date}, the first day of {wish.old}; correct it"
        )
    _refuse_registered(conn, wish.new)
    symbol_id = instrument.symbol_id
    before = Name(symbol_id, wish.provider, wish.old, instrument.first_date or EVER, by_hand=True)
    after = Name(symbol_id, wish.provider, wish.new, wish.on, by_hand=True)
    stated: dict[str, list[Name]] = {wish.provider: []}
    for name in read_names(conn, symbol_id):
        stated.setdefault(name.provider, []).append(name)
    try:
        for provider, names in stated.items():
            if provider == wish.provider:
                write_names(conn, symbol_id, provider, renamed_anywhere(names, before, after))
            elif wish.provider == ANY_PROVIDER:
                write_names(conn, symbol_id, provider, renamed(names, wish.old, wish.new, wish.on))
    except NameTakenError as error:
        raise RequestError(f"{wish.old} is not renamed: {error}") from None
    rename_symbol(conn, symbol_id, wish.new)


def state_alias(conn: Connection, wish: Alias) -> None:
    """State it instead of whatever is stated of those days, in the open transaction. Raises as `state_rename` does."""
    symbol_id = _registered(conn, wish.symbol).symbol_id
    if wish.last == FOREVER and wish.ticker != wish.symbol:
        _refuse_registered(conn, wish.ticker)
    stated = [name for name in read_names(conn, symbol_id) if name.provider == wish.provider]
    name = Name(symbol_id, wish.provider, wish.ticker, wish.first, wish.last, by_hand=True)
    try:
        write_names(conn, symbol_id, wish.provider, joined([*cut(stated, [name.days]), name]))
    except NameTakenError as error:
        raise RequestError(f"{wish.symbol} is not called so: {error}") from None


def _registered(conn: Connection, symbol: str) -> Instrument:
    return get_instruments(conn, [symbol])[symbol]


def _refuse_registered(conn: Connection, symbol: str) -> None:
    try:
        _registered(conn, symbol)
    except UnknownSymbolError:
        return
    raise RequestError(f"{symbol} is registered already, as an instrument of its own; give another name, or remove it")
