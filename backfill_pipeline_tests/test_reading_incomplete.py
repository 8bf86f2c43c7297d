"""What `read_bars` tells of sessions that are not complete, on bars of which the test withheld some."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline import IncompleteError, IncompleteWarning, read_bars, read_features
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.calendar_days import close, parse_calendar_day
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps.absences import always, never, on, trade, weekdays
from backfill_pipeline_tests.steps.warehouses import Exchange, backfill, listed, micros, opened, query, regular_minutes

# Monday 2024-05-06 to Wednesday the 15th.
DAYS = weekdays(date(2024, 5, 6), 8)
LATER = datetime(2024, 6, 20, tzinfo=UTC)
SPAN = (DAYS[0], DAYS[-1])


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def silence(exchange: Exchange, *days: date) -> None:
    """Nothing of these days is to be had."""
    for day in days:
        for ts in regular_minutes(day):
            exchange.minutes.pop(ts, None)


def load(warehouse: Warehouse, symbol: str) -> None:
    instrument = listed(warehouse, symbol)
    for chain in (DAILY, INTRADAY):
        backfill(warehouse, instrument, chain, *SPAN)


def error(url: str, symbols: str | list[str], timeframe: str, first: date, last: date) -> IncompleteError:
    with pytest.raises(IncompleteError) as raised:
        read_bars(symbols, timeframe, first, last, on_incomplete="raise", url=url)
    return raised.value


def test_stretches_are_told_with_what_is_missing_why_and_the_command(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    trade(exchange, DAYS, always, on(DAYS[6], 90, 120))
    silence(exchange, DAYS[1], DAYS[2])
    load(warehouse, "A*B")

    told = error(database_url, "A*B", "1h", date(2024, 5, 1), DAYS[-1])

    assert str(told) == (
        "A*B 1h: 6 of 11 sessions incomplete: 2024-05-01 to 2024-05-03 (1,170 bars of 1m, never asked),"
        " 2024-05-07 to 2024-05-08 (780 bars of 1m, missing), 2024-05-14 (30 bars of 1m, outage);"
        " repair: backfill run --symbols 'A*B' --timeframes 1m --start 2024-05-01 --end 2024-05-14"
    )
    assert told.windows == [
        ("A*B", date(2024, 5, 1), date(2024, 5, 3), 1170),
        ("A*B", date(2024, 5, 7), date(2024, 5, 8), 780),
        ("A*B", date(2024, 5, 14), date(2024, 5, 14), 30),
    ]
    assert pickle.loads(pickle.dumps(told)).windows == told.windows
    read_bars("A*B", "1d", *SPAN, on_incomplete="raise", url=database_url)


def test_five_stretches_are_named_and_the_others_counted(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    days = weekdays(date(2024, 5, 6), 13)
    trade(exchange, days, always, never)
    silence(exchange, *days[::2])
    instrument = listed(warehouse)
    backfill(warehouse, instrument, INTRADAY, days[0], days[-1])

    told = error(database_url, "ABC", "1m", days[0], days[-1])

    assert len(told.windows) == 7
    assert str(told).count("390 bars") == 5
    assert " and 2 more; repair: " in str(told)
    assert str(told).endswith(f"--start {days[0]} --end {days[-1]}")


def test_symbols_are_told_together_in_one_warning(database_url: str, warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, never)
    load(warehouse, "GOOD")
    silence(exchange, DAYS[3])
    names = [f"B{i}" for i in range(7)]
    for name in names:
        load(warehouse, name)
    with pytest.warns(IncompleteWarning) as seen:
        read_features([*names, "GOOD"], "30m", *SPAN, url=database_url)
    (warning,) = seen
    assert isinstance(warning.message, IncompleteWarning)
    assert [window.symbol for window in warning.message.windows] == names
    lines = str(warning.message).splitlines()
    assert [line.split()[0] for line in lines] == [*names[:5], "and"]
    assert lines[5] == "and 2 more symbols"
    assert warning.filename == __file__


def test_what_is_not_due_is_not_told_and_is_once_it_is(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    trade(exchange, DAYS, always, never)
    load(warehouse, "ABC")
    early = "UPDATE session_status SET stored = 100, explained = '{{\"not_due\": 290}}', due_at = now() {} '1 day'"
    query(warehouse, early.format("+ interval") + " WHERE timeframe = '1m' AND session = %s", DAYS[4])
    read_bars("ABC", "1m", *SPAN, on_incomplete="raise", url=database_url)
    query(warehouse, early.format("- interval") + " WHERE timeframe = '1m' AND session = %s", DAYS[4])
    told = error(database_url, "ABC", "1m", *SPAN)
    assert told.windows == [("ABC", DAYS[4], DAYS[4], 290)]
    assert "(290 bars of 1m, not asked since it was due)" in str(told)


def test_a_day_closed_by_hand_does_not_count(database_url: str, warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, never)
    silence(exchange, DAYS[3])
    del exchange.days[micros(DAYS[3], 0)]
    load(warehouse, "ABC")
    assert error(database_url, "ABC", "1d", *SPAN).windows == [("ABC", DAYS[3], DAYS[3], 1)]
    day = parse_calendar_day("XNYS", DAYS[3].isoformat(), LATER.date())
    close(warehouse, day, "mourning", force=False, waiting=lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for timeframe in ("1m", "4h", "1d", "1w"):
            bars = read_bars("ABC", timeframe, *SPAN, url=database_url)
            assert DAYS[3] not in bars["session"].dt.date.to_list()
