"""The table `session_status` and the view `completeness`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.completeness import SessionStatus, Sums
from backfill_pipeline.domain.timeframe import Base


def write_status(
    conn: Connection, symbol_id: int, timeframe: Base, statuses: Sequence[SessionStatus], checked_at: datetime
) -> None:
    """Insert or update, in the open transaction; rows that say the same are left alone."""
    if not statuses:
        return
    rows = json.dumps([_as_json(status) for status in statuses])
    with conn.cursor() as cursor:
        # One parameter for all rows: a value each takes 2.5 times as long to send, and a fifth longer to store.
        cursor.execute(
            "INSERT INTO session_status AS t (symbol_id, timeframe, session, expected, stored, explained, missing,"
            " derived, provider, due_at, bars, price_sum, volume_sum, checked_at)"
            " SELECT %s, %s, r.*, %s FROM json_to_recordset(%s) AS r (session date, expected integer, stored integer,"
            " explained jsonb, missing integer, derived jsonb, provider text, due_at timestamptz, bars integer,"
            " price_sum float8, volume_sum float8)"
            " ON CONFLICT (symbol_id, timeframe, session) DO UPDATE SET expected = excluded.expected,"
            " stored = excluded.stored, explained = excluded.explained,"
            " missing = excluded.missing, derived = excluded.derived, provider = excluded.provider,"
            " due_at = excluded.due_at, bars = excluded.bars, price_sum = excluded.price_sum,"
            " volume_sum = excluded.volume_sum, checked_at = excluded.checked_at"
            " WHERE (t.expected, t.stored, t.explained, t.missing, t.derived, t.provider, t.due_at, t.bars,"
            " t.price_sum, t.volume_sum) IS DISTINCT FROM (excluded.expected, excluded.stored, excluded.explained,"
            " excluded.missing, excluded.derived, excluded.provider, excluded.due_at, excluded.bars,"
            " excluded.price_sum, excluded.volume_sum)",
            (symbol_id, timeframe, checked_at, rows),
        )


def _as_json(status: SessionStatus) -> dict[str, object]:
    row: dict[str, object] = {
        "session": status.session.isoformat(),
        "expected": status.expected,
        "stored": status.stored,
        "explained": status.explained,
        "missing": status.missing,
        "derived": status.derived,
        "provider": status.provider,
        "due_at": None if status.due_at is None else status.due_at.isoformat(),
    }
    if status.sums is not None:  # sums as text: JSON has no word for infinity
        prices, volume = str(status.sums.prices), str(status.sums.volume)
        row |= {"bars": status.sums.bars, "price_sum": prices, "volume_sum": volume}
    return row


def held_by_others(
    conn: Connection, symbol_id: int, timeframe: Base, provider: str, first: date, last: date
) -> dict[date, str]:
    """Sessions of [first, last] whose status rests on an answer of another than `provider`, and whose it is."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, provider FROM session_status WHERE symbol_id = %s AND timeframe = %s"
            " AND provider <> %s AND session BETWEEN %s AND %s",
            (symbol_id, timeframe, provider, first, last),
        )
        return dict(cursor.fetchall())


def read_status(
    conn: Connection, symbol_id: int, timeframe: Base, first: date, last: date
) -> dict[date, SessionStatus]:
    """What is known of the sessions of [first, last], both included."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session, expected, stored, explained, missing, derived, provider, due_at, bars,"
            " price_sum, volume_sum FROM session_status"
            " WHERE symbol_id = %s AND timeframe = %s AND session BETWEEN %s AND %s ORDER BY session",
            (symbol_id, timeframe, first, last),
        )
        rows = cursor.fetchall()
    return {row[0]: _status(*row) for row in rows}


def _status(*row: Any) -> SessionStatus:
    *counts, bars, prices, volume = row
    status = SessionStatus(*counts)
    return status if bars is None else replace(status, sums=Sums(bars, prices, volume))


def lacking_nothing(conn: Connection, symbol_id: int, timeframe: Base, first: date, last: date) -> list[date]:
    """The sessions of [first, last] that were looked at and lacked no bar, ascending."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT session FROM session_status WHERE symbol_id = %s AND timeframe = %s"
            " AND session BETWEEN %s AND %s AND missing = 0 ORDER BY session",
            (symbol_id, timeframe, first, last),
        )
        return [row[0] for row in cursor.fetchall()]


@dataclass(frozen=True)
class Completeness:
    """One row of the view `completeness`: bars of one symbol and timeframe. `complete_pct` None: nothing is due.
    `clipped`: why not all that is wanted is counted, such as `from 2024-11-20 (plan)`; None where all of it is.
    """

    symbol: str
    timeframe: str
    wanted_from: date
    wanted_to: date
    expected: int
    stored: int
    explained: int
    missing: int
    not_due: int
    complete_pct: float | None
    clipped: str | None = None


def read_completeness(conn: Connection, symbols: Sequence[str] | None = None) -> list[Completeness]:
    """The view's rows, of all symbols or of `symbols`, ordered by symbol and timeframe."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT symbol, timeframe::text, wanted_from, wanted_to, expected, stored, explained, missing, not_due,"
            " complete_pct::float8, (SELECT string_agg(DISTINCT v.reason, '; ') FROM served AS v JOIN symbols AS y"
            "   USING (symbol_id) WHERE y.symbol = c.symbol AND v.timeframe = b.base AND NOT coalesce("
            "   (SELECT range_agg(w.time_window) FROM wanted AS w"
            "    WHERE w.symbol_id = y.symbol_id AND w.timeframe = b.base)"
            "   <@ (SELECT range_agg(o.time_window) FROM served AS o"
            "       WHERE o.symbol_id = y.symbol_id AND o.timeframe = b.base), true))"
            " FROM completeness AS c CROSS JOIN LATERAL"
            "   (SELECT CASE WHEN c.timeframe IN ('1d', '1w') THEN '1d'::timeframe ELSE '1m' END AS base) AS b"
            " WHERE %(all)s OR symbol = ANY(%(symbols)s) ORDER BY symbol, c.timeframe",
            {"all": symbols is None, "symbols": list(symbols or ())},
        )
        return [Completeness(*row) for row in cursor.fetchall()]
