"""Polygon when all goes well: how it is asked, how pages become bars, what is answered, what a plan cuts off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.budget import OwnMemory
from backfill_pipeline.providers.errors import NeverServed, NotYet
from backfill_pipeline_tests.providers.polygons import (
    AAPL,
    BITCOIN,
    NOW,
    XNYS,
    asking,
    hear,
    paths,
    provider,
    same,
    truth,
    until,
)
from backfill_pipeline_tests.standin import StandIn

WEEK = (date(2026, 7, 27), date(2026, 7, 31))


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


def test_two_years_of_a_busy_stocks_minutes_are_ten_full_requests(standin: StandIn) -> None:
    of: Provider = provider(standin)
    request = asking(date(2024, 8, 6), date(2026, 8, 5))
    heard = hear(of, request)
    assert heard.answered == [request.window]
    assert same(heard.raw, truth(standin, request))
    assert len(heard.raw) == 480_060
    assert len(standin.requests) == 10
    assert standin.leaks == []


@pytest.mark.parametrize("page_rows", [997, 960, 4800, 50_000])
def test_any_size_of_page_gives_the_same_bars(standin: StandIn, page_rows: int) -> None:
    request = asking(*WEEK)
    heard = hear(provider(standin, page_rows=page_rows), request)
    assert same(heard.raw, truth(standin, request))
    assert heard.answered == [request.window]
    assert all("adjusted=false" in path for path in paths(standin))


def test_pages_that_the_server_makes_smaller_are_followed_to_the_end(standin: StandIn) -> None:
    standin.set(page_limit=1000, next_url_host="https://api.massive.com")
    request = asking(*WEEK)
    heard = hear(provider(standin), request)
    assert same(heard.raw, truth(standin, request))
    assert heard.answered == [request.window]
    assert len(standin.requests) == 5


def test_years_of_days_are_one_request(standin: StandIn) -> None:
    request = asking(date(2023, 8, 1), date(2026, 7, 31), "1d")
    heard = hear(provider(standin), request)
    assert same(heard.raw, truth(standin, request))
    assert heard.answered == [request.window]
    assert paths(standin) == [
        "/v2/aggs/ticker/AAPL/range/1/day/2023-08-01/2026-07-31?adjusted=false&sort=asc&limit=50000"
    ]


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_crypto_is_asked_by_utc_days_under_its_own_name(standin: StandIn, timeframe: str) -> None:
    request = asking(*WEEK, timeframe, BITCOIN)  # type: ignore[arg-type]  # one of the two
    heard = hear(provider(standin), request)
    assert same(heard.raw, truth(standin, request))
    assert len(heard.raw) == (7200 if timeframe == "1m" else 5)
    assert heard.refused == ()
    assert "/ticker/X:BTCUSD/" in paths(standin)[0]


def test_a_symbol_that_hardly_trades_is_asked_in_longer_windows(standin: StandIn) -> None:
    standin.market.list_from("NEW", date(2026, 6, 1))
    request = asking(date(2022, 8, 8), date(2026, 8, 5), "1m", Instrument(3, "NEW", "stock", "XNYS"))
    heard = hear(provider(standin), request)
    assert same(heard.raw, truth(standin, request))
    assert heard.answered == [request.window]
    # 52, 189, 687 sessions and the rest, and two questions about the plan.
    assert len(standin.requests) == 6


def test_a_day_under_way_is_answered_up_to_its_last_bar_only(standin: StandIn) -> None:
    now = datetime(2026, 8, 5, 15, 30, 20, tzinfo=UTC)
    standin.set(now=now)
    request = until(asking(date(2026, 8, 4), date(2026, 8, 5)), now)
    heard = hear(provider(standin), request, now)
    assert heard.raw.ts[-1] == to_micros(datetime(2026, 8, 5, 15, 29, tzinfo=UTC))
    assert heard.answered == [Window(request.window.start, int(heard.raw.ts[-1]))]


@pytest.mark.parametrize(
    ("now", "settled"),
    [(datetime(2026, 8, 6, 4, 14, 59, tzinfo=UTC), False), (datetime(2026, 8, 6, 4, 15, tzinfo=UTC), True)],
)
def test_a_day_is_settled_at_a_quarter_past_midnight_in_new_york(
    standin: StandIn, now: datetime, settled: bool
) -> None:
    standin.set(now=now)
    for timeframe, last in (
        ("1m", datetime(2026, 8, 5, 23, 59, tzinfo=UTC)),
        ("1d", datetime(2026, 8, 5, 4, tzinfo=UTC)),
    ):
        request = asking(date(2026, 8, 4), date(2026, 8, 5), timeframe)  # type: ignore[arg-type]  # one of the two
        heard = hear(provider(standin), request, now)
        assert len(heard.raw) == (1920 if timeframe == "1m" else 2)
        end = request.window.end if settled else to_micros(last)
        assert heard.answered == [Window(request.window.start, end)]


def test_a_plan_that_refuses_old_days_is_learned_once(standin: StandIn) -> None:
    standin.set(history_years=2)
    memory = OwnMemory()
    of = provider(standin, limits=memory)
    assert of.served(AAPL, "1m", XNYS).reason == "polygon serves 1m bars of stocks"
    request = asking(date(2023, 8, 7), date(2026, 8, 5))
    heard = hear(of, request)
    edge = XNYS.days_window(date(2024, 8, 6), date(2024, 8, 6)).start
    assert heard.error is None
    assert heard.answered == [Window(edge, request.window.end)]
    assert heard.notes == ["polygon serves AAPL from 2024-08-06 (plan)"]
    assert len(standin.requests) == 12  # one refused, one to make sure, and ten pages
    served = of.served(AAPL, "1m", XNYS)
    assert served.reason == "from 2024-08-06 (plan)"
    assert served.window is not None
    assert served.window.start == edge
    standin.reset()
    other = provider(standin, limits=memory)
    assert hear(other, asking(date(2024, 1, 2), date(2024, 8, 9), "1d")).answered[0].start == edge
    assert [seen.status for seen in standin.requests] == [200]


def test_a_plan_that_clips_in_silence_is_found_out(standin: StandIn) -> None:
    standin.set(history_years=2, too_old="clipped")
    of = provider(standin)
    request = asking(date(2023, 8, 7), date(2024, 9, 30))
    heard = hear(of, request)
    edge = XNYS.days_window(date(2024, 8, 6), date(2024, 8, 6)).start
    assert heard.answered == [Window(edge, request.window.end)]
    assert of.served(AAPL, "1m", XNYS).reason == "from 2024-08-06 (plan)"
    assert all("/ticker/SPY/" in path for path in paths(standin)[1:3])


@pytest.mark.parametrize("too_old", ["refused", "clipped"])
@pytest.mark.parametrize(("years", "edge"), [(5, date(2021, 8, 6)), (2.6, date(2024, 1, 2)), (0.5, date(2026, 2, 4))])
def test_any_edge_is_found_to_the_day(standin: StandIn, too_old: str, years: float, edge: date) -> None:
    standin.set(history_years=years, too_old=too_old)
    of = provider(standin)
    heard = hear(of, asking(date(2021, 7, 1), edge + timedelta(days=30), "1d"))
    assert heard.answered == [Window(XNYS.days_window(edge, edge).start, heard.request.window.end)]
    assert of.served(AAPL, "1m", XNYS).reason == f"from {edge} (plan)"
    assert len(standin.requests) < 20


def test_a_symbol_listed_late_is_not_taken_for_a_plan(standin: StandIn) -> None:
    standin.market.list_from("NEW", date(2025, 6, 2))
    of = provider(standin)
    for _ in range(2):
        request = asking(date(2024, 8, 6), date(2026, 8, 5), "1d", Instrument(3, "NEW", "stock", "XNYS"))
        assert hear(of, request).answered == [request.window]
    assert of.served(AAPL, "1m", XNYS).reason == "polygon serves 1m bars of stocks"
    assert len(standin.requests) == 4  # the second time the plan is known to reach so far


def test_a_learned_limit_moves_on_with_the_days_and_is_looked_for_again_after_a_month(standin: StandIn) -> None:
    standin.set(history_years=2)
    memory = OwnMemory()
    hear(provider(standin, limits=memory), asking(date(2024, 1, 2), date(2024, 9, 3), "1d"))

    def reason(days: int) -> str:
        return provider(standin, limits=memory, now=NOW + timedelta(days=days)).served(AAPL, "1d", XNYS).reason

    assert reason(0) == "from 2024-08-06 (plan)"
    assert reason(29) == "from 2024-09-04 (plan)"
    assert reason(30) == "polygon serves 1d bars of stocks"


def test_a_plan_without_today_is_learned_and_today_waits(standin: StandIn) -> None:
    now = datetime(2026, 8, 5, 18, tzinfo=UTC)
    standin.set(today="refused", now=now)
    memory = OwnMemory()
    request = until(asking(date(2026, 8, 3), date(2026, 8, 5)), now)
    yesterday = XNYS.days_window(date(2026, 8, 3), date(2026, 8, 4))
    assert provider(standin, limits=memory, now=now).serves_today(request.instrument)
    for asked in ([403, 200], [200]):
        standin.reset()
        heard = hear(provider(standin, limits=memory), request, now)
        assert heard.error is None
        assert heard.answered == [yesterday]
        assert heard.notes == ["polygon: AAPL 1m: this plan has a day 15 minutes after its end"]
        assert [seen.status for seen in standin.requests] == asked
    standin.reset()
    heard = hear(provider(standin, limits=memory), until(asking(date(2026, 8, 5), date(2026, 8, 5)), now), now)
    assert isinstance(heard.error, NotYet)
    assert not provider(standin, limits=memory, now=now).serves_today(request.instrument)
    assert standin.requests == []


def test_a_grouped_day_is_keyed_by_the_date_asked_and_not_by_its_rows(standin: StandIn) -> None:
    standin.market.fillers = 500
    days = provider(standin).fetch_grouped(date(2026, 7, 31), XNYS)
    assert len(days) == 503
    request = asking(date(2026, 7, 31), date(2026, 7, 31), "1d")
    assert same(days["AAPL"], truth(standin, request))
    assert len(standin.requests) == 1
    assert provider(standin).fetch_grouped(date(2026, 7, 4), XNYS) == {}


def test_crypto_needs_its_prefix_and_stocks_have_none(standin: StandIn) -> None:
    of = provider(standin)
    for instrument in (Instrument(4, "BTCUSDT", "crypto", "24/7"), Instrument(5, "C:EURUSD", "stock", "XNYS")):
        assert of.served(instrument, "1m", XNYS).window is None
        assert isinstance(hear(of, asking(*WEEK, "1m", instrument)).error, NeverServed)
    assert standin.requests == []


@pytest.mark.parametrize(
    ("symbol", "segment"),
    [("BRK.B", "BRK.B"), ("A/B", "A%2FB"), ("a?b#c%d", "a%3Fb%23c%25d"), ("NA", "NA"), ("é", "%C3%A9")],
)
def test_no_symbol_can_leave_its_place_in_the_path(standin: StandIn, symbol: str, segment: str) -> None:
    request = asking(*WEEK, "1d", Instrument(6, symbol, "stock", "XNYS"))
    heard = hear(provider(standin), request)
    assert heard.error is None
    assert len(heard.raw) == 5
    assert f"/ticker/{segment}/range/" in paths(standin)[0]


def test_dots_alone_are_no_symbol(standin: StandIn) -> None:
    heard = hear(provider(standin), asking(*WEEK, "1d", Instrument(7, "..", "stock", "XNYS")))
    assert isinstance(heard.error, NeverServed)
    assert standin.requests == []
