"""The partitions of both chains: symbol × date, keys like `2024-03-08|AAPL`."""

from collections.abc import Iterable
from datetime import date, timedelta

import dagster as dg

from backfill_pipeline.domain.grain import KEY_FORMAT, Grain, Period, parse_key
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.grains import crowded

from .resources import first_day, grain_of

SYMBOL, DATE = "symbol", "date"


def symbol_dimension(chain: Chain) -> str:
    """The name of the chain's dynamic partitions."""
    return f"{chain.name}_symbol"


def chain_partitions(settings: Settings, chain: Chain) -> dg.MultiPartitionsDefinition:
    """Today, this week or this month has a key too (end_offset 1)."""
    dates = _dates(grain_of(settings, chain), first_day(settings, chain))
    symbols = dg.DynamicPartitionsDefinition(name=symbol_dimension(chain))
    return dg.MultiPartitionsDefinition({SYMBOL: symbols, DATE: dates})


def _dates(grain: Grain, start: date) -> dg.TimeWindowPartitionsDefinition:
    form = KEY_FORMAT[grain]
    if grain == "day":
        return dg.DailyPartitionsDefinition(start.strftime(form), fmt=form, end_offset=1)
    if grain == "week":
        # Dagster's weeks start on day_offset after Sunday; the one that holds `start` is the first.
        monday = start - timedelta(days=start.weekday())
        return dg.WeeklyPartitionsDefinition(monday.strftime(form), fmt=form, day_offset=1, end_offset=1)
    return dg.MonthlyPartitionsDefinition(start.replace(day=1).strftime(form), fmt=form, end_offset=1)


def crowds(instance: dg.DagsterInstance, settings: Settings, chains: Iterable[Chain], today: date) -> list[str]:
    """A line for each of the chains whose assets have more partitions than Dagster recommends."""
    lines = []
    for chain in chains:
        symbols = len(instance.get_dynamic_partitions(symbol_dimension(chain)))
        lines.append(crowded(chain, symbols, first_day(settings, chain), today, grain_of(settings, chain)))
    return [line for line in lines if line]


def key_of(symbol: str, period: Period) -> str:
    """The text of a partition key: dimensions in alphabetical order."""
    return f"{period.key}|{symbol}"


def split_key(key: str, grain: Grain) -> tuple[str, Period]:
    """Symbol and period of a partition key. ValueError names a malformed date."""
    day, _, symbol = key.partition("|")
    return symbol, parse_key(day, grain)
