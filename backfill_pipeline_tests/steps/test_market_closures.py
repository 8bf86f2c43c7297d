"""A day off that the calendar does not know, with a provider that has whole markets by the day, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.closures import UNCONFIRMED
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.overrides import close_day
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.steps.nights import follow, night, words
from backfill_pipeline_tests.steps.polygon_runs import Told, run
from backfill_pipeline_tests.steps.warehouses import Clock, empty, listed, ny, opened, query, task

HUNDRED = tuple(f"S{number:03d}" for number in range(100))
DAY = timedelta(days=1)
# Tuesday; the session before and the one after it.
OFF, BEFORE, AFTER = date(2026, 8, 4), date(2026, 8, 3), date(2026, 8, 5)
NIGHT = datetime(2026, 8, 5, 6, tzinfo=UTC)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=HUNDRED)) as started:
        yield started


@pytest.fixture
def warehouse(database_url: str, standin: StandIn) -> Iterator[Warehouse]:
    with opened(database_url, provider(standin, now=NIGHT), NIGHT) as made:
        yield made


def close(standin: StandIn, *days: date) -> None:
    for name in HUNDRED:
        for day in days:
            standin.market.silence(name, ny(day, 0), ny(day, 23))


def asked(standin: StandIn, text: str = "") -> list[str]:
    return [seen.path for seen in standin.requests if text in seen.path]


def load(warehouse: Warehouse, standin: StandIn, chain: Chain, first: date, last: date, symbols: int = 100) -> Told:
    standin.reset()
    now = NIGHT + 2 * DAY
    standin.set(now=now)
    tasks = [task(warehouse, listed(warehouse, name), chain, first, last) for name in HUNDRED[:symbols]]
    return run(warehouse, provider(standin, now=now), tasks, now)


def tonight(warehouse: Warehouse, standin: StandIn, now: datetime) -> None:
    standin.reset()
    standin.set(now=now)
    night(Warehouse(warehouse.conn, Router([provider(standin, now=now)]), Clock(now)), now)


def assumed(warehouse: Warehouse) -> list[object]:
    return [row[0] for row in query(warehouse, "SELECT session FROM calendar_overrides ORDER BY 1")]


@pytest.mark.parametrize("chain", [INTRADAY, DAILY], ids=["minutes", "days"])
def test_a_hundred_symbols_on_a_day_off_are_two_requests_and_one_message(
    warehouse: Warehouse, standin: StandIn, caplog: pytest.LogCaptureFixture, chain: Chain
) -> None:
    close(standin, OFF)
    told = load(warehouse, standin, chain, OFF, OFF)
    assert len(standin.requests) == 2
    assert (told.error, told.lines) == (None, ["2026-08-04 closed (unconfirmed): nothing traded"])  # a partition's note
    count = 1 if chain is DAILY else 390
    assert words(warehouse, OFF, chain.base) == dict.fromkeys(HUNDRED, (0, {UNCONFIRMED: count}, 0))
    (line,) = [record.message for record in caplog.records if "XNYS" in record.message]
    assert line.startswith("XNYS 2026-08-04: nothing traded in the whole market")
    load(warehouse, standin, chain, OFF, OFF)
    assert asked(standin) == []


def test_a_night_costs_two_requests_more_than_with_a_calendar_that_knows(
    warehouse: Warehouse, standin: StandIn
) -> None:
    close(standin, OFF)
    counts = []
    for known in (True, False):
        empty(warehouse)
        query(warehouse, "TRUNCATE calendar_overrides, calendar_evidence")
        if known:
            with warehouse.conn as conn:
                close_day(conn, "XNYS", OFF, "known", NIGHT)
        follow(warehouse, HUNDRED[:4], date(2026, 7, 30))
        tonight(warehouse, standin, NIGHT - DAY)
        tonight(warehouse, standin, NIGHT)
        counts.append(len(standin.requests))
        assert assumed(warehouse) == [OFF]
        assert (words(warehouse, OFF) == {}) is known
    assert counts[1] - counts[0] <= 2


def test_one_symbol_is_enough_where_the_market_says_so_and_no_reason_where_it_trades(
    warehouse: Warehouse, standin: StandIn
) -> None:
    standin.market.silence(HUNDRED[0], ny(OFF, 0), ny(OFF, 23))
    follow(warehouse, HUNDRED[:1], BEFORE, ["1m"])
    for number in range(4):
        tonight(warehouse, standin, NIGHT + number * DAY)
        assert len(asked(standin, "/grouped/")) == (number == 0), "the market's word is kept"
    assert assumed(warehouse) == []
    assert words(warehouse, OFF)[HUNDRED[0]] == (0, {}, 390)
    empty(warehouse)
    query(warehouse, "TRUNCATE calendar_evidence")
    close(standin, OFF)
    load(warehouse, standin, INTRADAY, BEFORE, AFTER, symbols=1)
    assert words(warehouse, OFF)[HUNDRED[0]] == (0, {UNCONFIRMED: 390}, 0)


def test_two_days_off_in_a_row_are_believed_and_three_are_an_outage(warehouse: Warehouse, standin: StandIn) -> None:
    close(standin, BEFORE, OFF)
    load(warehouse, standin, DAILY, date(2026, 7, 27), AFTER, symbols=20)
    assert assumed(warehouse) == [BEFORE, OFF]
    close(standin, AFTER)
    load(warehouse, standin, DAILY, date(2026, 7, 27), date(2026, 8, 6), symbols=20)
    assert assumed(warehouse) == [BEFORE, OFF], "what is known is not asked for again"
    empty(warehouse)
    query(warehouse, "TRUNCATE calendar_overrides, calendar_evidence")
    load(warehouse, standin, DAILY, date(2026, 7, 27), AFTER, symbols=20)
    assert assumed(warehouse) == []


def test_one_empty_reply_is_not_believed(warehouse: Warehouse, standin: StandIn) -> None:
    standin.fault("empty_absent", path="/grouped/")
    standin.set(now=NIGHT)
    tasks = [task(warehouse, listed(warehouse, name), DAILY, OFF, OFF) for name in HUNDRED]
    run(warehouse, provider(standin, now=NIGHT), tasks, NIGHT)
    assert assumed(warehouse) == []


def test_the_market_is_asked_again_the_next_night_and_what_comes_is_fetched(
    warehouse: Warehouse, standin: StandIn
) -> None:
    follow(warehouse, HUNDRED[:3], date(2026, 7, 30), ["1d"])
    tonight(warehouse, standin, NIGHT - DAY)
    close(standin, OFF)
    tonight(warehouse, standin, NIGHT)
    assert assumed(warehouse) == [OFF]
    standin.market.silenced.clear()  # the data was only late
    standin.market.forget()
    tonight(warehouse, standin, NIGHT + DAY)
    assert assumed(warehouse) == []
    assert words(warehouse, OFF, "1d") == dict.fromkeys(HUNDRED[:3], (1, {}, 0))
