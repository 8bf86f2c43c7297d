"""The tables `splits`, `dividends` and `features_stale` as readers and feature steps need them. Writing events:
storage/event_rows.py.
"""

from __future__ import annotations

from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.adjust import Dividend, Split
from backfill_pipeline.domain.timeframe import Base


def read_splits(conn: Connection, symbol_id: int) -> list[Split]:
    """The accepted splits by ex-date; the same split told by two providers once."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ex_date, split_to / split_from FROM splits WHERE symbol_id = %s AND accepted ORDER BY 1",
            (symbol_id,),
        )
        return [Split(ex_date, ratio) for ex_date, ratio in cursor.fetchall()]


def read_dividends(conn: Connection, symbol_id: int) -> list[Dividend]:
    """The accepted payments by ex-date; several on one day, as a regular and a special one, add up."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT ex_date, cash_amount, currency FROM (SELECT DISTINCT ex_date, cash_amount, currency,"
            " distribution_type FROM dividends WHERE symbol_id = %s AND accepted) AS told"
            " ORDER BY ex_date, distribution_type, cash_amount",
            (symbol_id,),
        )
        return [Dividend(*row) for row in cursor.fetchall()]


def stale_since(conn: Connection, symbol_id: int, base: Base) -> date | None:
    """The first session of the chain whose features were computed with other splits than are accepted now; None: there
    is none. Until the open transaction ends nobody else can mark, so that no mark is cleared unseen.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT since FROM features_stale WHERE symbol_id = %s AND timeframe = %s FOR UPDATE", (symbol_id, base)
        )
        row = cursor.fetchone()
    return row[0] if row else None


def mark_stale(conn: Connection, symbol_id: int, since: date) -> None:
    """Features of sessions from `since` on, in both chains, are to be computed anew; an earlier mark stays. In the open
    transaction.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO features_stale AS f (symbol_id, timeframe, since, marked_at)"
            " SELECT %s, base::timeframe, %s, now() FROM unnest(ARRAY['1m', '1d']) AS base"
            " ON CONFLICT (symbol_id, timeframe)"
            " DO UPDATE SET since = least(f.since, excluded.since), marked_at = now()",
            (symbol_id, since),
        )


def clear_stale(conn: Connection, symbol_id: int, base: Base) -> None:
    """The chain's features are computed anew; call it in their transaction."""
    with conn.cursor() as cursor:
        cursor.execute("DELETE FROM features_stale WHERE symbol_id = %s AND timeframe = %s", (symbol_id, base))
