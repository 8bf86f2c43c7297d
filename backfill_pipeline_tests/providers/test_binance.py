"""Binance when all goes well: pages, fillers, bars under way, what it never serves, and what it is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline.providers.base import Lifetime, Provider, Request
from backfill_pipeline.providers.binance import BinanceProvider
from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.errors import NeverServed, ServerTrouble
from backfill_pipeline_tests.providers.polygons import (
    AAPL,
    BITCOIN,
    CRYPTO,
    NOW,
    QUICK,
    XNYS,
    asking,
    hear,
    paths,
    same,
    truth,
    until,
)
from backfill_pipeline_tests.providers.test_http import reply, serving
from backfill_pipeline_tests.standin import StandIn

PAIR = Instrument(3, "BTCUSDT", "crypto", "24/7")
WEEKEND = (date(2026, 7, 31), date(2026, 8, 2))


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


def binance(standin: StandIn, **settings: Any) -> BinanceProvider:
    return BinanceProvider(standin.binance_url, **({"budget": NoBudget(), "patience": QUICK} | settings))


def minutes(start: datetime, count: int) -> Request:
    window = Window(to_micros(start), to_micros(start) + count * MINUTE)
    return Request(PAIR, "1m", window, CRYPTO)


def alike(left: Bars, right: Bars) -> bool:
    """Equal to the last digit but for sums of volume, and vwap, which is a quotient of two rounded sums."""
    close = all(np.allclose(getattr(left, name), getattr(right, name), rtol=1e-12) for name in ("volume", "vwap"))
    return close and same(replace(left, volume=right.volume, vwap=right.vwap), right)


@pytest.mark.parametrize(
    ("page_rows", "asked"), [(1000, 5), (999, 5), (960, 5), (1440, 5), (4320, 5), (61, 71), (10_000, 5)]
)
def test_any_size_of_page_gives_the_same_bars(standin: StandIn, page_rows: int, asked: int) -> None:
    """Above 1,000 the server sends fewer rows than it is asked for, and says nothing."""
    of: Provider = binance(standin, page_rows=page_rows)
    request = asking(*WEEKEND, "1m", PAIR)
    heard = hear(of, request)
    assert alike(heard.raw, truth(standin, request))
    assert len(heard.raw) == 3 * 1440
    assert heard.answered == [request.window]
    assert heard.refused == ()
    assert len(standin.requests) == asked


@pytest.mark.parametrize(("count", "asked"), [(1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 3)])
def test_pages_meet_without_a_gap_or_a_bar_twice(standin: StandIn, count: int, asked: int) -> None:
    request = minutes(datetime(2026, 7, 31, 23, 17, tzinfo=UTC), count)
    heard = hear(binance(standin), request)
    assert heard.raw.ts.tolist() == list(range(request.window.start, request.window.end, MINUTE))
    assert heard.answered == [request.window]
    assert len(standin.requests) == asked


def test_a_page_is_asked_in_milliseconds_with_both_ends_included(standin: StandIn) -> None:
    hear(binance(standin), minutes(datetime(2024, 3, 9, tzinfo=UTC), 1001))
    start, asked = 1_709_942_400_000, "/api/v3/klines?symbol=BTCUSDT&interval=1m"
    assert paths(standin) == [
        f"{asked}&startTime={start}&endTime={start + 59_999_999}&limit=1000",
        f"{asked}&startTime={start + 60_000_000}&endTime={start + 60_059_999}&limit=1000",
    ]


def test_days_come_in_pages_too(standin: StandIn) -> None:
    request = asking(date(2026, 1, 1), date(2026, 7, 31), "1d", PAIR)
    heard = hear(binance(standin, page_rows=100), request)
    assert alike(heard.raw, truth(standin, request))
    assert len(heard.raw) == 212
    assert heard.answered == [request.window]
    assert heard.refused == ()
    assert len(standin.requests) == 3


@pytest.mark.parametrize(
    "days", [(date(2024, 3, 9), date(2024, 3, 11)), (date(2024, 11, 2), date(2024, 11, 4))], ids=["spring", "autumn"]
)
def test_no_clock_change_makes_a_day_longer_or_shorter(standin: StandIn, days: tuple[date, date]) -> None:
    for timeframe, count in (("1m", 3 * 1440), ("1d", 3)):
        request = asking(*days, timeframe, PAIR)  # type: ignore[arg-type]  # one of the two
        heard = hear(binance(standin), request)
        assert len(heard.stored) == count
        assert heard.stored.ts[0] == to_micros(datetime(days[0].year, days[0].month, days[0].day, tzinfo=UTC))
        assert alike(heard.stored, truth(standin, request))


def test_a_minute_in_which_nobody_traded_is_answered_and_is_no_bar(standin: StandIn) -> None:
    quiet = datetime(2026, 8, 1, 0, 5, tzinfo=UTC), datetime(2026, 8, 1, 0, 12, tzinfo=UTC)
    standin.market.silence("BTCUSDT", *quiet)
    request = asking(*WEEKEND, "1m", PAIR)
    heard = hear(binance(standin), request)
    assert len(heard.raw) == 3 * 1440
    assert heard._validated.fillers == 7
    assert alike(heard.stored, truth(standin, request))
    assert len(heard.stored) == 3 * 1440 - 7
    assert heard.answered == [request.window]
    assert np.isnan(heard.raw.vwap[heard.raw.volume == 0]).all()


@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [
        pytest.param("2026-07-31T03:00", "2026-07-31T05:00", 5, id="in the middle of a page"),
        pytest.param("2026-07-31T16:00", "2026-07-31T17:00", 5, id="over the end of a page"),
        pytest.param("2026-07-31T10:00", "2026-08-02T10:00", 5, id="longer than a page"),
        pytest.param("2026-08-02T23:00", "2026-08-03T00:00", 6, id="at the very end: asked for once more"),
        pytest.param("2026-07-31T00:00", "2026-08-03T00:00", 5, id="everything"),
    ],
)
def test_what_binance_never_had_is_answered_without_bars(standin: StandIn, start: str, end: str, asked: int) -> None:
    standin.market.withhold("BTCUSDT", *(datetime.fromisoformat(at).replace(tzinfo=UTC) for at in (start, end)))
    request = asking(*WEEKEND, "1m", PAIR)
    heard = hear(binance(standin), request)
    assert alike(heard.stored, truth(standin, request))
    assert heard.answered == [request.window]
    assert len(standin.requests) == asked


def test_the_minute_under_way_comes_and_is_not_answered(standin: StandIn) -> None:
    last = to_micros(datetime(2026, 8, 5, 15, 30, tzinfo=UTC))
    for second, end in ((0.001, last), (59.999, last), (60, last + MINUTE)):
        now = datetime(2026, 8, 5, 15, 30, tzinfo=UTC) + timedelta(seconds=second)
        standin.set(now=now)
        request = until(asking(date(2026, 8, 5), date(2026, 8, 5), "1m", PAIR), now)
        heard = hear(binance(standin), request, now)
        assert heard.raw.ts[-1] == last
        assert heard.answered == [Window(request.window.start, end)]


def test_a_minute_under_way_without_a_trade_yet_is_not_answered_either(standin: StandIn) -> None:
    now = datetime(2026, 8, 5, 15, 30, 20, tzinfo=UTC)
    standin.set(now=now)
    minute = datetime(2026, 8, 5, 15, 30, tzinfo=UTC)
    standin.market.withhold("BTCUSDT", minute, datetime(2026, 8, 5, 15, 31, tzinfo=UTC))
    request = until(asking(date(2026, 8, 5), date(2026, 8, 5), "1m", PAIR), now)
    heard = hear(binance(standin), request, now)
    assert heard.raw.ts[-1] == to_micros(minute) - MINUTE
    assert heard.answered == [Window(request.window.start, to_micros(minute))]


def test_the_day_under_way_comes_and_is_not_answered(standin: StandIn) -> None:
    request = until(asking(date(2026, 8, 3), date(2026, 8, 6), "1d", PAIR), NOW)
    heard = hear(binance(standin), request)
    today = to_micros(datetime(2026, 8, 6, tzinfo=UTC))
    assert heard.raw.ts[-1] == today
    assert len(heard.raw) == 4
    assert heard.answered == [Window(request.window.start, today)]


def test_a_day_is_due_two_minutes_after_it_has_ended() -> None:
    day = CRYPTO.rows_between(date(2026, 8, 5), date(2026, 8, 5)).start
    due = BinanceProvider.settle.due_at(CRYPTO)[day]
    assert due == to_micros(datetime(2026, 8, 6, 0, 2, tzinfo=UTC))
    assert BinanceProvider.live


@pytest.mark.parametrize(
    ("instrument", "reason"),
    [
        (BITCOIN, "binance has no crypto called X:BTCUSD; its pairs are like BTCUSDT"),
        (AAPL, "binance has no stock called AAPL; its pairs are like BTCUSDT"),
        (Instrument(4, "BTC/USDT", "crypto", "24/7"), "binance has no crypto called BTC/USDT; its pairs"),
        (Instrument(5, "BTCUSDT", "crypto", "XNYS"), "binance has days of the calendar 24/7 only; BTCUSDT is on XNYS"),
    ],
    ids=lambda value: value.symbol if isinstance(value, Instrument) else "",
)
def test_what_is_no_pair_is_never_served_and_never_asked(standin: StandIn, instrument: Instrument, reason: str) -> None:
    of = binance(standin)
    sessions = XNYS if instrument.calendar == "XNYS" else CRYPTO
    served = of.served(instrument, "1m", sessions)
    assert served.window is None
    assert served.reason.startswith(reason)
    request = Request(instrument, "1m", sessions.days_window(date(2026, 7, 31), date(2026, 7, 31)), sessions)
    assert isinstance(hear(of, request).error, NeverServed)
    assert ":" not in instrument.symbol or of.lifetime(instrument.symbol) is None
    assert standin.requests == []


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_pairs_are_served_since_the_exchange_opened(standin: StandIn, timeframe: Base) -> None:
    served = binance(standin).served(PAIR, timeframe, CRYPTO)
    assert served.window is not None
    assert served.window.start == to_micros(datetime(2017, 7, 14, tzinfo=UTC))
    assert served.reason == f"binance serves {timeframe} bars from 2017-07-14 on"


def test_an_unknown_pair_is_never_served_and_asked_once(standin: StandIn) -> None:
    standin.market.unknown("NOPEUSDT")
    of = binance(standin)
    heard = hear(of, asking(*WEEKEND, "1m", Instrument(6, "NOPEUSDT", "crypto", "24/7")))
    assert type(heard.error) is NeverServed
    assert str(heard.error) == (
        "binance: NOPEUSDT 1m 2026-07-31 to 2026-07-31: binance has no such pair: Invalid symbol"
    )
    assert len(standin.requests) == 1
    assert of.lifetime("NOPEUSDT") is None


FIRST_DAY_OF_BITCOIN = (
    b'[[1502928000000,"4261.48","4485.39","4200.74","4285.08","795.15",1503014399999,"3454770.05",3427,"1","2","0"]]'
)


def test_a_pair_is_listed_since_its_first_bar() -> None:
    with serving(reply("200 OK", FIRST_DAY_OF_BITCOIN), reply("200 OK", b"[]"), reply("503 Busy")) as server:
        of = BinanceProvider(server.url, budget=NoBudget(), patience=QUICK)
        assert of.lifetime("BTCUSDT") == Lifetime(date(2017, 8, 17), None)
        assert of.lifetime("SOONUSDT") is None
        with pytest.raises(ServerTrouble, match="binance: lifetime of BTCUSDT: "):
            of.lifetime("BTCUSDT")
        assert len(server.asked) == 4  # a server in trouble is asked twice, and not waited for
    assert server.asked[0].startswith("GET /api/v3/klines?symbol=BTCUSDT&interval=1d&startTime=0&limit=1 HTTP/1.1\r\n")


def test_no_key_is_sent_not_even_one_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(reply("200 OK", FIRST_DAY_OF_BITCOIN)) as server:
        BinanceProvider(server.url, budget=NoBudget(), patience=QUICK).lifetime("BTCUSDT")
    assert "authorization" not in server.asked[0].lower()


@pytest.mark.parametrize(("used", "waits"), [("5399", False), ("5400", True), ("nonsense", False)])
def test_near_the_limit_of_the_minute_nobody_asks_until_the_next(used: str, waits: bool) -> None:
    budget = NoBudget()
    with serving(reply("200 OK", FIRST_DAY_OF_BITCOIN, X_MBX_USED_WEIGHT_1M=used)) as server:
        of = BinanceProvider(server.url, budget=budget, patience=QUICK)
        of.lifetime("BTCUSDT")
        wait, now = of.expected_wait(1), time.time()
    if not waits:
        assert wait == 0
        return
    # The clock's next minute, or the one that has just begun.
    assert 0 <= wait <= 60
    assert min((now + wait) % 60, -(now + wait) % 60) < 1
