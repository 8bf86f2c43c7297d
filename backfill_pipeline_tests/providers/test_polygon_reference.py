"""Lifetimes and names from Polygon's reference, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import orjson
import pytest

from backfill_pipeline.providers.base import Lifetime, NamingProvider
from backfill_pipeline.providers.errors import ProviderError, ProviderStopped, Retryable
from backfill_pipeline.providers.http import Reply
from backfill_pipeline.providers.polygon_reference import read_changes, read_lifetime
from backfill_pipeline_tests.providers.polygons import paths, provider
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.polygon_reference import figi

ON = date(2022, 6, 9)
LISTED = date(2012, 5, 18)


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn() as started:
        started.market.list_from("FB", LISTED)
        started.market.rename("FB", "META", ON)
        started.market.list_from("GONE", date(2004, 8, 19), date(2014, 4, 2))
        started.market.unknown("NOPE")
        yield started


@pytest.fixture
def standin(running: StandIn) -> StandIn:
    running.reset()
    return running


def test_a_lifetime_comes_with_the_id_that_stays_when_the_ticker_changes(standin: StandIn) -> None:
    of = provider(standin)
    assert of.lifetime("GONE") == Lifetime(date(2004, 8, 19), date(2014, 4, 2), figi("GONE"))
    assert of.lifetime("META") == of.lifetime("FB") == Lifetime(LISTED, None, figi("FB"))
    assert isinstance(of, NamingProvider)


def test_names_are_asked_by_the_id(standin: StandIn) -> None:
    assert sorted(provider(standin).ticker_changes(figi("FB"))) == [(LISTED, "FB"), (ON, "META")]
    assert paths(standin) == [f"/vX/reference/tickers/{figi('FB')}/events?types=ticker_change"]


def test_what_the_reference_does_not_have_is_unknown_and_asked_once(standin: StandIn) -> None:
    of = provider(standin)
    assert of.lifetime("NOPE") is None
    assert of.ticker_changes("NOPE") == ()
    standin.set(not_entitled=("/vX/",))
    try:
        assert of.ticker_changes(figi("FB")) == ()
    finally:
        standin.set(not_entitled=())
    assert [seen.status for seen in standin.requests] == [404, 404, 403]


def test_trouble_is_no_answer_and_not_waited_for(standin: StandIn) -> None:
    standin.fault("503", times=None)
    with pytest.raises(Retryable):
        provider(standin).lifetime("GONE")
    assert len(standin.requests) == 2
    standin.clear_faults()
    standin.fault("401")
    with pytest.raises(ProviderStopped):
        provider(standin).ticker_changes(figi("FB"))


def test_an_odd_ticker_goes_escaped(standin: StandIn) -> None:
    provider(standin).lifetime("BRK/B")
    provider(standin).lifetime("X:BTCUSD")
    assert [seen.path for seen in standin.requests] == [
        "/v3/reference/tickers/BRK%2FB",
        "/v3/reference/tickers/X:BTCUSD",
    ]


class Says:
    """A server that answers everything with one body."""

    def __init__(self, body: object) -> None:
        self.body = body

    def get(self, target: str, read: Any, *, what: str, tries: int) -> Any:
        return read(Reply("polygon: test", 200, {}, orjson.dumps(self.body)))


@pytest.mark.parametrize(
    "results", [None, [], "no", {"ticker": "OTHER", "list_date": "2020-01-02"}], ids=["null", "list", "text", "other"]
)
def test_an_answer_about_nothing_or_another_is_unknown(results: object) -> None:
    assert read_lifetime(Says({"results": results}), "AAPL") is None  # type: ignore[arg-type]  # it only gets


def test_fields_that_are_no_dates_and_no_ids_are_unknown() -> None:
    body = {"results": {"ticker": "AAPL", "list_date": "soon", "delisted_utc": 7, "composite_figi": ""}}
    assert read_lifetime(Says(body), "AAPL") == Lifetime(None, None, None)  # type: ignore[arg-type]  # it only gets


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (None, ()),
        ({}, ()),
        (["x", {"type": "split", "date": "2020-01-02", "ticker_change": {"ticker": "A"}}], ()),
        ([{"type": "ticker_change", "date": "soon", "ticker_change": {"ticker": "A"}}], ()),
        ([{"type": "ticker_change", "date": "2020-01-02", "ticker_change": {"ticker": ""}}], ()),
        ([{"type": "ticker_change", "date": "2020-01-02", "ticker_change": "A"}], ()),
        (
            [{"type": "ticker_change", "date": "2020-01-02", "ticker_change": {"ticker": "NA"}}, {}],
            ((date(2020, 1, 2), "NA"),),
        ),
    ],
)
def test_events_that_say_nothing_are_left_out(events: object, expected: tuple[tuple[date, str], ...]) -> None:
    assert read_changes(Says({"results": {"events": events}}), "BBG1") == expected  # type: ignore[arg-type]  # it only gets


def test_no_error_is_anything_but_a_provider_s() -> None:
    with pytest.raises(ProviderError):
        read_lifetime(Says([]), "AAPL")  # type: ignore[arg-type]  # it only gets
