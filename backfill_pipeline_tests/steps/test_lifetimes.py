"""Symbols that end, begin, halt or change hands, night by night over a socket: looked up once, then left in peace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.standin.polygon_reference import figi
from backfill_pipeline_tests.steps.absences import disagreeing
from backfill_pipeline_tests.steps.nights import follow, night, words
from backfill_pipeline_tests.steps.warehouses import Clock, listed, ny, opened, query

DAY = timedelta(days=1)
SINCE = date(2026, 7, 13)
LAST = date(2026, 7, 17)  # a Friday
FIRST_NIGHT = datetime(2026, 7, 18, 6, tzinfo=UTC)
GONE, OTHER = "GONE", "AAPL"


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=(OTHER, GONE))) as started:
        started.market.list_from(OTHER, date(1980, 12, 12))
        yield started


@pytest.fixture
def warehouse(database_url: str, standin: StandIn) -> Iterator[Warehouse]:
    with opened(database_url, provider(standin, now=FIRST_NIGHT), FIRST_NIGHT) as made:
        yield made
        assert disagreeing(made) == []


def nights(warehouse: Warehouse, standin: StandIn, first: int, last: int) -> dict[int, list[str]]:
    """Nights by their number after the first: paths of the requests about GONE."""
    found = {}
    for number in range(first, last + 1):
        now = FIRST_NIGHT + number * DAY
        standin.reset()
        standin.set(now=now)
        night(Warehouse(warehouse.conn, Router([provider(standin, now=now)]), Clock(now)), now)
        found[number] = [seen.path for seen in standin.requests if GONE in seen.path or figi(GONE) in seen.path]
    return found


def lifetime(warehouse: Warehouse, symbol: str = GONE) -> tuple[object, ...]:
    return query(warehouse, "SELECT first_date, last_date, lifetime_source FROM symbols WHERE symbol = %s", symbol)[0]


def looks(asked: dict[int, list[str]]) -> dict[int, int]:
    """By night, requests for references, where there were any."""
    counts = {number: sum("/reference/" in path for path in paths) for number, paths in asked.items()}
    return {number: count for number, count in counts.items() if count}


def open_gaps(warehouse: Warehouse) -> int:
    return int(str(query(warehouse, "SELECT count(*) FROM gaps WHERE resolved_at IS NULL")[0][0]))


@pytest.mark.parametrize("bases", [("1m", "1d"), ("1d",), ("1m",)], ids=str)
def test_a_delisted_symbol_is_looked_up_on_its_third_absent_session_and_asked_for_no_more(
    warehouse: Warehouse, standin: StandIn, bases: tuple[Base, ...], caplog: pytest.LogCaptureFixture
) -> None:
    standin.market.list_from(GONE, date(2005, 3, 1), LAST)
    follow(warehouse, [OTHER, GONE], SINCE, bases)
    asked = nights(warehouse, standin, 0, 10)  # 3 is Tuesday's: of Monday; 5 is Thursday's
    assert looks(asked) == {5: 2}
    assert lifetime(warehouse) == (date(2005, 3, 1), LAST, "polygon")
    assert {number: paths for number, paths in asked.items() if number > 5 and paths} == {}
    for base in bases:
        for day in (date(2026, 7, 20), date(2026, 7, 21), date(2026, 7, 22)):
            count = 390 if base == "1m" else 1
            assert words(warehouse, day, base)[GONE] == (0, {"not_listed": count}, 0)
    assert open_gaps(warehouse) == 0
    assert [r.message for r in caplog.records if GONE in r.message] == [
        "GONE: listed from 2005-03-01 to 2026-07-17 (polygon)"
    ]


def test_a_long_halt_is_looked_up_once_stays_missing_and_goes_on_afterwards(
    warehouse: Warehouse, standin: StandIn
) -> None:
    standin.market.list_from(GONE, date(2005, 3, 1))
    standin.market.silence(GONE, ny(date(2026, 7, 20), 0), ny(date(2026, 8, 1), 0))
    follow(warehouse, [OTHER, GONE], SINCE, ["1d"])
    asked = nights(warehouse, standin, 0, 20)
    assert looks(asked) == {5: 2}
    assert words(warehouse, date(2026, 7, 20), "1d")[GONE] == (0, {}, 1)
    assert words(warehouse, date(2026, 8, 4), "1d")[GONE] == (1, {}, 0)
    assert lifetime(warehouse) == (date(2005, 3, 1), None, "polygon")
    attempts = query(warehouse, "SELECT attempts FROM gaps WHERE resolved_at IS NULL ORDER BY time_window")
    assert [row[0] for row in attempts] == [4, 4, 3, 3, 3, 3, 3, 2, 2, 2], "two days, then weekly"


def test_one_listed_within_what_is_wanted_begins_there(warehouse: Warehouse, standin: StandIn) -> None:
    first = date(2026, 7, 10)
    standin.market.list_from(GONE, first)
    follow(warehouse, [OTHER, GONE], date(2026, 6, 22), ["1d"])
    asked = nights(warehouse, standin, 0, 2)
    assert looks(asked) == {0: 2}
    assert lifetime(warehouse)[:2] == (first, None)
    assert words(warehouse, date(2026, 7, 9), "1d")[GONE] == (0, {"not_listed": 1}, 0)
    assert words(warehouse, first, "1d")[GONE] == (1, {}, 0)
    assert open_gaps(warehouse) == 0


def test_another_company_under_the_same_ticker_is_not_followed(
    warehouse: Warehouse, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider does not tell the end; 34 nights later the ticker is another's."""
    reused = date(2026, 8, 26)
    standin.market.list_from(GONE, date(2005, 3, 1))
    standin.market.silence(GONE, ny(date(2026, 7, 20), 0), ny(reused, 0))
    follow(warehouse, [OTHER, GONE], SINCE, ["1d"])
    nights(warehouse, standin, 0, 8)
    standin.market.list_from("NEWCO", reused)
    standin.market.rename(GONE, "GONE.X", LAST + DAY)
    standin.market.rename("NEWCO", GONE, reused)
    standin.market.unknown(figi(GONE))
    nights(warehouse, standin, 40, 42)
    assert lifetime(warehouse) == (date(2005, 3, 1), reused - DAY, "polygon")
    assert query(warehouse, "SELECT max(session) FROM bars JOIN symbols USING (symbol_id) WHERE symbol = %s", GONE) == [
        (LAST,)
    ]
    assert any("is another instrument at polygon now" in record.message for record in caplog.records)


def test_one_that_is_listed_again_is_found_within_a_month_and_made_up_for(
    warehouse: Warehouse, standin: StandIn
) -> None:
    standin.market.list_from(GONE, date(2005, 3, 1), LAST)
    follow(warehouse, [OTHER, GONE], SINCE, ["1d"])
    nights(warehouse, standin, 0, 6)
    assert lifetime(warehouse)[1] == LAST
    standin.market.list_from(GONE, date(2005, 3, 1))
    asked = nights(warehouse, standin, 34, 36)
    assert looks(asked) == {35: 2}
    assert lifetime(warehouse)[1] is None
    assert words(warehouse, date(2026, 7, 20), "1d")[GONE] == (1, {}, 0)
    assert query(warehouse, "SELECT count(*) FROM session_status WHERE explained ? 'not_listed'") == [(0,)]


def test_silence_of_a_whole_market_is_no_reason_to_look_anybody_up(warehouse: Warehouse, standin: StandIn) -> None:
    names = [f"S{number}" for number in range(8)]
    for name in names:
        standin.market.silence(name, ny(date(2026, 7, 20), 0), ny(date(2026, 8, 1), 0))
    follow(warehouse, names, SINCE, ["1m"])
    standin.set(now=FIRST_NIGHT)
    found = []
    for number in (0, 3, 4, 5, 6, 7):
        now = FIRST_NIGHT + number * DAY
        standin.reset()
        standin.set(now=now)
        night(Warehouse(warehouse.conn, Router([provider(standin, now=now)]), Clock(now)), now)
        found.append(sum("/reference/" in seen.path for seen in standin.requests))
    assert sum(found) <= 6, "the first ones, before the others have been heard"


def test_a_lifetime_stated_later_closes_gaps(warehouse: Warehouse, standin: StandIn) -> None:
    standin.market.unknown(GONE)
    follow(warehouse, [OTHER, GONE], SINCE, ["1d"])
    nights(warehouse, standin, 0, 0)
    assert open_gaps(warehouse) == 5
    query(warehouse, "UPDATE symbols SET first_date = '2026-07-16' WHERE symbol = %s", GONE)
    assert listed(warehouse, GONE).first_date == date(2026, 7, 16)
    nights(warehouse, standin, 1, 4)
    assert {str(row[0]) for row in query(warehouse, "SELECT resolution FROM gaps WHERE resolved_at IS NOT NULL")} == {
        "explained not_listed"
    }
