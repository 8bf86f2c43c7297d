"""Nights at step level: symbols followed without an end, and what one night does about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import BASES, Base
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.nightly import nightly_tasks
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.coverage import want
from backfill_pipeline_tests.steps.warehouses import at, listed, query

STARTS = {"intraday": date(2020, 1, 1), "daily": date(2000, 1, 1)}


def follow(
    warehouse: Warehouse, symbols: Sequence[str], since: date, bases: Sequence[Base] = BASES
) -> list[Instrument]:
    """Registered, and wanted from `since` on."""
    found = []
    for symbol in symbols:
        instrument = listed(warehouse, symbol)
        start = warehouse.sessions(instrument.calendar).days_window(since, since).start
        with warehouse.conn:
            for base in bases:
                want(warehouse.conn, instrument.symbol_id, base, None, start)
        found.append(instrument)
    return found


def night(warehouse: Warehouse, now: datetime) -> list[PartitionOutcome]:
    """One night's work at `now`."""
    tonight = at(warehouse, now)
    return [outcome for _, outcome in run_tasks(tonight, nightly_tasks(tonight, STARTS), Work())]


def nights(warehouse: Warehouse, first: datetime, count: int) -> None:
    for number in range(count):
        night(warehouse, first + timedelta(days=number))


def words(warehouse: Warehouse, day: date, base: Base = "1m") -> dict[str, tuple[object, ...]]:
    """By symbol what is known of a session: stored, explained, missing."""
    rows = query(
        warehouse,
        "SELECT symbol, stored, explained, missing FROM session_status JOIN symbols USING (symbol_id)"
        " WHERE session = %s AND timeframe = %s ORDER BY symbol",
        day,
        base,
    )
    return {str(row[0]): row[1:] for row in rows}
