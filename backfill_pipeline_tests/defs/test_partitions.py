"""Partition keys: their text, their dates, and that Dagster's windows are the domain's periods."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_pipeline.defs.partitions import chain_partitions, key_of, split_key, symbol_dimension
from backfill_pipeline.domain.grain import GRAINS, Grain, parse_key, period_of
from backfill_pipeline.domain.instruments import check_symbol
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.settings import Settings

START = date(2024, 1, 17)  # a Wednesday in the middle of a month


def dates_of(grain: Grain, start: date = START) -> dg.TimeWindowPartitionsDefinition:
    settings = Settings.model_construct(intraday_grain=grain, intraday_start=start)
    dates = chain_partitions(settings, INTRADAY).get_partitions_def_for_dimension("date")
    assert isinstance(dates, dg.TimeWindowPartitionsDefinition)
    return dates


@pytest.mark.parametrize(
    ("grain", "first", "second"),
    [("day", "2024-01-17", "2024-01-18"), ("week", "2024-01-15W", "2024-01-22W"), ("month", "2024-01", "2024-02")],
)
def test_the_first_key_holds_the_start_and_the_last_holds_today(grain: Grain, first: str, second: str) -> None:
    keys = dates_of(grain).get_partition_keys()

    assert keys[:2] == [first, second]
    last = parse_key(keys[-1], grain)
    assert last.first <= datetime.now(UTC).date() <= last.last


@pytest.mark.parametrize("grain", GRAINS)
def test_dagsters_window_of_a_key_is_the_domains_period(grain: Grain) -> None:
    dates = dates_of(grain)
    keys = dates.get_partition_keys()

    assert len(keys) > 30 or grain == "month"
    for key in keys:
        period, window = parse_key(key, grain), dates.time_window_for_partition_key(key)
        assert (window.start.date(), window.end.date() - timedelta(days=1)) == (period.first, period.last)


def test_keys_of_one_grain_are_no_keys_of_another() -> None:
    keys = {grain: set(dates_of(grain, date(2023, 5, 1)).get_partition_keys()) for grain in GRAINS}

    assert len(keys["day"] | keys["week"] | keys["month"]) == sum(map(len, keys.values()))


def test_each_chain_has_its_own_symbols_start_and_grain() -> None:
    settings = Settings.model_construct()

    for chain, first in ((INTRADAY, "2022-01-01"), (DAILY, "2000-01")):
        partitions = chain_partitions(settings, chain)
        symbols = partitions.get_partitions_def_for_dimension("symbol")
        assert isinstance(symbols, dg.DynamicPartitionsDefinition)
        assert symbols.name == symbol_dimension(chain) == f"{chain.name}_symbol"
        assert partitions.get_partitions_def_for_dimension("date").get_partition_keys()[0] == first


@pytest.mark.parametrize(
    ("grain", "key"),
    [("day", "2024-03-08|AAPL"), ("week", "2024-03-04W|AAPL"), ("month", "2024-03|AAPL")],
)
def test_the_text_of_a_key_is_the_one_that_users_write(grain: Grain, key: str) -> None:
    assert key_of("AAPL", period_of(date(2024, 3, 8), grain)) == key
    assert str(dg.MultiPartitionKey({"symbol": "AAPL", "date": key.partition("|")[0]})) == key


def _possible(text: str) -> bool:
    try:
        check_symbol(text)
    except ValueError:
        return False
    return True


@given(
    symbol=st.sampled_from(["NA", "TRUE", "1e5", "BRK/B", "X:BTCUSD", "CpL.CL", "../x", "%20"])
    | st.text(min_size=1, max_size=12).filter(_possible),
    day=st.dates(date(2000, 1, 1), date(2040, 1, 1)),
    grain=st.sampled_from(GRAINS),
)
def test_a_key_gives_back_its_symbol_and_period(symbol: str, day: date, grain: Grain) -> None:
    period = period_of(day, grain)

    assert split_key(key_of(symbol, period), grain) == (symbol, period)


@pytest.mark.parametrize("key", ["2024-03-08W|AAPL", "2024-3-8|AAPL", "2024-02-30|AAPL", "2024-03|AAPL", "AAPL", ""])
def test_a_key_of_another_grain_or_no_date_is_named(key: str) -> None:
    with pytest.raises(ValueError, match="is not a day; a day looks like 2024-03-08"):
        split_key(key, "day")
