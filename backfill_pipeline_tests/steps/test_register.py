"""Registering symbols: checked arguments, known facts that stay, and what is to be kept since when."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.base import Lifetime
from backfill_pipeline.steps.register import Registration, parse_registration, register
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.storage.symbols import get_instruments
from backfill_pipeline_tests.steps.warehouses import Exchange, backfill, ny, opened, query

TODAY = date(2024, 2, 29)
NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


def _parse(
    symbols: object = ("AAPL",),
    asset_class: str | None = None,
    calendar: str | None = None,
    bars: tuple[str, ...] = ("1m", "1d"),
    since: str | None = None,
) -> Registration:
    return parse_registration(
        symbols,  # type: ignore[arg-type]  # some are wrong on purpose
        asset_class=asset_class,
        calendar=calendar,
        bars=bars,
        since=since,
        today=TODAY,
    )


@pytest.mark.parametrize(
    ("since", "day"),
    [
        ("2024-02-01", date(2024, 2, 1)),
        ("1y", date(2023, 2, 28)),
        ("4y", date(2020, 2, 29)),
        ("1m", date(2024, 1, 29)),
        ("12m", date(2023, 2, 28)),
        ("2w", date(2024, 2, 15)),
        ("1d", date(2024, 2, 28)),
    ],
)
def test_since_is_a_date_or_a_span_before_today(since: str, day: date) -> None:
    assert _parse(since=since).since == day


def test_bases_and_calendars_have_one_name() -> None:
    registration = _parse(("KIMpL", "NA", "KIMpL"), calendar="NASDAQ", bars=("1d", "1m"))
    assert registration == Registration(("KIMpL", "NA"), None, "XNYS", ("1m", "1d"), None)
    assert [chain.name for chain in registration.chains] == ["intraday", "daily"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbols": ()}, "no symbols given"),
        ({"symbols": ("A B",)}, "holds a space"),
        ({"symbols": (1e5,)}, "symbol 100000.0 is a float, not text"),
        ({"asset_class": "bond"}, "asset class 'bond' is not known; use one of stock etf crypto"),
        ({"calendar": "MARS"}, "calendar 'MARS' is not known"),
        ({"bars": ("5m",)}, "bars '5m': only 1m and 1d are asked of providers; the rest derives from them"),
        ({"bars": ()}, "bars '': only 1m and 1d"),
        ({"since": "2024-03-01"}, "since 2024-03-01 is in the future; today is 2024-02-29 (UTC)"),
        ({"since": "0001-01-01"}, "since 0001-01-01 is before 1990-01-01"),
        ({"since": "9999y"}, "119988 months before 2024-02-29 is no date"),
        ({"since": "yesterday"}, "since 'yesterday' is not a date; write it as 2024-03-01"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as error:
        _parse(**arguments)  # type: ignore[arg-type]  # by name
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_registering_again_changes_no_fact_and_brings_a_removed_symbol_back(database_url: str) -> None:
    exchange = Exchange(lifetimes={"NEW": Lifetime(date(2020, 1, 2), None)})
    rows = "SELECT symbol, asset_class::text, calendar, active, first_date, lifetime_source FROM symbols ORDER BY 1"
    with opened(database_url, exchange, NOW) as warehouse:
        assert register(warehouse, _parse(("NEW", "X:BTCUSD"), bars=("1m",))) == ["NEW", "X:BTCUSD"]
        first = query(warehouse, rows)
        assert first == [
            ("NEW", "stock", "XNYS", True, date(2020, 1, 2), "exchange"),
            ("X:BTCUSD", "crypto", "24/7", True, None, None),
        ]
        query(warehouse, "UPDATE symbols SET active = false WHERE symbol = 'NEW'")
        exchange.lifetimes.clear()
        assert register(warehouse, _parse(("NEW", "OLD"), asset_class="etf", calendar="XLON")) == ["OLD"]
        assert query(warehouse, rows) == [first[0], ("OLD", "etf", "XLON", True, None, None), first[1]]


def test_an_open_end_grows_by_itself_and_swallows_what_it_covers(database_url: str) -> None:
    exchange = Exchange().trade([date(2024, 2, 27), date(2024, 2, 28)])
    with opened(database_url, exchange, NOW) as warehouse:
        register(warehouse, _parse(since="2024-02-27"))
        register(warehouse, _parse(since="2024-02-28", bars=("1m",)))
        wanted = "SELECT timeframe::text, lower(time_window), upper(time_window) FROM wanted ORDER BY 1"
        expected = [(base, ny(date(2024, 2, 27), 0), None) for base in ("1d", "1m")]
        assert query(warehouse, wanted) == expected
        aapl = get_instruments(warehouse.conn, ["AAPL"])["AAPL"]
        states = backfill(warehouse, aapl, INTRADAY, date(2024, 2, 27), date(2024, 2, 28))
        assert [outcome.state for outcome in states.values()] == ["complete", "complete"]
        assert query(warehouse, wanted) == expected
