"""The tables `wanted`, `served` and `coverage`: what to have, what can be had, what was answered; and what to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import DateTimeTZRange, execute_values

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window, to_datetime, to_micros


@dataclass(frozen=True)
class Covered:
    """One answered stretch. `settled`: fetched after the settle delay. `valid_until` None: for ever."""

    window: Window
    rows_received: int
    rows_written: int
    settled: bool
    valid_until: datetime | None


def as_range(window: Window) -> DateTimeTZRange:
    return DateTimeTZRange(to_datetime(window.start), to_datetime(window.end))


def want(conn: Connection, symbol_id: int, timeframe: Base, stretch: Window | None, since: int | None = None) -> bool:
    """Add `stretch` (or everything from `since`, microseconds UTC, on) to what is wanted. True if that is news.

    Stretches are kept disjoint and joined, whatever the order they came in.
    """
    if stretch is None:
        assert since is not None
        addition = DateTimeTZRange(to_datetime(since), None)
    else:
        addition = as_range(stretch)
    with conn.cursor() as cursor:
        # The symbol's row serialises concurrent additions: two runs may want neighbouring dates at once. NO KEY: either
        # may share the key already through a foreign key, and with plain FOR UPDATE each would wait for the other.
        cursor.execute("SELECT 1 FROM symbols WHERE symbol_id = %s FOR NO KEY UPDATE", (symbol_id,))
        cursor.execute(
            "SELECT 1 FROM wanted WHERE symbol_id = %s AND timeframe = %s AND time_window @> %s::tstzrange",
            (symbol_id, timeframe, addition),
        )
        if cursor.fetchone():
            return False
        cursor.execute(
            "WITH old AS (DELETE FROM wanted WHERE symbol_id = %(id)s AND timeframe = %(tf)s RETURNING time_window)"
            " SELECT unnest(range_agg(r))"
            " FROM (SELECT time_window AS r FROM old UNION ALL SELECT %(new)s::tstzrange) AS a",
            {"id": symbol_id, "tf": timeframe, "new": addition},
        )
        rows = [(symbol_id, timeframe, row[0]) for row in cursor.fetchall()]
        execute_values(cursor, "INSERT INTO wanted (symbol_id, timeframe, time_window) VALUES %s", rows)
    return True


def kept_complete(conn: Connection) -> list[tuple[Instrument, Base]]:
    """Active instruments with the base timeframes that are wanted without an end, by priority and name."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT priority, symbol_id, symbol, asset_class::text, calendar, first_date, last_date,"
            " timeframe::text FROM symbols JOIN wanted USING (symbol_id) WHERE active AND upper_inf(time_window)"
            " ORDER BY priority, symbol, timeframe DESC"
        )
        return [(Instrument(*row[1:7]), row[7]) for row in cursor.fetchall()]


def record_served(
    conn: Connection, symbol_id: int, timeframe: Base, served: Sequence[tuple[str, Window | None, str]]
) -> None:
    """Remember what each provider can serve of a symbol: name, window (None: nothing), reason. Others are forgotten."""
    rows = [
        (symbol_id, timeframe, name, DateTimeTZRange(empty=True) if window is None else as_range(window), reason)
        for name, window, reason in served
    ]
    with conn.cursor() as cursor:
        cursor.execute(
            "DELETE FROM served WHERE symbol_id = %s AND timeframe = %s AND provider <> ALL(%s)",
            (symbol_id, timeframe, [row[2] for row in rows]),
        )
        execute_values(
            cursor,
            "INSERT INTO served (symbol_id, timeframe, provider, time_window, reason) VALUES %s"
            " ON CONFLICT (symbol_id, timeframe, provider) DO UPDATE SET"
            " time_window = excluded.time_window, reason = excluded.reason"
            " WHERE (served.time_window, served.reason) IS DISTINCT FROM (excluded.time_window, excluded.reason)",
            rows,
        )


def wanted_sessions(
    conn: Connection, instrument: Instrument, timeframe: Base, sessions: Sessions, first: date, last: date
) -> list[date]:
    """Sessions of [first, last] that are wanted and servable, begun or not, ascending. Lifetimes do not count."""
    rows = wanted_rows(conn, instrument, timeframe, sessions, sessions.rows_between(first, last))
    return [session.astype(object) for session in sessions.session[rows]]


def wanted_windows(conn: Connection, symbol_id: int, timeframe: Base) -> list[Window]:
    """What is wanted, servable or not; disjoint, joined and ascending. One without an end ends in 2096."""
    return _ranges(conn, _WANTED, symbol_id, timeframe)


def wanted_rows(
    conn: Connection, instrument: Instrument, timeframe: Base, sessions: Sessions, rows: slice
) -> npt.NDArray[np.int64]:
    """The same as places among the sessions, of those at `rows`."""
    both = _ranges(conn, _WANTED_AND_SERVED, *(instrument.symbol_id, timeframe) * 2)
    found: npt.NDArray[np.int64] = np.flatnonzero(_within(sessions.day_start[rows], both)) + rows.start
    return found


def valid_coverage(conn: Connection, symbol_id: int, timeframe: Base, now: datetime) -> list[Window]:
    """Stretches whose answer is still to be believed at `now`; disjoint, joined and ascending."""
    return _ranges(conn, _VALID, symbol_id, timeframe, now)


def undoubted_coverage(conn: Connection, symbol_id: int, timeframe: Base) -> list[Window]:
    """Stretches with an answer, however old, that nobody has declared worth nothing since; as `valid_coverage`."""
    return _ranges(conn, _UNDOUBTED, symbol_id, timeframe)


_UNDOUBTED = (
    "SELECT range_agg(time_window) FROM coverage WHERE symbol_id = %s AND timeframe = %s AND valid_until > fetched_at"
)
_WANTED = "SELECT range_agg(time_window) FROM wanted WHERE symbol_id = %s AND timeframe = %s"
_SERVED = "SELECT coalesce(range_agg(time_window), '{(,)}') FROM served WHERE symbol_id = %s AND timeframe = %s"
_WANTED_AND_SERVED = f"({_WANTED}) * ({_SERVED})"
_VALID = "SELECT range_agg(time_window) FROM coverage WHERE symbol_id = %s AND timeframe = %s AND valid_until > %s"

# Ends of ranges without one: 1906 and 2096, before and after every session.
_EVER, _FOREVER = -2_000_000_000_000_000, 4_000_000_000_000_000


def _ranges(conn: Connection, query: str, *parameters: object) -> list[Window]:
    """The stretches of a query for one multirange, ascending."""
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT lower(r), upper(r) FROM unnest(({query})) AS r", parameters)  # noqa: S608  (constants)
        return [
            Window(_EVER if low is None else to_micros(low), _FOREVER if high is None else to_micros(high))
            for low, high in cursor.fetchall()
        ]


def _within(points: npt.NDArray[np.int64], windows: Sequence[Window]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(points), dtype=bool)
    for window in windows:
        low, high = np.searchsorted(points, [window.start, window.end])
        inside[low:high] = True
    return inside


def record_coverage(
    conn: Connection, symbol_id: int, timeframe: Base, provider: str, covered: Sequence[Covered], fetched_at: datetime
) -> None:
    """Append what was answered, in the open transaction."""
    rows = [
        (
            symbol_id,
            timeframe,
            as_range(c.window),
            provider,
            c.rows_received,
            c.rows_written,
            c.settled,
            fetched_at,
            c.valid_until.isoformat() if c.valid_until is not None else "infinity",
        )
        for c in covered
    ]
    with conn.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO coverage (symbol_id, timeframe, time_window, provider, rows_received, rows_written, settled,"
            " fetched_at, valid_until) VALUES %s",
            rows,
        )


def answered_windows(conn: Connection, symbol_id: int, timeframe: Base, window: Window) -> list[Window]:
    """The parts of `window` that any answer, however old, vouches for; disjoint and ascending."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT lower(r), upper(r) FROM unnest((SELECT range_agg(time_window * %(window)s::tstzrange) FROM coverage"
            " WHERE symbol_id = %(id)s AND timeframe = %(tf)s AND time_window && %(window)s::tstzrange)) AS r",
            {"id": symbol_id, "tf": timeframe, "window": as_range(window)},
        )
        return [Window(to_micros(low), to_micros(high)) for low, high in cursor.fetchall()]
