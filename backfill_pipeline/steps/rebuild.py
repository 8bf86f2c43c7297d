"""Which tasks derive bars and features anew from stored base bars. Nothing is asked, and nothing new becomes wanted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.storage.provenance import wanted_stretches
from backfill_pipeline.storage.symbols import get_instruments

from .task import Task
from .warehouse import Warehouse

_DAY = timedelta(days=1)


def rebuild_tasks(
    warehouse: Warehouse, symbols: Sequence[str], chains: Sequence[Chain], first: date | None, last: date | None
) -> list[Task]:
    """One task for each wanted stretch of the symbols' chains in [first, last] (None: from the first, to the last).

    A stretch ends where what is wanted does, so that running it adds nothing. Raises UnknownSymbolError.
    """
    with warehouse.conn:
        instruments = get_instruments(warehouse.conn, symbols)
    tasks = []
    for instrument in instruments.values():
        for chain in chains:
            for stretch in _stretches(warehouse, instrument, chain, first, last):
                periods = tuple(periods_between(*stretch, warehouse.grain(chain)))
                tasks.append(Task(instrument, chain, periods, stretch, ask=False))
    return tasks


def _stretches(
    warehouse: Warehouse, instrument: Instrument, chain: Chain, first: date | None, last: date | None
) -> list[tuple[date, date]]:
    """Wanted days, both ends included."""
    zone = ZoneInfo(warehouse.sessions(instrument.calendar).zone)
    today = warehouse.now().astimezone(zone).date()
    with warehouse.conn:
        wanted = wanted_stretches(warehouse.conn, instrument.symbol_id, chain.base)
    found = []
    for low, high in wanted:
        # A stretch is of whole days in the calendar's zone: its end is the midnight after the last.
        start = max(FIRST_DAY if low is None else _day(low, zone), first or FIRST_DAY)
        end = min(today if high is None else _day(high, zone) - _DAY, last or today, today)
        if start <= end:
            found.append((start, end))
    return found


def _day(at: datetime, zone: ZoneInfo) -> date:
    return at.astimezone(zone).date()
