"""What a plan says a backfill would take, held against what the same backfill then takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.steps.estimate import Estimate, estimate
from backfill_pipeline.steps.task import Task
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, ProviderKey
from backfill_pipeline_tests.standin import Market, StandIn, write_flat_files
from backfill_pipeline_tests.steps.sources import Desk, days_between, desk
from backfill_pipeline_tests.steps.warehouses import listed, query

NOW = datetime(2026, 8, 6, 17, tzinfo=UTC)  # Thursday, while New York trades
NAMES = tuple(f"S{number:02d}" for number in range(30))
YESTERDAY = date(2026, 8, 5)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=("AAPL", "SPY", *NAMES)), now=NOW) as started:
        yield started


@pytest.fixture
def site(database_url: str, standin: StandIn, tmp_path: Path) -> Iterator[Desk]:
    with desk(database_url, standin, tmp_path, NOW) as made:
        yield made


def planned(site: Desk, providers: Sequence[Provider | str], tasks: Sequence[Task]) -> Estimate:
    """What is estimated; nothing may be asked or written meanwhile."""
    site.warehouse(*providers).sessions("XNYS")  # the calendar is stored by whoever comes first
    site.warehouse(*providers).sessions("24/7")
    site.standin.reset()
    before = versions(site)
    found = estimate(site.warehouse(*providers), tasks)
    assert versions(site) == before
    assert site.standin.requests == []
    return found


def asked(site: Desk, providers: Sequence[Provider | str], tasks: Sequence[Task]) -> dict[str, int]:
    """Requests that a run really makes, by provider."""
    site.standin.reset()
    told = site.run(providers, tasks)
    assert (told.error, told.states - {"in progress"}) == (None, {"complete"})
    return dict(Counter(seen.family for seen in site.standin.requests))


def versions(site: Desk) -> dict[str, object]:
    """Which version of every row of every table there is: equal before and after means that nothing was written."""
    names = query(
        site.conn_of, "SELECT relname FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relkind = 'r'"
    )
    return {
        str(name): query(site.conn_of, f"SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM {name}")
        for (name,) in names
    }


def stored_bytes(site: Desk) -> int:
    """Of all tables, with their indexes."""
    sizes = query(
        site.conn_of,
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'market'::regnamespace"
        " AND relkind = 'r'",
    )
    return int(str(sizes[0][0]))


def test_two_years_of_minutes_take_the_requests_and_about_the_disk_that_were_planned(site: Desk) -> None:
    tasks = site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, date(2024, 8, 6), YESTERDAY)
    found = planned(site, ("polygon",), tasks)
    assert found.requests == {"polygon": 10}  # 501 sessions of 960 minutes, 52 whole ones a page
    assert (found.sessions, found.bars, found.unserved) == (501, 501 * 960, ())
    before = stored_bytes(site)
    assert asked(site, ("polygon",), tasks) == found.requests
    assert found.disk_bytes == pytest.approx(stored_bytes(site) - before, rel=0.25)
    assert planned(site, ("polygon",), tasks) == Estimate({}, 0.0, 0.0, 0, 0, 0, ())


def test_days_of_many_symbols_are_planned_by_the_day_for_the_whole_market(site: Desk) -> None:
    stocks = [listed(site.conn_of, name) for name in NAMES]
    tasks = site.tasks(stocks, DAILY, date(2026, 7, 9), YESTERDAY)
    found = planned(site, ("polygon",), tasks)
    assert (found.requests, found.sessions) == ({"polygon": 20}, 30 * 20)
    assert asked(site, ("polygon",), tasks) == found.requests
    few = site.tasks([listed(site.conn_of, "AAPL"), *stocks], DAILY, date(2026, 7, 6), YESTERDAY)
    found = planned(site, ("polygon",), few)
    # Three more days of all, the market's; AAPL's other twenty in one request.
    assert (found.requests, found.sessions) == ({"polygon": 4}, 31 * 3 + 20)
    assert asked(site, ("polygon",), few) == found.requests


def test_a_mixture_of_chains_instruments_and_providers_is_planned_as_it_is_asked(site: Desk) -> None:
    first = date(2026, 7, 20)
    write_flat_files(site.folder, site.standin.market, ("AAPL", "S00"), days_between(first, date(2026, 7, 22)))
    stocks = [listed(site.conn_of, name) for name in ("AAPL", "S00")]
    coins = [listed(site.conn_of, name, "crypto", "24/7") for name in ("BTCUSDT", "X:BTCUSD")]
    providers = ("files", "polygon", "tradier", "binance")
    tasks = [
        *site.tasks(stocks, INTRADAY, first, NOW.date()),  # files, then a page of Polygon's, then today
        *site.tasks(stocks, DAILY, first, YESTERDAY),
        *site.tasks(coins, INTRADAY, date(2026, 8, 4), NOW.date()),
        *site.tasks(coins, DAILY, first, YESTERDAY),
    ]
    found = planned(site, providers, tasks)
    # Binance: two days and 17 hours of minutes, 3,900 by the thousand, and a page of days.
    assert found.requests == {"polygon": 4 + 2, "tradier": 2, "binance": 4 + 1}
    assert asked(site, providers, tasks) == found.requests


def test_what_is_known_already_is_not_planned_again(site: Desk) -> None:
    stocks = [listed(site.conn_of, name) for name in NAMES[:2]]
    providers = ("polygon", "tradier")
    # Islands in 99 sessions of minutes, of one symbol only: what lies between them still goes by the page.
    for first, last in (("2026-03-23", "2026-03-27"), ("2026-05-11", "2026-05-22"), ("2026-08-03", "2026-08-06")):
        tasks = site.tasks(stocks[:1], INTRADAY, date.fromisoformat(first), date.fromisoformat(last))
        asked(site, providers, tasks)
    spring = site.tasks(stocks, INTRADAY, date(2026, 3, 16), NOW.date())
    found = planned(site, providers, spring)
    alone = planned(site, providers, spring[1:])
    assert alone.requests == {"polygon": 2, "tradier": 1}
    assert asked(site, providers, spring) == found.requests
    # Today's minutes are planned and asked for again, for nobody has the session's last ones yet.
    assert found.requests["tradier"] == 2
    assert planned(site, providers, spring).requests == {"tradier": 2}


def test_the_wait_is_that_of_the_rate_which_is_set(site: Desk, database_url: str) -> None:
    tasks = site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, date(2024, 8, 6), YESTERDAY)
    with closing(OwnConnection(database_url)) as own:
        budget = PostgresBudget(own, ProviderKey("polygon", site.standin.url, "0123456789abcdef"), 5)
        found = planned(site, (site.provider("polygon", budget=budget),), tasks)
    # The first goes at once; slots lie 4 % further apart than the 12 s of five a minute.
    assert found.waiting_s == pytest.approx(9 * 12 * 1.04)
    assert found.seconds == found.waiting_s > found.writing_s > 0


def test_what_nobody_serves_is_said_and_costs_nothing(site: Desk) -> None:
    coin = listed(site.conn_of, "X:BTCUSD", "crypto", "24/7")
    found = planned(site, ("tradier", "binance"), site.tasks([coin], INTRADAY, date(2026, 8, 3), YESTERDAY))
    assert found == Estimate({}, 0.0, 0.0, 0, 0, 0, ("X:BTCUSD 1m: tradier has no crypto called X:BTCUSD",))


def test_files_are_bars_and_disk_and_no_requests(site: Desk) -> None:
    write_flat_files(site.folder, site.standin.market, ("AAPL",), days_between(date(2026, 8, 3), YESTERDAY))
    tasks = site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, date(2026, 8, 3), YESTERDAY)
    found = planned(site, ("files",), tasks)
    assert (found.requests, found.sessions, found.bars) == ({}, 3, 3 * 960)
    assert found.disk_bytes > 0
    assert found.seconds == found.writing_s > 0
