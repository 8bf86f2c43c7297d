"""How complete each wanted session of each followed symbol is, as one small code a day: what pictures are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

# Codes; a day has the largest of its base timeframes.
NOT_WANTED, CLOSED, COMPLETE, NOT_DUE, MISSING = range(5)


@dataclass(frozen=True, eq=False)
class SessionStates:
    """`codes`: uint8, a row per symbol (alphabetical), a column per calendar day from `first` on."""

    symbols: tuple[str, ...]
    first: date
    codes: npt.NDArray[np.uint8]


def read_states(conn: Connection, first: date, last: date) -> SessionStates:
    """Of the followed symbols of which anything is wanted, the days `first` to `last`, both included."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT symbol, calendar FROM symbols AS y WHERE active"
            " AND EXISTS (SELECT FROM wanted AS w WHERE w.symbol_id = y.symbol_id) ORDER BY symbol"
        )
        calendars: dict[str, str] = dict(cursor.fetchall())
        cursor.execute(
            "SELECT calendar, session - %s FROM sessions WHERE session BETWEEN %s AND %s", (first, first, last)
        )
        is_session = {calendar: np.zeros((last - first).days + 1, dtype=bool) for calendar in calendars.values()}
        for calendar, day in cursor.fetchall():
            if calendar in is_session:
                is_session[calendar][day] = True
        cursor.execute(
            "SELECT y.symbol, w.session - %(first)s,"
            " max(CASE WHEN w.missing > 0 THEN 4 WHEN w.not_due > 0 THEN 3 ELSE 2 END)"
            " FROM wanted_sessions AS w JOIN symbols AS y USING (symbol_id)"
            " WHERE y.active AND w.session BETWEEN %(first)s AND %(last)s GROUP BY 1, 2",
            {"first": first, "last": last},
        )
        rows = cursor.fetchall()
    codes = np.full((len(calendars), (last - first).days + 1), NOT_WANTED, dtype=np.uint8)
    place = {symbol: i for i, symbol in enumerate(calendars)}
    for symbol, i in place.items():
        codes[i, ~is_session[calendars[symbol]]] = CLOSED
    for symbol, day, code in rows:
        codes[place[symbol], day] = code
    return SessionStates(tuple(calendars), first, codes)
