"""The table `symbols`: the registry of what is followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import AssetClass, Instrument
from backfill_pipeline.domain.timeframe import Base


class UnknownSymbolError(LookupError):
    """Symbols that are not registered."""

    def __init__(self, symbols: Sequence[str]) -> None:
        names = ", ".join(symbols)
        several = "s" if len(symbols) > 1 else ""
        super().__init__(f"symbol{several} {names} not registered; add: backfill symbols add {' '.join(symbols)}")
        self.symbols = tuple(symbols)


@dataclass(frozen=True)
class Registered:
    """A registry row with the base timeframes it is wanted in."""

    instrument: Instrument
    active: bool
    priority: int
    bases: tuple[Base, ...]


# Classes of advisory locks; 3 and 4 are the calendars' and the markets'.
_LOCK: dict[Base, int] = {"1m": 1, "1d": 2}

_COLUMNS = "symbol_id, symbol, asset_class::text, calendar, first_date, last_date"


def add_symbol(
    conn: Connection,
    symbol: str,
    asset_class: AssetClass,
    calendar: str,
    *,
    first_date: date | None = None,
    last_date: date | None = None,
    lifetime_source: str | None = None,
) -> bool:
    """Register `symbol`, or make it active again; known facts of an existing row stay. True if it is new."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO symbols (symbol, asset_class, calendar, first_date, last_date, lifetime_source)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (symbol) DO NOTHING",
            (symbol, asset_class, calendar, first_date, last_date, lifetime_source),
        )
        if cursor.rowcount:
            return True
        cursor.execute("UPDATE symbols SET active = true WHERE symbol = %s AND NOT active", (symbol,))
    return False


def get_instruments(conn: Connection, symbols: Sequence[str]) -> dict[str, Instrument]:
    """The registered instruments, in the order asked. UnknownSymbolError names all that are not registered."""
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM symbols WHERE symbol = ANY(%s)", (list(symbols),))  # noqa: S608  (a constant)
        found = {row[1]: Instrument(*row) for row in cursor.fetchall()}
    unknown = [symbol for symbol in symbols if symbol not in found]
    if unknown:
        raise UnknownSymbolError(unknown)
    return {symbol: found[symbol] for symbol in symbols}


def set_priority(conn: Connection, symbol: str, priority: int) -> None:
    """Lower comes first; 100 is everybody's."""
    with conn.cursor() as cursor:
        cursor.execute("UPDATE symbols SET priority = %s WHERE symbol = %s", (priority, symbol))


def list_symbols(conn: Connection) -> list[Registered]:
    """Every registered symbol, by priority, then name."""
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS}, active, priority, ARRAY(SELECT DISTINCT timeframe::text FROM wanted AS w"  # noqa: S608
            "   WHERE w.symbol_id = s.symbol_id ORDER BY 1 DESC) FROM symbols AS s ORDER BY priority, symbol"
        )
        return [Registered(Instrument(*row[:6]), row[6], row[7], tuple(row[8])) for row in cursor.fetchall()]


def remove_symbol(conn: Connection, symbol: str, *, with_bars: bool) -> int:
    """Stop following `symbol`; with `with_bars` delete all that is stored of it. Rows deleted. UnknownSymbolError."""
    symbol_id = get_instruments(conn, [symbol])[symbol].symbol_id
    with conn.cursor() as cursor:
        if not with_bars:
            cursor.execute("UPDATE symbols SET active = false WHERE symbol_id = %s", (symbol_id,))
            return 0
        deleted = 0
        for table in ("bars", "features", "bar_revisions"):
            cursor.execute(f"DELETE FROM {table} WHERE symbol_id = %s", (symbol_id,))  # noqa: S608  (a constant)
            deleted += cursor.rowcount
        cursor.execute("DELETE FROM symbols WHERE symbol_id = %s", (symbol_id,))
    return deleted


def try_lock(conn: Connection, symbol_id: int, timeframe: Base) -> bool:
    """Take the lock of this symbol and chain if nobody else has it. Taken twice, it is to be freed twice."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK[timeframe], symbol_id))
        return bool(cursor.fetchall()[0][0])


def lock(conn: Connection, symbol_id: int, timeframe: Base) -> None:
    """Wait for the lock. To be called with no other lock held: two that wait for each other would wait for ever."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", (_LOCK[timeframe], symbol_id))


def unlock(conn: Connection, symbol_id: int, timeframe: Base) -> None:
    if not conn.closed:  # else the server has freed it, and the error under way says why
        conn.rollback()
        with conn, conn.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK[timeframe], symbol_id))


@contextmanager
def market_lock(conn: Connection, market: str) -> Iterator[None]:
    """Nobody else asks for this market's days meanwhile. To be taken with no other lock held."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(4, hashtext(%s))", (market,))
    try:
        yield
    finally:
        if not conn.closed:
            conn.rollback()
            with conn, conn.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(4, hashtext(%s))", (market,))


@contextmanager
def symbol_lock(conn: Connection, symbol_id: int, timeframe: Base) -> Iterator[None]:
    """Nobody else works on this symbol and chain meanwhile. The server frees it when the client dies.

    A session lock, not a transaction's: it spans the request to the provider, during which no transaction is open.
    """
    lock(conn, symbol_id, timeframe)
    try:
        yield
    finally:
        unlock(conn, symbol_id, timeframe)
