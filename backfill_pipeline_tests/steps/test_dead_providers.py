"""A provider that says stop, or of which nothing is ever heard: the others finish, and then its one line is raised."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.errors import ProviderError, ProviderStopped, Unreachable
from backfill_pipeline_tests.standin import Market, StandIn, write_flat_files
from backfill_pipeline_tests.steps.sources import Desk, days_between, desk
from backfill_pipeline_tests.steps.warehouses import empty, listed, query

MON, TUE, WED, THU, FRI = days_between(date(2024, 5, 6), date(2024, 5, 10))
NOON = datetime(2024, 5, 9, 16, tzinfo=UTC)  # Thursday, while New York trades
NAMES = ("AAPL", "MSFT", "SPY")
WRONG_KEY = "another-key-9876543210"


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=NAMES), now=NOON) as started:
        yield started


@pytest.fixture
def site(database_url: str, standin: StandIn, tmp_path: Path) -> Iterator[Desk]:
    with desk(database_url, standin, tmp_path, NOON) as made:
        write_flat_files(tmp_path, standin.market, NAMES, (MON, TUE))
        yield made


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:  # bound and not listening: no other process can get the port
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def dead(site: Desk, name: str, how: str, nobody: str) -> tuple[Provider, type[ProviderError], str]:
    """A provider of which nothing can be had, and what is said of it."""
    if how == "unreachable":
        return site.provider(name, url=nobody), Unreachable, f"{nobody}: connection refused"
    words = {"polygon": "the key is not accepted (401)", "tradier": "the token is not accepted: Invalid Access Token"}
    return site.provider(name, key=WRONG_KEY), ProviderStopped, words[name]


HOW = pytest.mark.parametrize("how", ["unreachable", "stopped"])


@HOW
def test_what_the_files_have_is_stored_and_then_the_dead_provider_is_told_in_one_line(
    site: Desk, nobody: str, how: str
) -> None:
    polygon, kind, words = dead(site, "polygon", how, nobody)
    stocks = [listed(site.conn_of, name) for name in NAMES]
    for chain in (INTRADAY, DAILY):
        told = site.run(("files", polygon), site.tasks(stocks, chain, MON, WED))
        assert type(told.error) is kind
        assert words in str(told.error)
        assert WRONG_KEY not in str(told.error)
        assert "\n" not in str(told.error)
        base = chain.base
        assert site.sources(base) == {MON: "files", TUE: "files"}
        assert query(site.conn_of, "SELECT count(*) FROM coverage WHERE provider <> 'files'") == [(0,)]
        # Partitions that wait for Wednesday are told by the error; May of the days is one of them.
        days = [str(day) for day in (MON, TUE)] if base == "1m" else []
        found = [(outcome.symbol, outcome.period.key, outcome.state) for outcome in told.outcomes]
        assert sorted(found) == sorted((name, day, "complete") for name in NAMES for day in days)

    told = site.run(("files", "polygon"), site.tasks(stocks, INTRADAY, MON, WED))  # its locks are free again
    assert (told.error, {outcome.state for outcome in told.outcomes}) == (None, {"complete"})
    assert site.sources() == {MON: "files", TUE: "files", WED: "polygon"}


@HOW
def test_a_dead_first_provider_leaves_its_sessions_to_the_second(
    site: Desk, nobody: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    polygon, _, words = dead(site, "polygon", how, nobody)
    stocks = [listed(site.conn_of, name) for name in NAMES]
    for chain in (INTRADAY, DAILY):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "backfill_pipeline"):
            told = site.run((polygon, "files"), site.tasks(stocks, chain, MON, TUE))
        assert (told.error, {outcome.state for outcome in told.outcomes}) == (None, {"complete"})
        assert site.sources(chain.base) == {MON: "files", TUE: "files"}
        lines = [record.getMessage() for record in caplog.records if words in record.getMessage()]
        assert len(lines) == 1
        assert lines[0].endswith("; nothing more is asked of polygon in this run")


@pytest.mark.parametrize("chain", [INTRADAY, DAILY], ids=["one by one", "by the market"])
def test_a_provider_that_was_never_heard_is_asked_one_question(site: Desk, chain: Chain) -> None:
    """Eight at once would each be tried for minutes."""
    site.standin.fault("connection_reset", times=None)
    stocks = [listed(site.conn_of, name) for name in NAMES]
    told = site.run(("polygon",), site.tasks(stocks, chain, MON, TUE))
    assert type(told.error) is Unreachable
    assert told.outcomes == []
    assert len(site.standin.requests) == 2  # with the patience of these tests: two tries
    assert len({seen.path for seen in site.standin.requests}) == 1


def test_a_provider_that_was_heard_and_fails_in_passing_is_not_dead(site: Desk) -> None:
    """Its sessions are incomplete, with the reason, and not taken over by another: it has them, a moment later."""
    stocks = [listed(site.conn_of, name) for name in NAMES[:2]]
    site.standin.fault("connection_reset", times=None, path="/MSFT/")
    told = site.run(("polygon", "tradier"), site.tasks(stocks, INTRADAY, MON, TUE))
    assert told.error is None
    states = {(outcome.symbol, outcome.state) for outcome in told.outcomes}
    assert states == {("AAPL", "complete"), ("MSFT", "incomplete")}
    assert all("the connection broke" in line for line in told.lines)
    assert site.asked("tradier") == []


@HOW
def test_instruments_of_other_providers_are_finished_first(site: Desk, nobody: str, how: str) -> None:
    """Even where the dead one is asked first, and by the day for a whole market."""
    polygon, kind, _ = dead(site, "polygon", how, nobody)
    stocks = [listed(site.conn_of, name) for name in NAMES]
    coin = listed(site.conn_of, "BTCUSDT", "crypto", "24/7")
    for chain in (DAILY, INTRADAY):
        told = site.run((polygon, "binance"), site.tasks([*stocks, coin], chain, MON, TUE))
        assert type(told.error) is kind
        assert {(outcome.symbol, outcome.state) for outcome in told.outcomes} == {("BTCUSDT", "complete")}
        assert set(site.sources(chain.base).values()) == {"binance"}


@HOW
def test_today_stays_in_progress_when_only_todays_provider_is_dead(site: Desk, nobody: str, how: str) -> None:
    tradier, kind, words = dead(site, "tradier", how, nobody)
    aapl = listed(site.conn_of, "AAPL")
    told = site.run(("files", tradier), site.tasks([aapl], INTRADAY, MON, THU))
    assert type(told.error) is kind
    assert words in str(told.error)
    found = {outcome.period.key: outcome.state for outcome in told.outcomes}
    # Wednesday is over and Tradier's alone: it is left. Thursday is not due: neither green nor red.
    assert found == {str(MON): "complete", str(TUE): "complete", str(THU): "in progress"}

    told = site.run(("files", "polygon", tradier), site.tasks([aapl], INTRADAY, MON, THU))
    assert told.error is None, "Polygon has today, too, as far as it goes"
    assert site.sources() == {MON: "files", TUE: "files", WED: "polygon", THU: "polygon"}


def test_two_dead_providers_are_both_named(site: Desk, nobody: str) -> None:
    aapl, coin = listed(site.conn_of, "AAPL"), listed(site.conn_of, "X:BTCUSD", "crypto", "24/7")
    polygon = site.provider("polygon", url=nobody)
    tradier = site.provider("tradier", key=WRONG_KEY)
    told = site.run((polygon, tradier), site.tasks([aapl, coin], INTRADAY, MON, TUE))
    assert told.outcomes == []
    assert "polygon: " in str(told.error)
    assert "tradier: " in str(told.error)
    assert "\n" not in str(told.error)
    assert isinstance(told.error, ProviderError)
    assert query(site.conn_of, "SELECT count(*) FROM coverage") == [(0,)]


def test_a_folder_that_is_gone_leaves_its_sessions_to_polygon_and_without_it_is_the_error(
    site: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    aapl = listed(site.conn_of, "AAPL")
    site.folder = site.folder / "not mounted"
    told = site.run(("files",), site.tasks([aapl], INTRADAY, MON, TUE))
    assert type(told.error) is ProviderStopped
    assert str(told.error).startswith("files: ")
    assert str(told.error).endswith("not mounted: No such file or directory; correct BACKFILL_FILES, or what is there")
    assert told.outcomes == []

    empty(site.conn_of)
    aapl = listed(site.conn_of, "AAPL")
    with caplog.at_level(logging.WARNING, "backfill_pipeline"):
        told = site.run(("files", "polygon"), site.tasks([aapl], INTRADAY, MON, TUE))
    assert (told.error, {outcome.state for outcome in told.outcomes}) == (None, {"complete"})
    assert site.sources() == {MON: "polygon", TUE: "polygon"}
    assert sum("nothing more is asked of files" in record.getMessage() for record in caplog.records) == 1
