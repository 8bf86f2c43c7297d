"""A session on which nothing traded is taken as closed once three symbols say so: told once, not asked for again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest

from backfill_pipeline.domain.closures import UNCONFIRMED
from backfill_pipeline.domain.timeframe import CHAINS, DAILY, INTRADAY, Chain
from backfill_pipeline.domain.windows import MINUTE
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import to_do_again
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.checks import calendar_news
from backfill_pipeline.storage.overrides import close_day, closed_days, reopen_day
from backfill_pipeline_tests.steps.absences import disagreeing, gaps, resolutions
from backfill_pipeline_tests.steps.nights import follow, night, words
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    Row,
    at,
    backfill,
    empty,
    listed,
    micros,
    opened,
    query,
    row_of,
    task,
)
from backfill_pipeline_tests.steps.week import FRI, LATER, MON, NEXT_MON, THU, TRADED, TUE, WED
from backfill_pipeline_tests.tables import differences, tables

CLOSED = {UNCONFIRMED: 390}
NIGHT = datetime(2024, 5, 15, 2, tzinfo=UTC)
DAY = timedelta(days=1)
SYMBOLS = ("ABC", "DEF", "GHI")


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade([day for day in TRADED if day != WED])


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made
        assert disagreeing(made) == []


def load(warehouse: Warehouse, symbols: Sequence[str], *chains: Chain, days: tuple[date, date] = (MON, FRI)) -> None:
    for symbol in symbols:
        for chain in chains:
            backfill(warehouse, listed(warehouse, symbol), chain, *days)


def assumed(warehouse: Warehouse) -> list[object]:
    return [row[0] for row in query(warehouse, "SELECT session FROM calendar_overrides WHERE kind = 'unconfirmed'")]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.message.startswith("XNYS")]


def test_before_the_third_symbol_it_is_missing_and_then_closed_for_all(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    load(warehouse, SYMBOLS[:2], INTRADAY)
    assert words(warehouse, WED) == {"ABC": (0, {}, 390), "DEF": (0, {}, 390)}
    assert told(caplog) == []
    load(warehouse, SYMBOLS[2:], INTRADAY)
    assert words(warehouse, WED) == dict.fromkeys(SYMBOLS, (0, CLOSED, 0))
    assert resolutions(warehouse) == [UNCONFIRMED] * 3
    (line,) = told(caplog)
    assert line == (
        "XNYS 2024-05-08: none of 3 symbols traded, and by the calendar it is a session; taken as closed (unconfirmed),"
        " asked for now and then. If it was closed: backfill calendar close XNYS 2024-05-08 --note why. If it was not:"
        " backfill calendar reopen XNYS 2024-05-08"
    )


def test_the_week_around_it_is_whole_and_its_partition_green(warehouse: Warehouse) -> None:
    follow(warehouse, SYMBOLS, MON)
    states = {(outcome.symbol, outcome.period.key): outcome.state for outcome in night(warehouse, NIGHT)}
    assert states["GHI", "2024-05-08"] == "complete"
    assert words(warehouse, WED, "1d") == dict.fromkeys(SYMBOLS, (0, {UNCONFIRMED: 1}, 0))
    weeks = query(warehouse, "SELECT symbol_id, session FROM bars WHERE timeframe = '1w' ORDER BY 1")
    assert weeks == [(1, MON), (2, MON), (3, MON)]


def test_nobody_asks_for_it_again_whoever_comes(warehouse: Warehouse, exchange: Exchange) -> None:
    load(warehouse, SYMBOLS, INTRADAY)
    exchange.requests.clear()
    load(warehouse, ("JKL",), *CHAINS, days=(WED, WED))
    assert exchange.requests == []
    assert words(warehouse, WED)["JKL"] == (0, CLOSED, 0)
    periods = task(warehouse, listed(warehouse, "JKL"), INTRADAY, WED, WED)
    assert to_do_again(warehouse, periods, periods.periods) == []


def test_the_order_of_answers_makes_no_difference(warehouse: Warehouse) -> None:
    found = []
    cuts: list[tuple[date, date]] = [(MON, TUE), (WED, WED), (THU, FRI)]
    for order in [*permutations(SYMBOLS)][::2]:
        empty(warehouse)
        query(warehouse, "TRUNCATE calendar_overrides, calendar_evidence")
        jobs = [(symbol, chain) for symbol in order for chain in (CHAINS if order[0] < order[1] else CHAINS[::-1])]
        instruments = {symbol: listed(warehouse, symbol) for symbol in order}
        tasks = [task(warehouse, instruments[symbol], chain, MON, FRI) for symbol, chain in jobs]
        if order[0] == "ABC":
            list(run_tasks(warehouse, tasks, Work()))
        else:
            for first, last in cuts if order[0] == "DEF" else reversed(cuts):
                for symbol, chain in jobs:
                    backfill(warehouse, instruments[symbol], chain, first, last)
        assert assumed(warehouse) == [WED]
        found.append(tables(warehouse.conn))
        warehouse.conn.rollback()
    assert all(differences(found[0], other) == [] for other in found[1:])


def test_an_outage_of_many_days_is_no_closure(warehouse: Warehouse, exchange: Exchange) -> None:
    exchange.minutes, exchange.days = {}, {}
    exchange.trade([MON, FRI])
    load(warehouse, SYMBOLS, *CHAINS)
    assert assumed(warehouse) == []
    assert words(warehouse, WED) == dict.fromkeys(SYMBOLS, (0, {}, 390))


def test_a_second_silent_session_opens_the_first(
    warehouse: Warehouse, exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.minutes, exchange.days = {}, {}
    exchange.trade([MON, TUE])
    load(warehouse, SYMBOLS, INTRADAY, days=(MON, WED))
    assert assumed(warehouse) == [WED]
    load(warehouse, SYMBOLS, INTRADAY, days=(THU, THU))
    assert assumed(warehouse) == []
    assert told(caplog)[1:] == [
        (
            "XNYS 2024-05-08 was taken as closed, but the sessions next to it are silent, too: rather an outage;"
            " it is asked for again"
        )
    ]
    load(warehouse, SYMBOLS, INTRADAY, days=(MON, THU))
    assert words(warehouse, WED) == words(warehouse, THU) == dict.fromkeys(SYMBOLS, (0, {}, 390))


def test_a_symbol_that_was_silent_before_is_no_witness(warehouse: Warehouse, exchange: Exchange) -> None:
    for symbol, days in (("ABC", [MON, FRI]), ("DEF", [MON, TUE, THU]), ("GHI", [MON, TUE, FRI])):
        exchange.minutes, exchange.days = {}, {}
        exchange.trade(days)
        load(warehouse, [symbol], INTRADAY)
    assert assumed(warehouse) == []


def test_refused_rows_are_a_sign_of_trade(warehouse: Warehouse, exchange: Exchange) -> None:
    broken: Row = (10.0, 5.0, 10.0, 10.0, 1.0, None, None)
    exchange.garbage.append((micros(WED, 11), broken))
    load(warehouse, SYMBOLS, INTRADAY)
    assert assumed(warehouse) == []


def test_round_the_clock_there_is_no_day_off(database_url: str) -> None:
    with opened(database_url, Exchange(), LATER) as warehouse:
        for symbol in ("X:A", "X:B", "X:C"):
            backfill(warehouse, listed(warehouse, symbol, "crypto", "24/7"), DAILY, WED, WED)
        assert assumed(warehouse) == []


def test_a_session_that_is_not_due_is_not_judged(warehouse: Warehouse) -> None:
    follow(warehouse, SYMBOLS, MON)
    evening = datetime(2024, 5, 8, 23, tzinfo=UTC)
    for symbol in SYMBOLS:
        backfill(at(warehouse, evening), listed(warehouse, symbol), INTRADAY, MON, WED)
    assert assumed(warehouse) == []
    night(warehouse, datetime(2024, 5, 9, 2, tzinfo=UTC))
    assert assumed(warehouse) == [WED]


def test_it_is_asked_for_again_the_next_night_then_weekly_four_times_in_all(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    follow(warehouse, SYMBOLS, MON, ["1d"])
    exchange.days = {micros(day, 0): row_of(1) for i in range(60) if (day := MON + i * DAY) != WED}
    window = warehouse.sessions("XNYS").days_window(WED, WED)
    asked = []
    for number in (0, 1, 2, 3, 7, 8, 9, 14, 15, 16, 21, 22, 23, 29, 30):
        exchange.requests.clear()
        night(warehouse, NIGHT + number * DAY)
        asked += [number for _, stretch in exchange.requests if stretch.start <= window.start < stretch.end]
    assert asked == [0, 0, 0, 1, 8, 15, 22], "three to know, then one a time"
    assert query(warehouse, "SELECT attempts, next_attempt_at FROM calendar_overrides") == [(4, None)]


def test_bars_that_turn_up_open_it_for_all(
    warehouse: Warehouse, exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    follow(warehouse, SYMBOLS, MON)
    night(warehouse, NIGHT)
    exchange.trade([WED, *(MON + i * DAY for i in (9, 10, 11, 14, 15, 16))])
    night(warehouse, NIGHT + 8 * DAY)
    assert told(caplog)[1:] == ["XNYS 2024-05-08 was taken as closed, but there was trade; it is asked for again"]
    assert words(warehouse, WED) == dict.fromkeys(SYMBOLS, (390, {}, 0))
    assert assumed(warehouse) == gaps(warehouse, listed(warehouse, "ABC")) == []
    was = tables(warehouse.conn)
    empty(warehouse)
    query(warehouse, "TRUNCATE calendar_overrides, calendar_evidence")
    follow(warehouse, SYMBOLS, MON)
    night(warehouse, NIGHT + 8 * DAY)
    assert differences(was, tables(warehouse.conn)) == []


def test_a_person_may_confirm_it_or_know_better(warehouse: Warehouse, exchange: Exchange) -> None:
    load(warehouse, SYMBOLS, INTRADAY)
    with warehouse.conn as conn:
        assert closed_days(conn, "XNYS") == {}, "an assumption does not change the calendar"
        close_day(conn, "XNYS", WED, "mourning", LATER)
        assert closed_days(conn, "XNYS") == {WED: "mourning"}
        assert reopen_day(conn, "XNYS", WED)
    load(warehouse, SYMBOLS, INTRADAY)
    assert assumed(warehouse) == [WED]
    with warehouse.conn as conn:
        assert reopen_day(conn, "XNYS", WED)
        assert not reopen_day(conn, "XNYS", WED)
    load(warehouse, SYMBOLS, INTRADAY)
    assert assumed(warehouse) == []
    assert words(warehouse, WED) == dict.fromkeys(SYMBOLS, (0, {}, 390))


def test_bars_of_a_day_closed_by_hand_are_told_once(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange().trade([*TRADED])
    night_bars = {micros(date(2024, 5, 12), 21) + i * MINUTE: row_of(i * MINUTE) for i in range(60)}
    exchange.provisional |= night_bars  # of a Sunday night, at an hour when nothing trades
    with opened(database_url, exchange, LATER) as warehouse:
        with warehouse.conn as conn:
            close_day(conn, "XNYS", WED, "mourning", LATER)
        for now in (LATER, LATER + 3 * DAY):
            query(warehouse, "DELETE FROM coverage")
            load(at(warehouse, now), SYMBOLS[:2], INTRADAY, days=(MON, NEXT_MON))
        (line,) = told(caplog)
        assert line == (
            "XNYS 2024-05-08 is closed by hand, and exchange has bars of ABC then, which are not stored. If there was"
            " trading: backfill calendar reopen XNYS 2024-05-08"
        )
        assert query(warehouse, "SELECT count(*) FROM bars WHERE session = %s", WED) == [(0,)]
        with warehouse.conn as conn:
            assert calendar_news(conn, "1m", MON).closed.sample == (
                "XNYS 2024-05-08: exchange has bars of it, and it is no session",
            )


def test_the_check_names_what_is_only_assumed(warehouse: Warehouse) -> None:
    load(warehouse, SYMBOLS, INTRADAY)
    with warehouse.conn as conn:
        news = calendar_news(conn, "1m", MON)
    assert (news.silent.count, news.closed.count) == (1, 0)
    (line,) = news.silent.sample
    assert line == (
        "XNYS 2024-05-08: none of 3 symbols traded; taken as closed (unconfirmed); if it was closed:"
        " backfill calendar close XNYS 2024-05-08 --note why"
    )
