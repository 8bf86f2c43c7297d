"""Symbols whose every minute the test decides, looked at through a real database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np

from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import INTRADAY, Base, Chain
from backfill_pipeline.steps.look_again import look_again
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.gaps import StoredGap, open_gaps
from backfill_pipeline.storage.status import read_status
from backfill_pipeline_tests.steps.warehouses import Exchange, Row, backfill, micros, query, regular_minutes, row_of

Keep = Callable[[date, int], bool]


def weekdays(first: date, count: int) -> list[date]:
    days = (first + timedelta(days=i) for i in range(2 * count))
    return [day for day in days if day.weekday() < 5][:count]


def trade(exchange: Exchange, days: Sequence[date], traded: Keep, withheld: Keep, noise: float = 0.0) -> None:
    """Fill the exchange: the minutes that `traded` (day, minutes since 9:30) less those `withheld`, which the day's
    volume has all the same. `noise`: how far every other day's volume is above or below.
    """
    exchange.minutes, exchange.days = {}, {}
    for number, day in enumerate(days):
        total = 0.0
        for minute, ts in enumerate(regular_minutes(day)):
            if traded(day, minute):
                row = row_of(ts)
                total += row[4]
                if not withheld(day, minute):
                    exchange.minutes[ts] = row
        if total:
            exchange.days[micros(day, 0)] = _day(total * (1 + noise * (-1) ** number))


def _day(volume: float) -> Row:
    return 100.0, 104.0, 98.0, 101.0, volume, None, 1


def load(warehouse: Warehouse, instrument: Instrument, days: Sequence[date], *chains: Chain) -> None:
    """Download, and look again at everything."""
    for chain in chains:
        backfill(warehouse, instrument, chain, days[0], days[-1])
    look(warehouse, instrument, days)


def look(warehouse: Warehouse, instrument: Instrument, days: Sequence[date], chain: Chain = INTRADAY) -> list[date]:
    subject = warehouse.subject(instrument, chain)
    rows = np.searchsorted(subject.sessions.session, np.array(list(days), dtype="datetime64[D]"))
    with warehouse.conn:
        return look_again(warehouse, subject, rows.astype(np.int64))


def status(warehouse: Warehouse, instrument: Instrument, day: date, base: Base = "1m") -> SessionStatus:
    with warehouse.conn:
        return read_status(warehouse.conn, instrument.symbol_id, base, day, day)[day]


def gaps(warehouse: Warehouse, instrument: Instrument, chain: Chain = INTRADAY) -> list[StoredGap]:
    """All that are open."""
    sessions = warehouse.sessions(instrument.calendar)
    ever = sessions.days_window(date(1990, 1, 2), date(2030, 1, 1))
    with warehouse.conn:
        return open_gaps(warehouse.conn, instrument.symbol_id, chain.base, ever)


def short(found: Sequence[StoredGap], day: date) -> list[tuple[int, int, str, object]]:
    """(minutes since 9:30, expected, verdict, by what) of the gaps of a day."""
    opening = micros(day, 9, 30)
    mine = [gap for gap in found if gap.window.start // 86_400_000_000 == opening // 86_400_000_000]
    return [((gap.window.start - opening) // 60_000_000, gap.expected, gap.verdict, gap.evidence["by"]) for gap in mine]


def disagreeing(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """Sessions whose open gaps do not expect what their status misses; none."""
    return query(
        warehouse,
        "SELECT t.symbol_id, t.timeframe::text, t.session, t.missing, g.lacking FROM session_status AS t"
        " JOIN symbols AS y USING (symbol_id) JOIN sessions AS s USING (calendar, session)"
        " CROSS JOIN LATERAL (SELECT coalesce(sum(expected - found), 0) AS lacking FROM gaps AS g"
        "  WHERE g.symbol_id = t.symbol_id AND g.timeframe = t.timeframe AND g.resolved_at IS NULL"
        "  AND g.time_window && tstzrange(s.day_start, s.day_end)) AS g WHERE t.missing <> g.lacking",
    )


def resolutions(warehouse: Warehouse) -> list[str]:
    return [str(row[0]) for row in query(warehouse, "SELECT resolution FROM gaps WHERE resolved_at IS NOT NULL")]


def always(day: date, minute: int) -> bool:
    return True


def never(day: date, minute: int) -> bool:
    return False


def on(day: date, first: int, last: int) -> Keep:
    """The minutes `first` to before `last` after 9:30 of one day."""
    return lambda other, minute: other == day and first <= minute < last
