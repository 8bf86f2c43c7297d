"""Answers in adjusted prices: nothing of them is stored, and the sessions are asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from pydantic import SecretStr

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.steps.fetching import Unit, ask
from backfill_pipeline.steps.task import prepare
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work, write_answers
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    Row,
    backfill,
    listed,
    micros,
    opened,
    query,
    row_of,
    task,
)
from backfill_pipeline_tests.steps.week import FRI, LATER, MON, NEXT_MON, NEXT_TUE, THU, TRADED, TUE, WED, statuses
from backfill_pipeline_tests.tables import differences, tables

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def _split(warehouse: Warehouse, ex_date: date, ratio: float) -> None:
    query(
        warehouse,
        "INSERT INTO splits SELECT symbol_id, %s, 1, %s, 'forward_split', '', 'test', true, '', now() FROM symbols",
        ex_date,
        ratio,
    )


def _divided(row: Row, by: float) -> Row:
    opening, high, low, closing, volume, vwap, trades = row
    return opening / by, high / by, low / by, closing / by, volume * by, vwap / by if vwap else None, trades


def _adjust(exchange: Exchange, days: list[date], by: float, *, daily: bool = False) -> None:
    book = exchange.days if daily else exchange.minutes
    for ts, row in book.items():
        if any(micros(day, 0) <= ts < micros(day, 23) for day in days):
            book[ts] = _divided(row, by)


def test_minutes_that_contradict_the_stored_day_are_not_stored_at_all(
    warehouse: Warehouse, exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    abc = listed(warehouse)
    # The last minute's close is the day's.
    exchange.days |= {micros(day, 0): exchange.minutes[micros(day, 15, 59)] for day in TRADED}
    backfill(warehouse, abc, DAILY, MON, FRI)
    raw = dict(exchange.minutes)
    _adjust(exchange, [MON, TUE, WED], 10)
    _split(warehouse, NEXT_MON, 10)
    outcomes = backfill(warehouse, abc, INTRADAY, MON, FRI)
    (record,) = [record for record in caplog.records if record.name.startswith("backfill_pipeline")]
    assert record.message.startswith("ABC 1m: basis mismatch 0.100 = split 10:1 (2024-05-06: close ")
    assert "nothing of this answer of exchange is stored" in record.message
    assert {outcome.state for outcome in outcomes.values()} == {"incomplete"}
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m'") == [(0,)]
    assert query(warehouse, "SELECT count(*) FROM coverage WHERE timeframe = '1m'") == [(0,)]
    exchange.minutes = raw
    assert {outcome.state for outcome in backfill(warehouse, abc, INTRADAY, MON, FRI).values()} == {"complete"}


def test_a_refused_answer_leaves_everything_as_it_was_and_says_so_for_its_sessions(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    for chain in (INTRADAY, DAILY):
        backfill(warehouse, abc, chain, MON, FRI)
    before = tables(warehouse.conn)
    _adjust(exchange, [WED], 4, daily=True)
    prepare(warehouse, task(warehouse, abc, DAILY, MON, NEXT_TUE))
    wanted = tables(warehouse.conn)["wanted"]
    subject = warehouse.subject(abc, DAILY)
    rows = subject.sessions.rows_between(MON, NEXT_TUE)
    places = list(range(rows.start, rows.stop))
    unit = Unit(subject, exchange, subject.sessions.row_of(subject.sessions.day_start[rows]), (("ABC", MON, NEXT_TUE),))
    work = Work()
    notes = write_answers(warehouse, subject, ask(unit, LATER).fetched, work)
    assert [(first, last) for first, last, _ in notes] == [(places[0], places[-1])]
    assert notes[0][2].startswith("ABC 1d: basis mismatch 0.250 = split 4:1 (2024-05-08: close ")
    assert (work.received, work.written) == (7, 0)
    after = tables(warehouse.conn)
    assert after["wanted"] == wanted
    assert differences(after | {"wanted": before["wanted"]}, before) == []


def test_a_step_from_the_stored_close_onto_a_later_splits_basis_is_seen(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, MON, MON)
    _split(warehouse, NEXT_TUE, 4)
    _adjust(exchange, [WED, THU, FRI], 4)  # Tuesday is not asked for: the last close is Monday's
    outcomes = backfill(warehouse, abc, INTRADAY, WED, FRI)
    assert {outcome.state for outcome in outcomes.values()} == {"incomplete"}
    assert set(statuses(warehouse)) == {MON}


def test_a_real_split_and_a_real_crash_are_stored(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    _split(warehouse, THU, 4)
    _adjust(exchange, [THU, FRI], 4)
    _adjust(exchange, [THU, FRI], 4, daily=True)
    for chain in (DAILY, INTRADAY):
        outcomes = backfill(warehouse, abc, chain, MON, FRI)
        assert {outcome.state for outcome in outcomes.values()} == {"complete"}
    exchange.minutes |= {ts: _divided(row_of(ts), 9) for ts in exchange.minutes if ts >= micros(NEXT_MON, 0)}
    outcomes = backfill(warehouse, abc, INTRADAY, NEXT_MON, NEXT_TUE)
    assert {outcome.state for outcome in outcomes.values()} == {"complete"}


def test_minutes_that_polygon_adjusts_and_calls_unadjusted_are_refused(database_url: str) -> None:
    with StandIn(now=NOW) as honest, StandIn(now=NOW) as lying:
        honest.market.split("AAPL", WED, 1, 4)  # the other one knows of no split: its prices do not jump
        with opened(database_url, _polygon(honest), NOW) as warehouse:
            aapl = listed(warehouse, "AAPL")
            assert backfill(warehouse, aapl, DAILY, MON, FRI)["2024-05"].state == "complete"
        with opened(database_url, _polygon(lying), NOW) as warehouse:
            outcomes = backfill(warehouse, aapl, INTRADAY, MON, FRI)
            assert {outcome.state for outcome in outcomes.values()} == {"incomplete"}
            assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m'") == [(0,)]
        with opened(database_url, _polygon(honest), NOW) as warehouse:
            outcomes = backfill(warehouse, aapl, INTRADAY, MON, FRI)
            assert {outcome.state for outcome in outcomes.values()} == {"complete"}


def _polygon(standin: StandIn) -> PolygonProvider:
    return PolygonProvider(SecretStr(standin.key), standin.url, budget=NoBudget(), limits=OwnMemory(), now=lambda: NOW)
