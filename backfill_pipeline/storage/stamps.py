"""The table `dagster_stamp`: this database's half of the mark that it shares with Dagster's, and the grains that
partitions were last brought in line with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.grain import Grain

_LOCK = 0x6261_636B_7374_6D70  # "backstmp"; advisory locks count per database


@dataclass(frozen=True)
class Stamp:
    """`text`: changes with every run."""

    text: str
    intraday_grain: Grain
    daily_grain: Grain


def read_stamp(conn: Connection) -> Stamp | None:
    """None: never stamped."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT stamp, intraday_grain, daily_grain FROM dagster_stamp")
        row = cursor.fetchone()
    return None if row is None else Stamp(*row)


def write_stamp(conn: Connection, stamp: Stamp, at: datetime) -> None:
    with conn, conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO dagster_stamp (stamp, intraday_grain, daily_grain, stamped_at) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (one_row) DO UPDATE SET stamp = excluded.stamp, intraday_grain = excluded.intraday_grain,"
            " daily_grain = excluded.daily_grain, stamped_at = excluded.stamped_at",
            (stamp.text, stamp.intraday_grain, stamp.daily_grain, at),
        )


@contextmanager
def stamp_lock(conn: Connection) -> Iterator[None]:
    """Nobody else stamps or compares meanwhile. A session lock: Dagster's database is written to under it as well."""
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        yield
    finally:
        if not conn.closed:  # else the server has freed it
            conn.rollback()
            with conn, conn.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
