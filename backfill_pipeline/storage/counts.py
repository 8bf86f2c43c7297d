"""What is stored of a symbol, counted by day: the figures that partitions are recorded with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL, Identifier

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime


@dataclass(frozen=True)
class DayCount:
    """Rows of one timeframe on one local day; bars also by segment, features as `regular`."""

    timeframe: Timeframe
    day: date
    segment: str
    rows: int
    first: datetime
    last: datetime
    provider: str


def count_days(
    conn: Connection, table: Literal["bars", "features"], instrument: Instrument, zone: str, window: Window
) -> list[DayCount]:
    """Rows of `table` whose bar starts in `window`, by timeframe, day in `zone` and segment."""
    features = table == "features"
    statement = SQL(
        "SELECT timeframe::text, (ts AT TIME ZONE %s)::date AS day, {}, count(*), min(ts), max(ts), {} FROM {}"
        " WHERE symbol_id = %s AND ts >= %s AND ts < %s AND timeframe = ANY(enum_range(NULL::timeframe))"
        " GROUP BY 1, 2, 3"
    ).format(
        SQL("'regular'" if features else "segment::text"),
        SQL("''" if features else "min(provider)"),
        Identifier(table),
    )
    with conn.cursor() as cursor:
        cursor.execute(statement, (zone, instrument.symbol_id, to_datetime(window.start), to_datetime(window.end)))
        return [DayCount(*row) for row in cursor.fetchall()]
