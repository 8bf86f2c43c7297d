"""Aggregates as the official client and plain requests read them, against the market's truth."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from massive import RESTClient  # type: ignore[import-untyped]  # ships no types

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.standin.reader import NOW, Reader

Row = tuple[Any, ...]
NEW_YORK = ZoneInfo("America/New_York")
WEEK = "/v2/aggs/ticker/AAPL/range/1/minute/2024-03-08/2024-03-12"


def days(market: Market, first: date, last: date, symbol: str = "AAPL") -> Window:
    return market.sessions(symbol).days_window(first, last)


def columns(bars: Bars) -> list[Row]:
    """As the client's rows: milliseconds, prices, volume, vwap and trades, unknown ones None."""
    vwap = [None if np.isnan(value) else value for value in bars.vwap.tolist()]
    trades = [None if count < 0 else count for count in bars.trades.tolist()]
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return list(zip((bars.ts // 1000).tolist(), *(column.tolist() for column in prices), vwap, trades, strict=True))


def read(standin: StandIn, *path: object, **options: object) -> list[Row]:
    client = RESTClient(api_key=standin.key, base=standin.url, retries=0)
    bars = client.list_aggs(*path, **options)
    names = ("timestamp", "open", "high", "low", "close", "volume", "vwap", "transactions")
    return [tuple(getattr(bar, name) for name in names) for bar in bars]


@pytest.mark.parametrize("limit", [50_000, 1000, 961, 960, 7])
@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_the_official_client_reads_the_market_s_minutes_whatever_the_page_size(limit: int, sort: str) -> None:
    market = Market(bare_share=0.01)
    with StandIn(market, now=NOW) as standin:
        first, last = (date(2024, 3, 8), date(2024, 3, 12)) if limit > 100 else (date(2024, 3, 11), date(2024, 3, 11))
        got = read(standin, "AAPL", 1, "minute", first, last, adjusted=False, limit=limit, sort=sort)
        truth = columns(market.minutes("AAPL", days(market, first, last)))
    assert len(truth) == (2880 if limit > 100 else 960)
    assert {bar[6] is None for bar in truth} == {True, False}
    assert got == (truth if sort == "asc" else truth[::-1])


def test_a_page_is_full_of_base_bars_and_the_last_page_is_not(reader: Reader) -> None:
    sizes, path, params = [], WEEK, {"adjusted": "false", "limit": "960"}
    while path:
        body = reader.json(path, **params)
        assert len(body.get("results", [])) == body["resultsCount"] == body["count"]
        sizes.append(body["queryCount"])
        parts = urlsplit(body.get("next_url", ""))
        assert "adjusted" not in parts.query
        assert reader.standin.key not in parts.query
        path, params = f"{parts.path}?{parts.query}" if parts.path else "", {}
    assert sizes == [960, 960, 960, 0]


def test_pages_may_be_cut_short_and_next_url_may_name_another_host(standin: StandIn, reader: Reader) -> None:
    standin.set(page_limit=700, next_url_host="https://api.massive.com")
    body = reader.json(WEEK, limit=50_000)
    assert body["queryCount"] == 700
    assert body["next_url"].startswith("https://api.massive.com/v2/aggs/ticker/AAPL/range/1/minute/")
    assert len(read(standin, "AAPL", 1, "minute", "2024-03-08", "2024-03-12", adjusted=False, limit=50_000)) == 2880


def test_a_next_page_is_adjusted_unless_raw_is_asked_for_again(standin: StandIn, reader: Reader) -> None:
    standin.market.split("AAPL", date(2024, 3, 12), 1, 4)
    first = reader.json(WEEK, adjusted="false", limit=100)
    parts = urlsplit(first["next_url"])
    raw = reader.json(f"{parts.path}?{parts.query}", adjusted="false")
    adjusted = reader.json(f"{parts.path}?{parts.query}")
    assert (raw["adjusted"], adjusted["adjusted"]) == (False, True)
    assert adjusted["results"][0]["c"] == raw["results"][0]["c"] / 4
    assert adjusted["results"][0]["v"] == raw["results"][0]["v"] * 4


def test_a_split_moves_raw_prices_from_the_premarket_of_its_day_on(standin: StandIn) -> None:
    untouched = Market()
    standin.market.split("AAPL", date(2024, 3, 12), 1, 4)
    rows = read(standin, "AAPL", 1, "minute", "2024-03-11", "2024-03-12", adjusted=False, limit=50_000)
    before = columns(untouched.minutes("AAPL", days(untouched, date(2024, 3, 11), date(2024, 3, 12))))
    premarket = int(datetime(2024, 3, 12, 4, tzinfo=NEW_YORK).timestamp() * 1000)
    assert [row for row in rows if row[0] < premarket] == [row for row in before if row[0] < premarket]
    after, was = next((new, old) for new, old in zip(rows, before, strict=True) if new[0] == premarket)
    assert after[4] == pytest.approx(was[4] / 4, abs=1e-4)
    assert after[5] == was[5] * 4


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        pytest.param("2024-03-08", "2024-03-08", "04:00", "19:59", id="dates"),
        pytest.param("10:00:59", "10:05:01", "10:00", "10:05", id="milliseconds are snapped outward, both inclusive"),
        pytest.param("10:00:00", "10:00:00", "10:00", "10:00", id="one minute"),
    ],
)
def test_a_range_is_inclusive_and_snapped_outward(standin: StandIn, low: str, high: str, first: str, last: str) -> None:
    def at(text: str) -> object:
        if "-" in text:
            return text
        return int(datetime.fromisoformat(f"2024-03-08T{text}").replace(tzinfo=NEW_YORK).timestamp() * 1000)

    rows = read(standin, "AAPL", 1, "minute", at(low), at(high), adjusted=False, limit=50_000)
    edges = [f"{datetime.fromtimestamp(rows[place][0] / 1000, NEW_YORK):%H:%M}" for place in (0, -1)]
    assert edges == [first, last]


def test_day_bars_begin_at_midnight_in_new_york_and_count_every_minute_s_volume(standin: StandIn) -> None:
    rows = read(standin, "AAPL", 1, "day", "2024-03-07", "2024-03-12", adjusted=False)
    starts = [datetime.fromtimestamp(row[0] / 1000, NEW_YORK) for row in rows]
    assert [f"{start:%d %H:%M}" for start in starts] == ["07 00:00", "08 00:00", "11 00:00", "12 00:00"]
    assert rows == columns(standin.market.days("AAPL", date(2024, 3, 7), date(2024, 3, 12)))
    for row, start in zip(rows, starts, strict=True):
        minutes = standin.market.minutes("AAPL", days(standin.market, start.date(), start.date()))
        assert row[5] == pytest.approx(minutes.volume.sum())
        assert row[4] == minutes.close[-1]


@pytest.mark.parametrize("limit", [50_000, 1000, 100])
@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_hours_start_on_the_clock_hour_and_pages_never_cut_one(standin: StandIn, limit: int, sort: str) -> None:
    rows = read(standin, "AAPL", 1, "hour", "2024-03-08", "2024-03-11", adjusted=False, limit=limit, sort=sort)
    assert len(rows) == 2 * 16
    rows = rows if sort == "asc" else rows[::-1]
    minutes = standin.market.minutes("AAPL", days(standin.market, date(2024, 3, 8), date(2024, 3, 11)))
    for (start, *_rest, volume, _vwap, trades), (later, *_) in pairwise(rows):
        assert start % 3_600_000 == 0
        assert start < later
        mine = minutes.between(start * 1000, start * 1000 + 60 * MINUTE)
        assert volume == pytest.approx(mine.volume.sum())
        assert trades == mine.trades.sum()


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_weeks_start_on_sunday_and_pages_never_cut_one(standin: StandIn, sort: str) -> None:
    rows = read(standin, "AAPL", 1, "week", "2024-03-03", "2024-04-06", adjusted=False, limit=12, sort=sort)
    rows = rows if sort == "asc" else rows[::-1]
    starts = [datetime.fromtimestamp(row[0] / 1000, NEW_YORK).date() for row in rows]
    assert starts == [date(2024, 3, 3) + timedelta(weeks=number) for number in range(5)]
    month = standin.market.days("AAPL", date(2024, 3, 3), date(2024, 4, 6))
    assert sum(row[5] for row in rows) == pytest.approx(month.volume.sum())


def test_crypto_days_begin_at_midnight_utc_and_the_prefix_goes_unescaped(standin: StandIn) -> None:
    rows = read(standin, "X:BTCUSD", 1, "day", "2024-03-09", "2024-03-10", adjusted=False)
    assert [row[0] for row in rows] == [1709942400000, 1710028800000]
    minutes = read(standin, "X:BTCUSD", 1, "minute", "2024-03-10", "2024-03-10", adjusted=False, limit=5000)
    assert len(minutes) == 1440


def test_numbers_are_written_as_go_writes_them(standin: StandIn, reader: Reader) -> None:
    at = datetime(2024, 3, 8, 15, tzinfo=UTC)
    standin.market.restate("AAPL", at, open=187.0, volume=112_117_471.0, vwap=0.00001)
    text = reader.get(f"/v2/aggs/ticker/AAPL/range/1/minute/{to_micros(at) // 1000}/{to_micros(at) // 1000}").text
    assert '"v":1.12117471e+08,"vw":1e-05,"o":187,' in text


@pytest.mark.parametrize(("spelling", "expected"), [("absent", ...), ("null", None), ("list", [])])
def test_empty_is_spelled_in_three_ways(standin: StandIn, reader: Reader, spelling: str, expected: object) -> None:
    standin.set(empty=spelling, status="DELAYED")
    body = reader.json("/v2/aggs/ticker/AAPL/range/1/minute/2024-03-09/2024-03-10")
    assert body.get("results", ...) == expected
    assert (body["resultsCount"], body["status"]) == (0, "DELAYED")


def test_nothing_after_now_is_served(standin: StandIn) -> None:
    standin.set(now=datetime(2024, 3, 8, 15, 0, 30, tzinfo=UTC))
    minutes = read(standin, "AAPL", 1, "minute", "2024-03-08", "2024-03-20", adjusted=False, limit=50_000)
    (day,) = read(standin, "AAPL", 1, "day", "2024-03-08", "2024-03-20", adjusted=False)
    assert minutes[-1][0] == to_micros(datetime(2024, 3, 8, 14, 59, tzinfo=UTC)) // 1000
    assert day[5] == pytest.approx(sum(row[5] for row in minutes))


def test_the_whole_market_s_day_comes_in_one_answer_labelled_by_its_end() -> None:
    market = Market(symbols=("AAPL", "NA", "CpL.CL"), fillers=12_500)
    with StandIn(market, now=NOW) as standin:
        client = RESTClient(api_key=standin.key, base=standin.url, retries=0)
        rows = client.get_grouped_daily_aggs(date(2024, 7, 3), adjusted=False)
        closed = Reader(standin).json("/v2/aggs/grouped/locale/us/market/stocks/2024-07-04", adjusted="false")
    assert len(rows) == 12_503
    assert len({row.ticker for row in rows}) == 12_503
    assert {row.timestamp for row in rows} == {1720036800000}  # 16:00 New York on a half day too
    by_ticker = {row.ticker: row for row in rows}
    truth = concatenate([market.days("NA", date(2024, 7, 3), date(2024, 7, 3))])
    assert (by_ticker["NA"].close, by_ticker["NA"].volume) == (truth.close[0], truth.volume[0])
    assert "results" not in closed


def test_an_answer_is_gzipped_only_for_those_who_accept_it(standin: StandIn, reader: Reader) -> None:
    packed = reader.get(WEEK)
    reader.headers["Accept-Encoding"] = "identity"
    plain = reader.get(WEEK)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json()["results"] == json.loads(plain.text)["results"]
