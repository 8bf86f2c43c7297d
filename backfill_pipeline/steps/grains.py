"""What a changed width of partitions means, and how many partitions are too many; in words."""

from __future__ import annotations

from datetime import date

from backfill_pipeline.domain.grain import Grain, periods_between
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.storage.stamps import Stamp

# What Dagster recommends at most for an asset: from there on its pages take seconds.
MOST_PARTITIONS = 100_000


def grain_variable(chain_name: str) -> str:
    return f"BACKFILL_{chain_name.upper()}_GRAIN"


def changed_grains(known: Stamp, intraday: Grain, daily: Grain) -> list[str]:
    """A line for each chain whose partitions are cut otherwise than when they were last brought in line."""
    pairs = (("intraday", known.intraday_grain, intraday), ("daily", known.daily_grain, daily))
    return [
        f"{grain_variable(name)} is {now} and was {before}: bars and coverage stay as they are, the new partitions of"
        f" what is stored have no colour yet; next: backfill reconcile"
        for name, before, now in pairs
        if before != now
    ]


def crowded(chain: Chain, symbols: int, start: date, today: date, grain: Grain) -> str | None:
    """A line if `symbols` have more partitions in the chain than Dagster recommends for an asset. `start`: the first
    day that has one.
    """
    periods = len(periods_between(start, today, grain))
    if symbols * periods <= MOST_PARTITIONS:
        return None
    wider = {"day": "week or month", "week": "month"}.get(grain)
    name = chain.name.upper()
    advice = f"set {grain_variable(chain.name)} to {wider}, or " if wider else ""
    return (
        f"{symbols:,} symbols × {periods:,} {grain}s are {symbols * periods:,} partitions of each {chain.name} asset,"
        f" and Dagster recommends {MOST_PARTITIONS:,} at most: its pages become slow;"
        f" {advice}BACKFILL_{name}_START to a later day than {start}"
    )
