"""How many requests a backfill takes: sized by page over all that is open, or by the day for a whole market."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import SecretStr

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import prepare
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.steps.warehouses import listed, opened, query, task

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
NAMES = tuple(f"S{number:03d}" for number in range(100))


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=("AAPL", "SPY", *NAMES)), now=NOW) as started:
        yield started


@contextmanager
def polygon(url: str, standin: StandIn) -> Iterator[Warehouse]:
    standin.reset()
    provider = PolygonProvider(
        SecretStr(standin.key), standin.url, budget=NoBudget(), limits=OwnMemory(), now=lambda: NOW
    )
    with opened(url, provider, NOW) as warehouse:
        yield warehouse


def test_two_years_of_a_busy_stocks_minutes_are_eleven_requests(database_url: str, standin: StandIn) -> None:
    with polygon(database_url, standin) as warehouse:
        aapl = listed(warehouse, "AAPL")
        first, last = date(2024, 8, 6), date(2026, 8, 5)
        done = list(run_tasks(warehouse, [task(warehouse, aapl, INTRADAY, first, last)], Work()))
        assert {outcome.state for _, outcome in done} == {"complete"}
        assert len(done) == len({outcome.period for _, outcome in done}) == (last - first).days + 1
        assert len(standin.requests) <= 11  # 502 sessions of some 960 minutes, 50,000 a page: 9.6 pages
        told = [outcome.period.first for _, outcome in done if outcome.bars["1m"].rows]
        assert told[0] > date(2026, 5, 1)  # the newest page first,
        assert told[-1] < date(2024, 12, 1)  # the oldest last
        truth = standin.market.minutes("AAPL", warehouse.sessions("XNYS").days_window(first, last))
        assert query(warehouse, "SELECT count(*), sum(volume) FROM bars WHERE timeframe = '1m'") == [
            (len(truth), pytest.approx(float(truth.volume.sum()), rel=1e-12))
        ]


def test_a_hundred_symbols_six_days_are_six_requests(database_url: str, standin: StandIn) -> None:
    with polygon(database_url, standin) as warehouse:
        instruments = [listed(warehouse, name) for name in NAMES]
        sessions = warehouse.sessions("XNYS")
        days = [
            day.astype(object) for day in sessions.session[sessions.rows_between(date(2026, 7, 1), date(2026, 8, 5))]
        ]
        first, last = days[-6], days[-1]
        tasks = [task(warehouse, instrument, DAILY, first, last) for instrument in instruments]
        done = list(run_tasks(warehouse, tasks, Work()))
        assert {outcome.state for _, outcome in done} <= {"complete", "in progress"}
        assert len(standin.requests) == 6
        assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1d'") == [(100 * 6,)]


def test_a_run_of_a_few_symbols_brings_the_whole_markets_days(database_url: str, standin: StandIn) -> None:
    with polygon(database_url, standin) as warehouse:
        instruments = [listed(warehouse, name) for name in NAMES[:60]]
        tasks = [task(warehouse, instrument, DAILY, date(2026, 7, 27), date(2026, 7, 31)) for instrument in instruments]
        for one in tasks:
            prepare(warehouse, one)
        list(run_tasks(warehouse, tasks[:20], Work()))
        asked = len(standin.requests)
        assert asked == 5
        done = list(run_tasks(warehouse, tasks[20:], Work()))
        assert {outcome.state for _, outcome in done} == {"complete"}
        assert len(standin.requests) == asked
        assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1d'") == [(60 * 5,)]


@pytest.mark.parametrize("by", ["symbol", "date"])
def test_days_of_several_symbols_cut_into_any_runs_are_a_request_a_symbol(
    database_url: str, standin: StandIn, by: str
) -> None:
    first = date(2026, 6, 7)
    with polygon(database_url, standin) as warehouse:
        instruments = [listed(warehouse, name) for name in NAMES[:4]]
        tasks = [task(warehouse, i, INTRADAY, first, first + timedelta(days=19)) for i in instruments]
        for one in tasks:
            prepare(warehouse, one)  # the whole backfill's target
        runs = (
            [[one] for one in tasks]
            if by == "symbol"
            else [
                [task(warehouse, i, INTRADAY, day, day) for i in instruments]
                for day in (first + timedelta(days=n) for n in range(20))
            ]
        )
        for run in runs:
            done = list(run_tasks(warehouse, run, Work()))
            assert {outcome.state for _, outcome in done} <= {"complete"}
        assert len(standin.requests) <= 4
