"""Polygon's lists of events over a real socket: pages, doubles, damage, and an add-on that the plan lacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from massive import RESTClient  # type: ignore[import-untyped]  # ships no types
from pydantic import SecretStr

from backfill_pipeline.domain.actions import DividendEvent, EarningsEvent, SplitEvent
from backfill_pipeline.domain.asking import Days
from backfill_pipeline.providers.base import EventSource
from backfill_pipeline.providers.budget import LimitMemory, NoBudget, OwnMemory
from backfill_pipeline.providers.errors import NeverServed, ProviderError, ProviderStopped, ServerTrouble
from backfill_pipeline.providers.http import Http, Patience
from backfill_pipeline.providers.polygon_events import PolygonEvents
from backfill_pipeline_tests.standin import StandIn, service
from backfill_pipeline_tests.standin.replies import as_json

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
FRIDAY, TUESDAY = date(2024, 3, 8), date(2024, 3, 12)
ALL = Days(date(2024, 1, 1), None)
QUICK = Patience(tries=3, backoff=0.001, silence=10.0)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        market = running.market
        market.split("AAPL", FRIDAY, 1, 4)
        market.split("AAPL", FRIDAY, 1, 4)  # told twice
        market.split("MSFT", TUESDAY, 20, 21)
        market.split("SPY", date(2024, 5, 1), 10, 1)
        market.dividend("AAPL", FRIDAY, 0.24, declaration_date=None)
        market.dividend("MSFT", TUESDAY, 0.75, currency="CAD")
        yield running


def source(
    standin: StandIn, rows: int = 5000, limits: LimitMemory | None = None, now: datetime = NOW, **settings: Any
) -> PolygonEvents:
    http = Http("polygon", standin.url, SecretStr(settings.pop("key", standin.key)), NoBudget(), patience=QUICK)
    return PolygonEvents(http, limits or OwnMemory(), "abc", page_rows=rows, now=lambda: now)


def test_the_provider_keeps_the_contract(standin: StandIn) -> None:
    assert isinstance(source(standin), EventSource)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5000])
def test_any_size_of_pages_tells_the_same_splits(standin: StandIn, rows: int) -> None:
    told = {(ticker, s.ex_date, s.split_from, s.split_to) for ticker, s in source(standin, rows).splits(ALL)}
    client = RESTClient(api_key=standin.key, base=standin.url, retries=0)
    assert told == {
        (row.ticker, date.fromisoformat(row.execution_date), row.split_from, row.split_to)
        for row in client.list_stocks_splits()
    }
    assert len(told) == 3


def test_everything_a_row_says_is_read(standin: StandIn) -> None:
    standin.set(not_entitled=())
    standin.market.earnings("AAPL", FRIDAY, actual_eps=1.5, fiscal_year=2024, fiscal_period="Q1", benzinga_id="b1")
    splits, dividends = dict(source(standin).splits(ALL)), dict(source(standin).dividends(ALL))
    told = splits["MSFT"].provider_id
    assert splits["MSFT"] == SplitEvent(TUESDAY, 20, 21, "stock_dividend", told)
    assert len(told) > 10
    assert dividends["AAPL"] == DividendEvent(
        FRIDAY,
        0.24,
        "USD",
        None,
        date(2024, 3, 9),
        date(2024, 3, 22),
        "recurring",
        4,
        dividends["AAPL"].provider_id,
    )
    assert dividends["MSFT"].declaration_date == date(2024, 2, 20)
    assert list(source(standin).earnings(ALL)) == [
        ("AAPL", EarningsEvent(FRIDAY, fiscal_year=2024, fiscal_period="Q1", actual_eps=1.5, provider_id="b1"))
    ]


def test_the_market_is_asked_by_date_and_nobody_by_name(standin: StandIn) -> None:
    asked = source(standin)
    assert [ticker for ticker, _ in asked.splits(Days(FRIDAY, TUESDAY))] == ["AAPL", "AAPL"]
    (seen,) = standin.requests
    query = parse_qs(urlsplit(seen.path).query)
    assert query == {
        "execution_date.gte": ["2024-03-08"],
        "execution_date.lt": ["2024-03-12"],
        "sort": ["execution_date.asc"],
        "limit": ["5000"],
    }
    assert asked.answered == 1


def test_thousands_of_rows_are_few_requests(standin: StandIn) -> None:
    for number in range(238):
        standin.market.split(f"Z{number}", FRIDAY + timedelta(days=number), 1, 2)
    asked = source(standin, 100)
    assert len(list(asked.splits(ALL))) == 242
    assert asked.answered == len(standin.requests) == 3


def test_next_urls_of_another_host_lead_back_here(standin: StandIn) -> None:
    standin.set(next_url_host="https://api.massive.com")
    assert len(list(source(standin, 1).splits(ALL))) >= 4
    assert standin.leaks == []


@pytest.mark.parametrize(
    ("fault", "times", "kind"),
    [
        pytest.param("503", 2, None, id="two 503s"),
        pytest.param("truncated_json", 1, None, id="JSON that ends early"),
        pytest.param("truncated_gzip", 1, None, id="gzip that ends early"),
        pytest.param("html_200", 1, None, id="a page of HTML"),
        pytest.param("page_without_results", 1, None, id="a page without results"),
        pytest.param("full_page_without_next_url", 1, None, id="a full page that leads nowhere"),
        pytest.param("connection_reset", 1, None, id="a reset"),
        pytest.param("429", 1, None, id="a 429"),
        pytest.param("503", None, ServerTrouble, id="503 for ever"),
        pytest.param("401", 1, ProviderStopped, id="a wrong key"),
        pytest.param("403_entitled", 1, NeverServed, id="not in the plan"),
    ],
)
def test_a_fault_is_survived_or_told_in_one_line(
    standin: StandIn, fault: str, times: int | None, kind: type[ProviderError] | None
) -> None:
    standin.fault(fault, times=times)
    asked = source(standin, 2)
    if kind is None:
        assert {ticker for ticker, _ in asked.splits(ALL)} == {"AAPL", "MSFT", "SPY"}
        return
    with pytest.raises(kind) as raised:
        list(asked.splits(ALL))
    assert str(raised.value).startswith("polygon: splits from 2024-01-01 on")
    assert "\n" not in str(raised.value)
    assert standin.key not in str(raised.value)


def test_missing_earnings_are_asked_for_and_said_once_a_month(
    standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    limits = OwnMemory()
    for days in (0, 1, 29):
        with pytest.raises(NeverServed):
            list(source(standin, limits=limits, now=NOW + timedelta(days=days)).earnings(ALL))
    assert len(standin.requests) == 1
    assert len(caplog.messages) == 1
    assert "not entitled" in caplog.text

    standin.set(not_entitled=())
    standin.market.earnings("AAPL", FRIDAY)
    asked = source(standin, limits=limits, now=NOW + timedelta(days=31))
    assert [ticker for ticker, _ in asked.earnings(ALL)] == ["AAPL"]


ROWS: list[Any] = [
    {"ticker": "A", "execution_date": "2024-03-08", "split_from": "1", "split_to": 4},
    {"ticker": "B", "execution_date": "2024-03-08", "split_from": True, "split_to": 1e400},
    {"ticker": "C", "execution_date": "2024-03-08T00:00:00Z", "split_from": 1, "split_to": 2, "id": 7},
    {"ticker": "D", "execution_date": "soon", "split_from": 1, "split_to": 2},
    {"execution_date": "2024-03-08", "split_from": 1, "split_to": 2},
    {"ticker": "E", "execution_date": "2023-12-31", "split_from": 1, "split_to": 2},
    None,
    "row",
]


def test_pages_in_a_circle_are_no_answer(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"results": ROWS[:1], "next_url": "https://api.massive.com/stocks/v1/splits?cursor=again"}
    monkeypatch.setitem(service._ROUTES, "/stocks/v1/splits", lambda _call, _market: as_json(200, body))
    with pytest.raises(ServerTrouble, match="pages that do not end; nothing of it is stored"):
        list(source(standin).splits(ALL))
    assert len(standin.requests) == 2


def test_nonsense_becomes_no_number_and_rows_of_nobody_are_left_out(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(service._ROUTES, "/stocks/v1/splits", lambda _call, _market: as_json(200, {"results": ROWS}))
    assert list(source(standin).splits(ALL)) == [
        ("A", SplitEvent(FRIDAY, 0.0, 4.0)),
        ("B", SplitEvent(FRIDAY, 0.0, 0.0)),
        ("C", SplitEvent(FRIDAY, 1.0, 2.0)),
    ]
    assert caplog.text.count("without a ticker or a date") == 4
