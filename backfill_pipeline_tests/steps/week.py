"""An ordinary week in May 2024, and what the tables say of it."""

from __future__ import annotations

from datetime import UTC, date, datetime

from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps.warehouses import query

MON, TUE, WED, THU, FRI = (date(2024, 5, day) for day in range(6, 11))
NEXT_MON, NEXT_TUE = date(2024, 5, 13), date(2024, 5, 14)
TRADED = (MON, TUE, WED, THU, FRI, NEXT_MON, NEXT_TUE)
LATER = datetime(2024, 6, 20, tzinfo=UTC)


def statuses(warehouse: Warehouse, base: str = "1m") -> dict[date, tuple[object, ...]]:
    rows = query(
        warehouse,
        "SELECT session, expected, stored, explained, missing, due_at FROM session_status WHERE timeframe = %s",
        base,
    )
    return {row[0]: row[1:] for row in rows}  # type: ignore[misc]  # the first column is a date


def valid_until(warehouse: Warehouse) -> list[tuple[date, str]]:
    """Per coverage row of minutes, the New York day that it starts on, and its end of validity as text."""
    return query(  # type: ignore[return-value]  # rows of a query
        warehouse,
        "SELECT (lower(time_window) AT TIME ZONE 'America/New_York')::date, valid_until::text FROM coverage"
        " WHERE timeframe = '1m' ORDER BY fetched_at, time_window",
    )


def final(warehouse: Warehouse, timeframe: str = "1m") -> dict[date, bool]:
    rows = query(
        warehouse,
        "SELECT session, bool_and(final), bool_or(final) FROM bars WHERE timeframe = %s GROUP BY session",
        timeframe,
    )
    assert all(every == any_ for _, every, any_ in rows)
    return {row[0]: row[1] for row in rows}  # type: ignore[misc]  # a date and a bool
