"""Corporate actions and lifetimes as the official client reads them."""

from datetime import date
from urllib.parse import parse_qs, urlsplit

import pytest
from massive import RESTClient  # type: ignore[import-untyped]  # ships no types

from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.reader import Reader

FRIDAY, TUESDAY = date(2024, 3, 8), date(2024, 3, 12)


@pytest.fixture
def client(standin: StandIn) -> RESTClient:
    market = standin.market
    market.split("AAPL", FRIDAY, 1, 4)
    market.split("AAPL", FRIDAY, 1, 4)  # told twice
    market.split("AAPL", TUESDAY, 10, 1)
    market.split("MSFT", TUESDAY, 20, 21)
    market.split("SPY", TUESDAY, 1, 1)
    market.split("HID", TUESDAY, 1, 2, hidden=True)
    market.dividend("AAPL", date(2024, 3, 7), 0.24, declaration_date=None)
    market.dividend("AAPL", date(2024, 3, 11), 0.25)
    market.dividend("MSFT", date(2024, 3, 11), 0.75, currency="CAD")
    return RESTClient(api_key=standin.key, base=standin.url, retries=0)


@pytest.mark.parametrize("limit", [1, 2, 100, 5000])
def test_splits_are_paged_and_duplicates_are_told_as_two(client: RESTClient, limit: int) -> None:
    rows = list(client.list_stocks_splits(limit=limit, sort="execution_date.asc"))
    told = [(row.ticker, row.execution_date, row.split_from, row.split_to, row.adjustment_type) for row in rows]
    assert told == [
        ("AAPL", "2024-03-08", 1, 4, "forward_split"),
        ("AAPL", "2024-03-08", 1, 4, "forward_split"),
        ("AAPL", "2024-03-12", 10, 1, "reverse_split"),
        ("MSFT", "2024-03-12", 20, 21, "stock_dividend"),
        ("SPY", "2024-03-12", 1, 1, "stock_dividend"),
    ]
    assert len({row.id for row in rows}) == 5


def test_a_split_s_factor_is_cumulative_to_today(client: RESTClient) -> None:
    factors = {row.execution_date: row.historical_adjustment_factor for row in client.list_stocks_splits(ticker="AAPL")}
    assert factors == {"2024-03-08": 2.5, "2024-03-12": 10.0}


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        pytest.param({"ticker": "MSFT"}, 1, id="ticker"),
        pytest.param({"ticker_any_of": "MSFT,SPY"}, 2, id="any of"),
        pytest.param({"execution_date_gte": "2024-03-12"}, 3, id="from a day on"),
        pytest.param({"execution_date_gt": "2024-03-08", "ticker_lt": "M"}, 1, id="both"),
        pytest.param({"execution_date_lte": "2024-03-07"}, 0, id="none"),
        pytest.param({"adjustment_type": "reverse_split"}, 1, id="kind"),
    ],
)
def test_splits_are_filtered_on_every_page(client: RESTClient, filters: dict[str, str], count: int) -> None:
    assert len(list(client.list_stocks_splits(limit=1, **filters))) == count


def test_the_cursor_is_opaque_and_alone(client: RESTClient, reader: Reader) -> None:
    body = reader.json("/stocks/v1/splits", limit=1, ticker="AAPL")
    query = urlsplit(body["next_url"]).query
    assert [*parse_qs(query)] == ["cursor"]
    assert query.endswith("=")
    assert "-" in query
    assert "AAPL" not in query


def test_the_deprecated_lists_have_their_own_limits_and_columns(client: RESTClient, reader: Reader) -> None:
    assert [(row.ticker, row.split_to) for row in client.list_splits(ticker="MSFT")] == [("MSFT", 21)]
    assert {*reader.json("/v3/reference/splits")["results"][0]} == {
        *("id", "ticker", "execution_date", "split_from", "split_to"),
    }
    assert [row.cash_amount for row in client.list_dividends(ticker="MSFT")] == [0.75]
    assert reader.get("/v3/reference/splits", limit=1001).status_code == 400
    assert reader.get("/stocks/v1/splits", limit=5001).status_code == 400


def test_dividends_carry_amounts_and_factors_in_today_s_shares(standin: StandIn, client: RESTClient) -> None:
    first, second = client.list_stocks_dividends(ticker="AAPL", sort="ex_dividend_date.asc")
    assert (first.cash_amount, first.split_adjusted_cash_amount) == (0.24, 0.24 * 2.5)
    assert (second.cash_amount, second.split_adjusted_cash_amount) == (0.25, 0.25 * 10)
    closes = standin.market.days("AAPL", date(2024, 3, 6), FRIDAY).close
    expected = 1 - 0.25 / closes[2]
    assert second.historical_adjustment_factor == pytest.approx(expected)
    assert first.historical_adjustment_factor == pytest.approx(expected * (1 - 0.24 / closes[0]))
    assert (first.declaration_date, second.declaration_date is None) == (None, False)


def test_a_ticker_tells_its_lifetime(standin: StandIn, client: RESTClient) -> None:
    standin.market.list_from("GONE", date(2010, 1, 4), FRIDAY)
    gone, here = client.get_ticker_details("GONE"), client.get_ticker_details("AAPL")
    assert (gone.active, gone.list_date, gone.delisted_utc) == (False, "2010-01-04", "2024-03-08T04:00:00Z")
    assert (here.active, here.list_date, here.delisted_utc) == (True, None, None)


def test_a_renamed_ticker_keeps_its_figi_and_lists_its_names(standin: StandIn, client: RESTClient) -> None:
    standin.market.list_from("FB", date(2012, 5, 18))
    standin.market.rename("FB", "META", date(2022, 6, 9))
    old, new = client.get_ticker_details("FB"), client.get_ticker_details("META")
    events = client.get_ticker_events(new.composite_figi)
    assert old.composite_figi == new.composite_figi
    assert (old.active, new.active) == (False, True)
    assert [(event["date"], event["ticker_change"]["ticker"]) for event in events.events] == [
        ("2022-06-09", "META"),
        ("2012-05-18", "FB"),
    ]


def test_an_unknown_ticker_is_404_as_a_reference_and_empty_as_bars(standin: StandIn, reader: Reader) -> None:
    standin.market.unknown("NOPE")
    reply = reader.get("/v3/reference/tickers/NOPE")
    assert (reply.status_code, reply.json()["status"], reply.json()["message"]) == (404, "NOT_FOUND", "Data not found.")
    assert reader.get("/vX/reference/tickers/NOPE/events").status_code == 404
    assert reader.json("/v2/aggs/ticker/NOPE/range/1/day/2024-03-08/2024-03-12")["resultsCount"] == 0


def test_earnings_are_an_add_on(standin: StandIn, reader: Reader) -> None:
    standin.market.earnings("AAPL", FRIDAY, actual_eps=1.5)
    refused = reader.get("/benzinga/v1/earnings")
    assert (refused.status_code, refused.json()["status"]) == (403, "NOT_AUTHORIZED")
    assert "not entitled" in refused.json()["message"]
    standin.set(not_entitled=())
    client = RESTClient(api_key=standin.key, base=standin.url, retries=0)
    (row,) = client.list_benzinga_earnings(ticker="AAPL")
    assert (row.date, row.actual_eps) == ("2024-03-08", 1.5)
