"""Features that a new, changed or withdrawn split makes stale, computed anew from stored bars."""

from __future__ import annotations

from datetime import date, timedelta

from backfill_pipeline.domain.grain import day_after_chunk
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.events import clear_stale, stale_since

from .derive import derive_features
from .warehouse import Subject, Warehouse

# Months computed at a time: a year of minutes is 98,000 regular bars, 20 MB of features.
_CHUNK_MONTHS: dict[Base, int] = {"1m": 12, "1d": 1200}


def refresh_stale(warehouse: Warehouse, subject: Subject) -> int:
    """Compute the features of every timeframe of the subject's chain anew from its stale date on, and take the chain's
    mark away, in the open transaction and under the symbol's lock. Rows written; 0 where nothing is stale.
    """
    conn, symbol_id, base = warehouse.conn, subject.instrument.symbol_id, subject.chain.base
    since = stale_since(conn, symbol_id, base)
    if since is None:
        return 0
    # Features look back only, so what ends before the ex-date stays; its week ends after it.
    day, today = since - timedelta(days=since.weekday()), warehouse.now().date()
    written = 0
    while day <= today:
        after = day_after_chunk(day, _CHUNK_MONTHS[base])
        written += sum(_derive(warehouse, subject, day, after))
        day = after
    clear_stale(conn, symbol_id, base)
    return written


def _derive(warehouse: Warehouse, subject: Subject, first: date, after: date) -> list[int]:
    """Features written of the days [first, after), by timeframe."""
    span = subject.sessions.days_window(first, after - timedelta(days=1))
    window = Window(span.start, span.end)
    return [derive_features(warehouse, subject, one, window).written for one in subject.chain.timeframes]
