"""What a whole run, minutes and days, says of absent minutes: each case by hand, from the provider's answers to the
partitions' messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.domain.windows import MINUTE
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.steps.absences import disagreeing
from backfill_pipeline_tests.steps.polygon_runs import run
from backfill_pipeline_tests.steps.warehouses import listed, ny, opened, query, task

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)


THIRTY_ONE = [f"S{number:02d}" for number in range(31)]


class Exchanges(Market):
    """`HK...` trades in Hong Kong, `RARE` in 48 of its minutes a day, each day in others; `S...` only while
    the market is open.
    """

    def sessions(self, symbol: str) -> Sessions:
        return load_sessions("XHKG", date(2026, 12, 31)) if symbol.startswith("HK") else super().sessions(symbol)

    def _make(self, symbol: str, row: int) -> Bars:
        bars = super()._make(symbol, row)
        minute = (bars.ts - self.sessions(symbol).open[row]) // MINUTE
        rare = (minute >= 0) & (minute < 384) & ((minute + 3 * row) % 8 == 0)
        if symbol.startswith("S"):
            return bars.take((minute >= 0) & (minute < self.sessions(symbol).expected_1m[row]))
        return bars.take(rare) if symbol == "RARE" else bars


@dataclass
class Desk:
    """A market to change, and runs of it into a database."""

    warehouse: Warehouse
    standin: StandIn

    @property
    def market(self) -> Market:
        return self.standin.market

    def run(self, first: date, last: date, *symbols: Instrument) -> dict[tuple[str, str], PartitionOutcome]:
        """Both chains from `first` to `last`; the outcome of each day of minutes."""
        tasks = [task(self.warehouse, symbol, chain, first, last) for symbol in symbols for chain in CHAINS]
        told = run(self.warehouse, provider(self.standin), tasks, NOW)
        assert told.error is None
        assert disagreeing(self.warehouse) == []
        return {(o.symbol, o.period.key): o for o in told.outcomes if o.period.first == o.period.last}

    def status(self, symbol: str, day: date) -> tuple[object, ...]:
        """Expected, stored, explained and missing minutes."""
        (row,) = query(
            self.warehouse,
            "SELECT expected, stored, explained, missing FROM session_status JOIN symbols USING (symbol_id)"
            " WHERE symbol = %s AND session = %s AND timeframe = '1m'",
            symbol,
            day,
        )
        return row

    def gaps(self) -> list[tuple[object, ...]]:
        """Symbol, start in UTC, minutes that are expected, verdict and what it was made by."""
        return query(
            self.warehouse,
            "SELECT symbol, to_char(lower(time_window) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), expected, verdict,"
            " evidence ->> 'by' FROM gaps JOIN symbols USING (symbol_id) WHERE resolved_at IS NULL ORDER BY 1, 2",
        )


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with (
        StandIn(Exchanges(symbols=["ABC", *THIRTY_ONE]), now=NOW) as standin,
        opened(database_url, provider(standin), NOW) as warehouse,
    ):
        yield Desk(warehouse, standin)


def test_an_illiquid_symbol_with_48_minutes_a_day_is_complete(desk: Desk) -> None:
    told = desk.run(date(2024, 5, 6), date(2024, 5, 17), listed(desk.warehouse, "RARE"))
    assert len(told) == 12
    assert {outcome.state for outcome in told.values()} == {"complete"}
    assert desk.status("RARE", date(2024, 5, 15)) == (390, 48, {"no_trade": 342}, 0)
    assert desk.gaps() == []


def test_half_an_hour_that_the_days_volume_has_makes_its_day_incomplete_and_no_other(desk: Desk) -> None:
    day = date(2024, 5, 15)
    desk.market.withhold("ABC", ny(day, 11), ny(day, 11, 30))
    told = desk.run(date(2024, 5, 6), date(2024, 5, 17), listed(desk.warehouse, "ABC"))
    assert [key for (_, key), outcome in sorted(told.items()) if outcome.state == "incomplete"] == ["2024-05-15"]
    assert "30 of 390 bars are missing" in told["ABC", "2024-05-15"].message
    assert desk.status("ABC", day) == (390, 360, {}, 30)
    assert desk.gaps() == [("ABC", "2024-05-15 15:00", 30, "outage", "volume")]


def test_half_an_hour_in_which_nobody_traded_is_no_gap(desk: Desk) -> None:
    day = date(2024, 5, 15)
    desk.market.silence("ABC", ny(day, 11), ny(day, 11, 30))
    told = desk.run(date(2024, 5, 6), date(2024, 5, 17), listed(desk.warehouse, "ABC"))
    assert {outcome.state for outcome in told.values()} == {"complete"}
    assert desk.status("ABC", day) == (390, 360, {"no_trade": 30}, 0)


def test_thirty_symbols_that_lack_the_same_half_hour_against_their_volume_are_an_outage(desk: Desk) -> None:
    """That of a thirty-first whose own day tells nothing is one, too: by the others."""
    day, symbols = date(2024, 5, 15), THIRTY_ONE
    for symbol in symbols:
        desk.market.withhold(symbol, ny(day, 11), ny(day, 11, 30))
    desk.market.restate_day("S30", day, volume=1.0)
    told = desk.run(date(2024, 5, 8), date(2024, 5, 15), *(listed(desk.warehouse, symbol) for symbol in symbols))
    assert {key for (_, key), outcome in told.items() if outcome.state == "incomplete"} == {"2024-05-15"}
    of_volume = [(symbol, "2024-05-15 15:00", 30, "outage", "volume") for symbol in symbols[:30]]
    assert desk.gaps() == [*of_volume, ("S30", "2024-05-15 15:00", 30, "outage", "other symbols")]


def test_the_circuit_breaker_of_2020_03_18_is_a_halt(desk: Desk) -> None:
    day = date(2020, 3, 18)
    desk.market.silence("ABC", ny(day, 12, 57), ny(day, 13, 11))
    desk.market.silence("SOLO", ny(day, 12, 57), ny(day, 13, 11))
    desk.market.withhold("SOLO", ny(day, 14), ny(day, 14, 10))
    told = desk.run(date(2020, 3, 11), date(2020, 3, 25), listed(desk.warehouse, "ABC"), listed(desk.warehouse, "SOLO"))
    assert told["ABC", "2020-03-18"].state == "complete"
    assert desk.status("ABC", day) == (390, 376, {"halt": 14}, 0)
    assert desk.status("SOLO", day) == (390, 366, {"halt": 14}, 10)
    assert desk.gaps() == [("SOLO", "2020-03-18 18:00", 10, "outage", "volume")]


def test_a_halt_that_no_list_knows_is_told_by_the_market(desk: Desk) -> None:
    day, symbols = date(2024, 5, 15), THIRTY_ONE[:6]
    for symbol in symbols:
        desk.market.silence(symbol, ny(day, 14), ny(day, 14, 20))
    desk.run(date(2024, 5, 8), date(2024, 5, 15), *(listed(desk.warehouse, symbol) for symbol in symbols))
    assert {str(desk.status(symbol, day)) for symbol in symbols} == {"(390, 370, {'halt': 20}, 0)"}


def test_a_lunch_break_in_hong_kong_is_expected_of_nobody(desk: Desk) -> None:
    """330 minutes a day, 150 before lunch and 180 after; 10 are lost on one side of it and 5 on the other."""
    day, noon = date(2024, 5, 16), datetime(2024, 5, 16, 4, tzinfo=UTC)
    desk.market.withhold("HK1", noon - timedelta(minutes=10), noon + timedelta(minutes=65))
    both = [listed(desk.warehouse, symbol, "stock", "XHKG") for symbol in ("HK1", "HK2")]
    told = desk.run(date(2024, 5, 6), date(2024, 5, 20), *both)
    assert desk.status("HK2", day) == (330, 330, {}, 0)
    assert desk.status("HK1", day) == (330, 315, {}, 15)
    assert desk.gaps() == [("HK1", "2024-05-16 03:50", 15, "outage", "volume")]
    holiday = told["HK2", "2024-05-15"]  # the Buddha's birthday
    assert (holiday.state, holiday.message, holiday.bars["1m"].rows) == ("complete", "closed", 0)


def test_a_week_with_a_holiday_lacks_nothing_on_that_day(desk: Desk) -> None:
    tuesday = date(2024, 5, 28)
    desk.market.withhold("ABC", ny(tuesday, 9, 30), ny(tuesday, 9, 40))
    told = desk.run(date(2024, 5, 20), date(2024, 5, 31), listed(desk.warehouse, "ABC"))
    memorial_day = told["ABC", "2024-05-27"]
    assert (memorial_day.state, memorial_day.message) == ("complete", "Memorial Day")
    assert query(desk.warehouse, "SELECT expected, stored, missing FROM completeness WHERE timeframe = '1m'") == [
        (9 * 390, 9 * 390 - 10, 10)
    ]
    assert desk.gaps() == [("ABC", "2024-05-28 13:30", 10, "outage", "volume")]


def test_a_half_day_expects_210_minutes(desk: Desk) -> None:
    """Withheld from 12:40 to 13:10; the market closes at 13:00."""
    day = date(2024, 11, 29)
    desk.market.withhold("ABC", ny(day, 12, 40), ny(day, 13, 10))
    told = desk.run(date(2024, 11, 20), date(2024, 12, 4), listed(desk.warehouse, "ABC"))
    assert told["ABC", "2024-11-28"].message == "Thanksgiving"
    assert "20 of 210 bars are missing" in told["ABC", "2024-11-29"].message
    assert desk.status("ABC", day) == (210, 190, {}, 20)
    assert desk.gaps() == [("ABC", "2024-11-29 17:40", 20, "outage", "volume")]


@pytest.mark.parametrize(
    ("friday", "openings"),
    [
        pytest.param(date(2024, 3, 8), ("2024-03-08 14:30", "2024-03-11 13:30"), id="spring"),
        pytest.param(date(2024, 11, 1), ("2024-11-01 13:30", "2024-11-04 14:30"), id="autumn"),
    ],
)
def test_the_first_minutes_are_the_first_before_and_after_the_clocks_change(
    desk: Desk, friday: date, openings: tuple[str, str]
) -> None:
    monday = friday + timedelta(days=3)
    for day in (friday, monday):
        desk.market.withhold("ABC", ny(day, 9, 30), ny(day, 9, 40))
    desk.run(friday - timedelta(days=7), monday + timedelta(days=4), listed(desk.warehouse, "ABC"))
    assert desk.status("ABC", friday) == desk.status("ABC", monday) == (390, 380, {}, 10)
    assert desk.gaps() == [("ABC", opening, 10, "outage", "volume") for opening in openings]


def test_a_market_without_a_night_lacks_an_hour_on_the_day_others_skip_one(desk: Desk) -> None:
    sunday, two = date(2024, 3, 10), datetime(2024, 3, 10, 7, tzinfo=UTC)
    desk.market.withhold("X:BTCUSD", two, two + timedelta(hours=1))
    told = desk.run(date(2024, 3, 4), date(2024, 3, 14), listed(desk.warehouse, "X:BTCUSD", "crypto", "24/7"))
    assert "60 of 1440 bars are missing" in told["X:BTCUSD", "2024-03-10"].message
    assert desk.status("X:BTCUSD", sunday) == (1440, 1380, {}, 60)
    assert desk.gaps() == [("X:BTCUSD", "2024-03-10 07:00", 60, "outage", "volume")]
