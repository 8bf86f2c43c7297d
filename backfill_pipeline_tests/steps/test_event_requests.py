"""What the market's events cost in requests, and whom they belong to: a real socket, a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from backfill_pipeline.storage.events import read_dividends
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.happenings import EX, NOW, Office, followed, office


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


@pytest.fixture
def desk(database_url: str, standin: StandIn) -> Iterator[Office]:
    with office(database_url, standin) as made:
        yield made


def test_a_hundred_symbols_cost_no_more_requests_than_one(desk: Office, standin: StandIn) -> None:
    symbols = [f"S{number:03d}" for number in range(100)]
    for symbol in symbols:
        standin.market.split(symbol, EX, 20, 21)
    desk.follow(*symbols)

    done = desk.run()

    assert len(desk.splits()) == 100
    assert len(standin.requests) == 3  # splits, dividends, and earnings that the plan lacks
    assert done.requests == 2
    assert not any("ticker" in seen.path for seen in standin.requests)


def splits_asked(desk: Office, days_later: int) -> list[str]:
    """A run so many days after NOW: which dates of splits it asks for."""
    desk.standin.reset()
    desk.run(NOW + timedelta(days=days_later))
    queries = [seen.path.partition("?")[2] for seen in desk.standin.requests if "splits" in seen.path]
    return [query.partition("&sort")[0] for query in queries]


def test_older_days_and_new_symbols_are_asked_and_the_rest_is_not_again(desk: Office, standin: StandIn) -> None:
    standin.market.split("AAPL", date(2020, 8, 31), 20, 21)
    standin.market.split("MSFT", date(2024, 2, 1), 20, 21)
    desk.follow("AAPL")
    desk.run()
    assert desk.splits() == []

    desk.run(NOW + timedelta(days=1))
    desk.follow("AAPL", since=date(2019, 1, 2))
    desk.follow("MSFT", since=date(2024, 1, 2))
    asked = splits_asked(desk, 1)

    assert [row[0] for row in desk.splits()] == ["AAPL", "MSFT"]
    # Nothing lies between the two days that the new symbol and the old one want, so it is one list.
    assert asked == ["execution_date.gte=2019-01-02"]

    assert splits_asked(desk, 2) == ["execution_date.gte=2024-04-30"]

    desk.query("DELETE FROM wanted")
    desk.follow("AAPL", "MSFT", since=date(2024, 5, 1))
    assert splits_asked(desk, 3) == ["execution_date.gte=2024-05-01"]
    desk.follow("AAPL", since=date(2019, 1, 2))
    assert splits_asked(desk, 4) == ["execution_date.gte=2024-05-02"]  # older days were asked once and for all


def test_a_kind_that_cannot_be_asked_stops_no_other_and_is_asked_in_full_next_time(
    desk: Office, standin: StandIn
) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    standin.market.dividend("AAPL", EX, 0.5)
    followed(desk, "AAPL")
    standin.fault("403_entitled", path="/stocks/v1/splits")

    done = desk.run()

    assert len(done.failures) == 1
    assert done.failures[0].startswith("polygon: splits from 2024-01-02 on: not in the plan")
    assert (desk.splits(), len(read_dividends(desk.conn, desk.id("AAPL")))) == ([], 1)
    assert desk.run().failures == []
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]


def test_an_event_belongs_to_whoever_had_the_ticker_that_day(desk: Office, standin: StandIn) -> None:
    standin.market.rename("FB", "META", date(2024, 4, 1))
    standin.market.dividend("FB", date(2024, 3, 1), 0.5)
    standin.market.dividend("FB", EX, 0.5)
    desk.follow("META")
    desk.query(
        "INSERT INTO symbol_names (symbol_id, provider, ticker, valid_from, valid_to, by_hand) VALUES"
        " (%s, '*', 'FB', '-infinity', '2024-03-31', true), (%s, '*', 'META', '2024-04-01', NULL, true)",
        *[desk.id("META")] * 2,
    )
    desk.run()
    assert [one.ex_date for one in read_dividends(desk.conn, desk.id("META"))] == [date(2024, 3, 1), EX]


def test_nobody_followed_costs_nothing(desk: Office, standin: StandIn) -> None:
    assert desk.run().notes == ["no stock is followed"]
    assert standin.requests == []
