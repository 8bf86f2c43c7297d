"""Tradier when all goes well: how it is asked, which rows are bars, what is answered and what it does not have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.errors import NeverServed
from backfill_pipeline.providers.tradier import requests_per_minute
from backfill_pipeline_tests.providers.polygons import AAPL, BITCOIN, CRYPTO, XNYS, asking, hear, same, until
from backfill_pipeline_tests.providers.tradiers import NOW, asked, provider, spans, truth
from backfill_pipeline_tests.standin import Market, StandIn

DAYS = (date(2024, 7, 29), date(2024, 8, 7))


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


def at(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))


def test_all_the_days_it_keeps_are_one_request(standin: StandIn) -> None:
    of: Provider = provider(standin)
    request = asking(*DAYS)
    heard = hear(of, request, NOW)
    assert same(heard.stored, truth(standin, request))
    assert len(heard.stored) == 8 * 960
    assert (heard.refused, heard.notes, heard.answered) == ((), [], [request.window])
    assert asked(standin) == [
        {
            "symbol": "AAPL",
            "interval": "1min",
            "start": "2024-07-29 00:00",
            "end": "2024-08-07 23:59",
            "session_filter": "all",
        }
    ]
    assert standin.leaks == []


def test_a_holiday_and_a_half_day_are_what_the_calendar_says(standin: StandIn) -> None:
    now = datetime(2024, 12, 4, 12, tzinfo=UTC)
    standin.set(now=now)
    request = asking(date(2024, 11, 26), date(2024, 12, 3))
    heard = hear(provider(standin), request, now)
    assert same(heard.stored, truth(standin, request))
    assert len(heard.stored) == 4 * 960 + 780
    assert heard.answered == [request.window]


@pytest.mark.parametrize(
    ("now", "first", "last", "opens"),
    [
        pytest.param(
            datetime(2024, 3, 14, 12, tzinfo=UTC),
            *(date(2024, 3, 7), date(2024, 3, 12)),
            ["2024-03-07T09:00Z", "2024-03-08T09:00Z", "2024-03-11T08:00Z", "2024-03-12T08:00Z"],
            id="spring",
        ),
        pytest.param(
            datetime(2024, 11, 7, 12, tzinfo=UTC),
            *(date(2024, 10, 31), date(2024, 11, 5)),
            ["2024-10-31T08:00Z", "2024-11-01T08:00Z", "2024-11-04T09:00Z", "2024-11-05T09:00Z"],
            id="autumn",
        ),
    ],
)
def test_a_week_in_which_the_clocks_change(
    standin: StandIn, now: datetime, first: date, last: date, opens: list[str]
) -> None:
    standin.set(now=now)
    request = asking(first, last)
    heard = hear(provider(standin), request, now)
    assert same(heard.stored, truth(standin, request))
    assert heard.answered == [request.window]
    assert heard.stored.ts[::960].tolist() == [at(text) for text in opens]
    assert spans(standin) == [(f"{first} 00:00", f"{last} 23:59")]


def test_an_unknown_vwap_is_unknown() -> None:
    with StandIn(Market(bare_share=0.3), now=NOW) as standin:
        request = asking(*DAYS)
        heard = hear(provider(standin), request, NOW)
        assert same(heard.stored, truth(standin, request))
        assert 0 < np.isnan(heard.stored.vwap).sum() < len(heard.stored)


def test_bars_of_the_night_are_no_bars_here(standin: StandIn) -> None:
    standin.set(tradier_night=True)
    request = asking(*DAYS)
    heard = hear(provider(standin), request, NOW)
    assert len(heard.raw) == 8 * (960 + 8)
    assert same(heard.stored, truth(standin, request))
    assert (heard.refused, heard.answered) == ((), [request.window])


def test_a_single_bar_is_no_list(standin: StandIn) -> None:
    minute = datetime(2024, 8, 7, 15, 30, tzinfo=UTC)
    standin.market.silence("ONE", minute - timedelta(days=1), minute)
    standin.market.silence("ONE", minute + timedelta(minutes=1), minute + timedelta(days=1))
    request = asking(date(2024, 8, 7), date(2024, 8, 7), instrument=Instrument(3, "ONE", "stock", "XNYS"))
    heard = hear(provider(standin), request, NOW)
    assert heard.stored.ts.tolist() == [to_micros(minute)]
    assert same(heard.stored, truth(standin, request))
    assert heard.answered == [request.window]


@pytest.mark.parametrize("spelling", ["null", "text", "missing", "data"])
def test_nothing_is_an_answer_about_days_that_are_over_and_no_other(standin: StandIn, spelling: str) -> None:
    now = datetime(2024, 8, 8, 18, tzinfo=UTC)
    standin.set(now=now, tradier_empty=spelling)
    standin.market.list_from("LATER", date(2024, 9, 2))
    request = until(asking(date(2024, 8, 6), date(2024, 8, 8), "1m", Instrument(3, "LATER", "etf", "XNYS")), now)
    heard = hear(provider(standin), request, now)
    assert (len(heard.raw), heard.error, heard.notes) == (0, None, [])
    assert heard.answered == [XNYS.days_window(date(2024, 8, 6), date(2024, 8, 7))]
    assert len(standin.requests) == 1


def test_a_symbol_it_does_not_know_is_not_a_symbol_without_trades(standin: StandIn) -> None:
    standin.market.unknown("NOPE")
    heard = hear(provider(standin), asking(*DAYS, "1m", Instrument(3, "NOPE", "stock", "XNYS")), NOW)
    assert isinstance(heard.error, NeverServed)
    assert str(heard.error) == "tradier: NOPE 1m 2024-07-29 to 2024-08-08: tradier does not know this symbol"
    assert heard.answered == []
    assert len(standin.requests) == 1


def test_the_session_under_way_is_answered_up_to_its_last_bar_only(standin: StandIn) -> None:
    now = datetime(2024, 8, 8, 15, 30, 20, tzinfo=UTC)
    standin.set(now=now)
    request = until(asking(date(2024, 8, 7), date(2024, 8, 8)), now)
    heard = hear(provider(standin), request, now)
    assert heard.raw.ts[-1] == at("2024-08-08T15:29Z")
    assert heard.answered == [Window(request.window.start, at("2024-08-08T15:29Z"))]
    assert spans(standin) == [("2024-08-07 00:00", "2024-08-08 11:30")]


def test_a_minute_that_is_not_over_is_provisional_though_the_server_sends_it(standin: StandIn) -> None:
    now = datetime(2024, 8, 8, 15, 30, 20, tzinfo=UTC)
    standin.set(now=now + timedelta(minutes=1))  # a server whose clock is ahead of ours
    request = until(asking(date(2024, 8, 8), date(2024, 8, 8)), now)
    heard = hear(provider(standin), request, now)
    assert heard.raw.ts[-1] == at("2024-08-08T15:30Z")
    assert heard.answered == [Window(request.window.start, at("2024-08-08T15:30Z"))]


def test_a_morning_without_a_bar_yet_is_not_answered(standin: StandIn) -> None:
    now = datetime(2024, 8, 8, 7, tzinfo=UTC)
    standin.set(now=now)
    heard = hear(provider(standin), until(asking(date(2024, 8, 7), date(2024, 8, 8)), now), now)
    assert heard.answered == [XNYS.days_window(date(2024, 8, 7), date(2024, 8, 7))]
    alone = hear(provider(standin), until(asking(date(2024, 8, 8), date(2024, 8, 8)), now), now)
    assert (alone.answered, alone.error) == ([], None)


@pytest.mark.parametrize(
    ("now", "last"),
    [
        pytest.param("2024-08-09T00:14:59Z", "2024-08-08T23:59Z", id="20:14:59 in New York"),
        pytest.param("2024-08-09T00:15:00Z", None, id="20:15 in New York"),
        pytest.param("2024-07-03T21:14:59Z", "2024-07-03T20:59Z", id="half day 17:14:59"),
        pytest.param("2024-07-03T21:15:00Z", None, id="half day 17:15"),
    ],
)
def test_a_session_is_settled_a_quarter_of_an_hour_after_its_post_market(
    standin: StandIn, now: str, last: str | None
) -> None:
    moment = datetime.fromisoformat(now)
    standin.set(now=moment)
    day = (moment - timedelta(hours=5)).date()
    request = until(asking(day, day), moment)
    heard = hear(provider(standin), request, moment)
    assert same(heard.raw, truth(standin, request))
    assert heard.answered == [Window(request.window.start, request.window.end if last is None else at(last))]


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (NOW, date(2024, 7, 29)),
        (datetime(2024, 8, 8, 3, 59, tzinfo=UTC), date(2024, 7, 28)),
        (datetime(2024, 11, 7, 12, tzinfo=UTC), date(2024, 10, 28)),
    ],
)
def test_what_it_says_it_serves_is_what_the_server_serves(standin: StandIn, now: datetime, first: date) -> None:
    standin.set(now=now)
    of = provider(standin, now=now)
    served = of.served(AAPL, "1m", XNYS)
    assert served.reason == f"from {first} (tradier keeps 10 days of minutes of all hours)"
    assert served.window is not None
    assert served.window.start == XNYS.days_window(first, first).start
    request = until(asking(first, now.date()), now)
    assert hear(of, request, now).answered[0].start == served.window.start
    assert [seen.status for seen in standin.requests] == [200]


@pytest.mark.parametrize(
    ("instrument", "timeframe", "reason"),
    [
        (AAPL, "1d", "tradier has no unadjusted days: its daily history is split-adjusted"),
        (BITCOIN, "1m", "tradier has no crypto called X:BTCUSD"),
        (Instrument(5, "C:EURUSD", "stock", "XNYS"), "1m", "tradier has no stock called C:EURUSD"),
        (Instrument(6, "VOD", "stock", "XLON"), "1m", "tradier has US stocks only; VOD trades on XLON"),
    ],
)
def test_what_it_does_not_have_is_told_and_not_asked_for(
    standin: StandIn, instrument: Instrument, timeframe: str, reason: str
) -> None:
    sessions = {"24/7": CRYPTO, "XNYS": XNYS}.get(instrument.calendar) or load_sessions("XLON", date(2024, 12, 31))
    of = provider(standin)
    served = of.served(instrument, timeframe, sessions)  # type: ignore[arg-type]  # 1m or 1d
    assert (served.window, served.reason) == (None, reason)
    request = asking(*DAYS, timeframe, instrument)  # type: ignore[arg-type]  # 1m or 1d
    heard = hear(of, type(request)(instrument, request.timeframe, request.window, sessions), NOW)
    assert isinstance(heard.error, NeverServed)
    assert str(heard.error) == reason
    assert standin.requests == []


def test_other_names_of_the_us_calendar_are_served_and_etfs_too(standin: StandIn) -> None:
    sessions = load_sessions("NASDAQ", date(2027, 12, 31))
    for asset_class in ("stock", "etf"):
        instrument = Instrument(7, "QQQ", asset_class, "NASDAQ")  # type: ignore[arg-type]  # both are
        assert provider(standin).served(instrument, "1m", sessions).window is not None


def test_what_is_older_than_kept_is_asked_once_and_the_rest_from_the_boundary(standin: StandIn) -> None:
    request = asking(date(2024, 7, 8), date(2024, 8, 7))
    heard = hear(provider(standin), request, NOW)
    edge = XNYS.days_window(*DAYS)
    assert heard.error is None
    assert heard.answered == [edge]
    assert same(heard.stored, truth(standin, asking(*DAYS)))
    assert heard.notes == ["tradier serves minutes of AAPL from 2024-07-29 00:00 New York time"]
    assert [seen.status for seen in standin.requests] == [400, 200]
    assert spans(standin)[1] == ("2024-07-29 00:00", "2024-08-07 23:59")


def test_a_request_that_is_older_as_a_whole_is_answered_by_the_note_alone(standin: StandIn) -> None:
    heard = hear(provider(standin), asking(date(2024, 7, 8), date(2024, 7, 12)), NOW)
    assert (heard.error, heard.answered, len(heard.raw)) == (None, [], 0)
    assert heard.notes == ["tradier serves minutes of AAPL from 2024-07-29 00:00 New York time"]
    assert len(standin.requests) == 1


def test_a_server_that_keeps_more_than_it_says_is_asked_for_it(standin: StandIn) -> None:
    standin.set(tradier_depth=False)
    request = asking(date(2024, 7, 8), date(2024, 8, 7))  # 23 sessions, nine to a request
    heard = hear(provider(standin), request, NOW)
    assert same(heard.stored, truth(standin, request))
    assert (heard.answered, heard.notes) == ([request.window], [])
    assert len(standin.requests) == 3


@pytest.mark.parametrize("symbol", ["BRK/B", "A&session_filter=open", "a?b#c%d", "NA", "é"])
def test_no_symbol_can_leave_its_place_in_the_query(standin: StandIn, symbol: str) -> None:
    request = asking(date(2024, 8, 7), date(2024, 8, 7), "1m", Instrument(6, symbol, "stock", "XNYS"))
    heard = hear(provider(standin), request, NOW)
    assert same(heard.stored, truth(standin, request))
    assert len(heard.stored) == 960
    assert [query["symbol"] for query in asked(standin)] == [symbol]


def test_a_page_holds_the_most_sessions_that_ten_days_and_today_can_have(standin: StandIn) -> None:
    days = XNYS.session
    held = np.searchsorted(days, days + np.timedelta64(10, "D"), side="right") - np.arange(len(days))
    assert provider(standin).page_rows("1m") == held.max() * 960


def test_lifetimes_are_not_known_and_the_rate_is_under_what_is_documented(standin: StandIn) -> None:
    assert provider(standin).lifetime("AAPL") is None
    assert standin.requests == []
    assert requests_per_minute("https://api.tradier.com/v1") < 120
    assert requests_per_minute("https://sandbox.tradier.com/v1") < 60
