"""Coarser bars and counts in plain Python from the New York wall clock: what the steps' tables are held against."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from backfill_pipeline.domain.windows import to_datetime, to_micros
from backfill_pipeline_tests.steps.warehouses import HALF_DAYS, NEW_YORK, Row, Warehouse, ny, query

LENGTHS = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}


def segment_of(ts: int) -> tuple[str, datetime]:
    """The segment that a New York minute lies in, and when that segment began."""
    local = to_datetime(ts).astimezone(NEW_YORK)
    day = local.date()
    close = ny(day, 13 if day in HALF_DAYS else 16)
    if local < ny(day, 9, 30):
        return "pre", ny(day, 4)
    return ("regular", ny(day, 9, 30)) if local < close else ("post", close)


def coarse(minutes: Mapping[int, Row], length: int) -> dict[int, tuple[str, Row]]:
    """Segment and values of the buckets of `length` minutes, by their start."""
    groups: dict[int, list[tuple[int, Row]]] = {}
    for ts in sorted(minutes):
        _, anchor = segment_of(ts)
        passed = (ts - to_micros(anchor)) // 60_000_000
        groups.setdefault(to_micros(anchor) + passed // length * length * 60_000_000, []).append((ts, minutes[ts]))
    return {start: (segment_of(start)[0], _aggregate([row for _, row in group])) for start, group in groups.items()}


def _aggregate(rows: list[Row]) -> Row:
    volume = sum(row[4] for row in rows)
    known = [(row[5], row[4]) for row in rows if row[5] is not None]
    known_volume = sum(part for _, part in known)
    vwap = None
    if known_volume > 0 and known_volume >= 0.95 * volume:
        vwap = sum(price * part for price, part in known) / known_volume
    trades = None if any(row[6] is None for row in rows) else sum(row[6] or 0 for row in rows)
    return (rows[0][0], max(r[1] for r in rows), min(r[2] for r in rows), rows[-1][3], volume, vwap, trades)


def week(days: Mapping[int, Row], monday: date) -> Row:
    rows = [
        days[to_micros(ny(monday + timedelta(days=i), 0))]
        for i in range(7)
        if to_micros(ny(monday + timedelta(days=i), 0)) in days
    ]
    return _aggregate(rows)


def stored(warehouse: Warehouse, timeframe: str) -> dict[int, tuple[str, Row]]:
    """What is stored, in the same form; vwap to 8 digits, because sums of floats depend on their order."""
    rows = query(
        warehouse,
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint, segment::text, open, high, low, close, volume, vwap, trades"
        " FROM bars WHERE timeframe = %s",
        timeframe,
    )
    return {row[0]: (row[1], rounded(row[2:])) for row in rows}  # type: ignore[misc, arg-type]  # a row of a query


def rounded(row: Row) -> Row:
    """vwap without its last digits; the shift keeps halves, which sums of cents make, from falling either way."""
    return (*row[:5], None if row[5] is None else round(row[5] + 3e-10, 8), row[6])


def expected(minutes: Mapping[int, Row], timeframe: str) -> dict[int, tuple[str, Row]]:
    """What `stored` must give when `minutes` are all there is."""
    if timeframe == "1m":
        return {ts: (segment_of(ts)[0], rounded(row)) for ts, row in minutes.items()}
    return {ts: (segment, rounded(row)) for ts, (segment, row) in coarse(minutes, LENGTHS[timeframe]).items()}
