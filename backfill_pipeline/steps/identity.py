"""Who an instrument is at a provider: since when it is listed, what it was called, whether its ticker is still its."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.names import EVER, FOREVER, cut, names_of_changes
from backfill_pipeline.providers.base import Lifetime, NamingProvider, Provider
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.storage.names import (
    NameTakenError,
    describe,
    last_session,
    other_holders,
    read_identity,
    read_lifetime,
    read_names,
    tickers,
    write_identity,
    write_lifetime,
    write_names,
)

from .requests import RequestError

# Instruments change rarely, and a look costs up to two requests. One that traded since and is silent now is a new
# question; a symbol that trades only now and then asks it no more than weekly.
FRESH, _NEW_QUESTION = timedelta(days=30), timedelta(days=7)
# Who says since when a ticker is free that another instrument had before.
OF_NAMES = "symbol_names"
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class _Look:
    """What a provider said of an instrument and of the ticker it is known by there."""

    instrument: Instrument
    provider: str
    ticker: str
    known_id: str | None
    found: Lifetime | None
    changes: tuple[tuple[date, str], ...]
    today: date

    @property
    def is_reused(self) -> bool:
        """Whether the ticker is another instrument's now."""
        told = self.found.instrument_id if self.found is not None else None
        return told is not None and self.known_id is not None and told != self.known_id


def look_up(
    conn: Connection, provider: Provider, instrument: Instrument, now: datetime, *, has_ended: bool = False
) -> list[str]:
    """Ask the provider who the instrument is and keep it: lifetime, names, the provider's id of it. Commits.

    One line for people for each thing that is news; where there is any, an answer fetched before is to be asked for
    anew, with the instrument read anew. Costs at most two requests, once a month and symbol; so it is for answers that
    `domain.names.is_doubtful` finds reason in, not for every symbol. A provider that cannot be asked changes nothing,
    and is asked again at the next doubt. `has_ended`: it is silent now, which is news if it traded after the last look.
    """
    with conn:
        known = read_identity(conn, instrument.symbol_id, provider.name)
        pieces = tickers(conn, instrument.symbol_id, provider.name, EVER, now.date(), instrument.symbol)
        newest = last_session(conn, instrument.symbol_id) if has_ended else None
    if known is not None and now - known[1] < FRESH:
        is_new = newest is not None and newest > known[1].date() and now - known[1] >= _NEW_QUESTION
        if not is_new:
            return []
    ticker = pieces[-1][0] if pieces else instrument.symbol
    known_id = known[0] if known is not None else None
    changes: tuple[tuple[date, str], ...] = ()
    try:
        found = provider.lifetime(ticker)
        instrument_id = known_id or (found.instrument_id if found is not None else None)
        if instrument_id is not None and isinstance(provider, NamingProvider):
            changes = provider.ticker_changes(instrument_id)
    except ProviderError:
        return []
    look = _Look(instrument, provider.name, ticker, known_id, found, changes, now.date())
    with conn:
        write_identity(conn, instrument.symbol_id, provider.name, instrument_id, now)
        return _learn(conn, look)


def _learn(conn: Connection, look: _Look) -> list[str]:
    """Keep what was said, in the open transaction; what is news of it."""
    goes_on = bool(look.changes) and max(look.changes)[1] != look.ticker
    if look.is_reused and not goes_on:
        return _learn_end(conn, look)
    lines = [] if look.is_reused else _learn_lifetime(conn, look)
    # A single name that is the one in use says nothing that is not so without it.
    return lines + (_learn_names(conn, look) if goes_on or len(look.changes) > 1 else [])


def _learn_lifetime(conn: Connection, look: _Look) -> list[str]:
    if look.found is None:
        return []
    of, at = look.instrument, look.provider
    old_first, old_last, source = read_lifetime(conn, of.symbol_id)
    known = [day for day in (look.found.first or old_first, free_since(conn, of.symbol_id, of.symbol)) if day]
    first = max(known) if known else None
    last = look.found.last if look.found.last is not None or source in (None, at) else old_last
    if (first, last) == (old_first, old_last):
        return []
    if first is not None and last is not None and first > last:
        return [f"{of.symbol}: {at} lists it from {first} to {last}, which cannot be; its lifetime stays as it is"]
    write_lifetime(conn, of.symbol_id, first, last, at)
    return [f"{of.symbol}: listed from {first or 'an unknown day'} to {last or 'now'} ({at})"]


def _learn_names(conn: Connection, look: _Look) -> list[str]:
    """What a person stated of this provider stays."""
    symbol_id, symbol, at = look.instrument.symbol_id, look.instrument.symbol, look.provider
    changes = look.changes
    if look.ticker not in {ticker for _, ticker in changes}:
        # Only what came later is told: until then it was called what it is known by.
        changes = ((EVER, look.ticker), *changes)
    told = names_of_changes(symbol_id, at, changes, read_lifetime(conn, symbol_id)[0])
    stated = [name for name in read_names(conn, symbol_id) if name.provider == at and name.by_hand]
    names = sorted([*stated, *cut(told, [name.days for name in stated])], key=lambda name: name.first)
    try:
        if not write_names(conn, symbol_id, at, names):
            return []
    except NameTakenError as error:
        called = ", ".join(name.ticker for name in told)
        return [f"{symbol}: {at} called it {called}, but {error}; is one of the two too many?"]
    lines = [f"{symbol}: {at} called it {name.ticker} until {name.last}" for name in told if name.last != FOREVER]
    newest = told[-1]
    if newest.ticker != look.ticker:
        lines.append(
            f"{symbol}: {at} calls it {newest.ticker} since {newest.first};"
            f" to follow suit: backfill symbols rename {symbol} {newest.ticker} --on {newest.first}"
        )
    return lines


def _learn_end(conn: Connection, look: _Look) -> list[str]:
    """The ticker is another instrument's now, and ours has no other: it has ended."""
    assert look.found is not None
    symbol_id, symbol, at = look.instrument.symbol_id, look.instrument.symbol, look.provider
    first, last, _ = read_lifetime(conn, symbol_id)
    if last is not None and last < look.today:
        return []
    told = look.found.first
    if told is not None and (first is None or told > first):
        end = told - _DAY
    else:  # it may have had another ticker before: its own listing says nothing about ours
        end = last_session(conn, symbol_id) or look.today - _DAY
    end = max(end, first or end)
    write_lifetime(conn, symbol_id, first, end, at)
    own = [name for name in read_names(conn, symbol_id) if name.provider == at]
    closed = [name for n in own for name in ([n] if n.by_hand else cut([n], [(end + _DAY, FOREVER)]))]
    write_names(conn, symbol_id, at, closed)
    line = (
        f"{symbol}: {look.ticker} is another instrument at {at} now ({look.found.instrument_id}, not {look.known_id});"
        f" {symbol} ends on {end} and nothing more is asked for it. To follow the new one:"
        f" backfill symbols rename {symbol} {symbol}.OLD --on {end + _DAY}, then backfill symbols add {symbol}"
    )
    return [line]


def free_since(conn: Connection, symbol_id: int | None, ticker: str) -> date | None:
    """The day after other instruments were last called `ticker`, wherever; None where none ever was. `symbol_id` None:
    of no instrument yet.
    """
    last = [name.last for _, name in other_holders(conn, symbol_id, ticker) if name.last != FOREVER]
    return max(last) + _DAY if last else None


def refuse_taken(conn: Connection, symbol: str) -> None:
    """RequestError if another instrument is called `symbol` now."""
    for other, name in other_holders(conn, None, symbol):
        if name.last == FOREVER:
            raise RequestError(
                f"{symbol} is what {other} is called {describe(name)}: it is followed already; use {other}"
            )
