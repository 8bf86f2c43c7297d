"""The tables `symbol_names` and `symbol_identities`, and what they change in `symbols`: who is called what, when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.names import ANY_PROVIDER, EVER, FOREVER, Name, NameBook, Piece


class NameTakenError(LookupError):
    """A ticker is another instrument's at the same provider on some of the days."""


_NAMES = "symbol_id, provider, ticker, valid_from, valid_to, by_hand"
_INSTRUMENTS = "symbol_id, symbol, asset_class::text, calendar, first_date, last_date"


def read_names(conn: Connection, symbol_id: int | None = None) -> list[Name]:
    """What is stated of an instrument (None: of all), by provider and day."""
    return _names(conn, "%s IS NULL OR symbol_id = %s", symbol_id, symbol_id)


def _names(conn: Connection, condition: str, *values: object) -> list[Name]:
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT {_NAMES} FROM symbol_names WHERE {condition} ORDER BY symbol_id, provider, valid_from",  # noqa: S608  (constants)
            values,
        )
        # psycopg2 reads -infinity as date.min, which is EVER.
        return [Name(i, p, t, first, last or FOREVER, by_hand) for i, p, t, first, last, by_hand in cursor.fetchall()]


def write_names(conn: Connection, symbol_id: int, provider: str, names: Sequence[Name]) -> bool:
    """Make `names` all that is stated of the instrument at the provider, in the open transaction. True if that is news.

    Raises NameTakenError.
    """
    with conn.cursor() as cursor:
        # Written a few times a month. What is checked below must still be so at the commit.
        cursor.execute("LOCK TABLE symbol_names IN SHARE ROW EXCLUSIVE MODE")
        if _names(conn, "symbol_id = %s AND provider = %s", symbol_id, provider) == list(names):
            return False
        for name in names:
            _refuse_taken(conn, name)
        cursor.execute("DELETE FROM symbol_names WHERE symbol_id = %s AND provider = %s", (symbol_id, provider))
        rows = [(n.symbol_id, n.provider, n.ticker, *_ends(n), n.by_hand) for n in names]
        execute_values(cursor, f"INSERT INTO symbol_names ({_NAMES}) VALUES %s", rows)  # noqa: S608  (a constant)
    return True


def _ends(name: Name) -> tuple[date | str, date | None]:
    return "-infinity" if name.first == EVER else name.first, None if name.last == FOREVER else name.last


def _refuse_taken(conn: Connection, name: Name) -> None:
    for symbol, other in other_holders(conn, name.symbol_id, name.ticker):
        if other.provider == name.provider and other.first <= name.last and name.first <= other.last:
            raise NameTakenError(f"{name.ticker} is {symbol}'s ticker {describe(other)}")


def describe(name: Name) -> str:
    """Where and when, for people: `from 2012-05-18 to 2022-06-08 at polygon`."""
    first = "" if name.first == EVER else f"from {name.first} "
    last = "until now" if name.last == FOREVER else f"to {name.last}"
    return f"{first}{last}" + ("" if name.provider == ANY_PROVIDER else f" at {name.provider}")


def other_holders(conn: Connection, symbol_id: int | None, ticker: str) -> list[tuple[str, Name]]:
    """Of which other instruments the ticker is stated, with their symbols; of any provider."""
    names = _names(conn, "ticker = %s AND symbol_id IS DISTINCT FROM %s", ticker, symbol_id)
    with conn.cursor() as cursor:
        cursor.execute("SELECT symbol_id, symbol FROM symbols")
        symbols = dict(cursor.fetchall())
    return [(symbols[name.symbol_id], name) for name in names]


def tickers(conn: Connection, symbol_id: int, provider: str, first: date, last: date, symbol: str) -> list[Piece]:
    """What the provider calls the instrument: (ticker, first day, last day), ascending, both days included.

    Together they are [first, last] less the days outside of the instrument's known lifetime, and those on which nothing
    is stated of it and `symbol` is stated to be another instrument's ticker.
    """
    related = _names(
        conn,
        "symbol_id = %s OR symbol_id IN (SELECT symbol_id FROM symbol_names WHERE ticker IN"
        " (SELECT %s UNION SELECT ticker FROM symbol_names WHERE symbol_id = %s))",
        symbol_id,
        symbol,
        symbol_id,
    )
    instruments = _instruments(conn, sorted({symbol_id, *(name.symbol_id for name in related)}))
    return NameBook(instruments, related, provider).tickers(symbol_id, first, last)


def resolver(conn: Connection, provider: str) -> Callable[[str, date], int | None]:
    """Whose a ticker is at the provider on a day: the symbol_id, or None. What is stated now; nothing is read later."""
    return NameBook(_instruments(conn, None), read_names(conn), provider).resolve


def _instruments(conn: Connection, symbol_ids: Sequence[int] | None) -> list[Instrument]:
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT {_INSTRUMENTS} FROM symbols WHERE %(ids)s IS NULL OR symbol_id = ANY(%(ids)s)",  # noqa: S608
            {"ids": symbol_ids},
        )
        return [Instrument(*row) for row in cursor.fetchall()]


def read_identity(conn: Connection, symbol_id: int, provider: str) -> tuple[str | None, datetime] | None:
    """The provider's own id of the instrument (None: unknown) and when it was last asked; None: never."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT instrument_id, looked_up_at FROM symbol_identities WHERE symbol_id = %s AND provider = %s",
            (symbol_id, provider),
        )
        return cursor.fetchone()


def write_identity(conn: Connection, symbol_id: int, provider: str, instrument_id: str | None, now: datetime) -> None:
    """Note that the provider was asked; an id that is known stays."""
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO symbol_identities AS i (symbol_id, provider, instrument_id, looked_up_at)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (symbol_id, provider) DO UPDATE SET looked_up_at ="
            " excluded.looked_up_at, instrument_id = coalesce(i.instrument_id, excluded.instrument_id)",
            (symbol_id, provider, instrument_id, now),
        )


def read_lifetime(conn: Connection, symbol_id: int) -> tuple[date | None, date | None, str | None]:
    """First date, last date, and who said so."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT first_date, last_date, lifetime_source FROM symbols WHERE symbol_id = %s", (symbol_id,))
        found: tuple[date | None, date | None, str | None] = cursor.fetchall()[0]
    return found


def write_lifetime(conn: Connection, symbol_id: int, first: date | None, last: date | None, source: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE symbols SET first_date = %s, last_date = %s, lifetime_source = %s WHERE symbol_id = %s",
            (first, last, source, symbol_id),
        )


def last_session(conn: Connection, symbol_id: int) -> date | None:
    """The newest session with a stored base bar."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT max(session) FROM (SELECT (SELECT session FROM bars WHERE symbol_id = %s AND timeframe = base"
            " ORDER BY ts DESC LIMIT 1) FROM unnest('{1m,1d}'::timeframe[]) AS base) AS newest",
            (symbol_id,),
        )
        newest: date | None = cursor.fetchall()[0][0]
    return newest


def rename_symbol(conn: Connection, symbol_id: int, symbol: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute("UPDATE symbols SET symbol = %s WHERE symbol_id = %s", (symbol, symbol_id))
