"""Repair at step level: only what lacks bars is asked for, as often as stated, of whoever has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.repairing import Stretch
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.errors import ServerTrouble
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.repair import due_repairs, repair_tasks, verification_tasks, verified
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.gaps import accept
from backfill_pipeline.storage.symbols import remove_symbol
from backfill_pipeline_tests.steps.absences import gaps, status, weekdays
from backfill_pipeline_tests.steps.warehouses import (
    Clock,
    Exchange,
    at,
    backfill,
    listed,
    micros,
    opened,
    query,
    regular_minutes,
)

STARTS = {"intraday": date(2024, 1, 1), "daily": date(2020, 1, 1)}
DAYS = weekdays(date(2024, 5, 6), 8)
CUT, LATER = DAYS[5], datetime(2024, 6, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(DAYS)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def after(day: date) -> datetime:
    """02:00 in New York, the next day."""
    return datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1, hours=6)


def lose(exchange: Exchange, *days: date) -> None:
    for day in days:
        for ts in regular_minutes(day):
            del exchange.minutes[ts]


def repair(warehouse: Warehouse, where: list[Stretch] | None = None, *, again: bool = False) -> Mapping[str, str]:
    """Date key → state of each partition that was worked on."""
    tasks = repair_tasks(warehouse, STARTS, where, again=again)
    return {outcome.period.key: outcome.state for _, outcome in run_tasks(warehouse, tasks, Work())}


def asked_days(exchange: Exchange) -> list[date]:
    """First days of the requests since the last look."""
    days = [datetime.fromtimestamp(window.start / 1e6, UTC).date() for _, window in exchange.requests]
    exchange.requests.clear()
    return days


def test_only_the_session_that_lacks_bars_is_asked_for_once_its_time_has_come(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    lose(exchange, CUT)
    backfill(warehouse, abc, INTRADAY, DAYS[0], DAYS[-1])
    exchange.requests.clear()
    assert repair(warehouse) == {}, "its next attempt is tomorrow"
    assert exchange.requests == []

    exchange.trade([CUT])
    assert repair(at(warehouse, LATER + DAY)) == {str(CUT): "complete"}
    assert asked_days(exchange) == [CUT]
    assert gaps(warehouse, abc) == []
    assert repair(at(warehouse, LATER + 30 * DAY)) == {}


def test_a_provider_that_never_has_it_is_asked_daily_twice_and_then_weekly(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    lose(exchange, CUT)
    backfill(warehouse, abc, INTRADAY, DAYS[0], DAYS[-1])
    exchange.requests.clear()
    asked, told = [], []
    for hours in range(0, 24 * 31, 6):  # the sensor looks more often than anything is due
        if repair(at(warehouse, LATER + timedelta(hours=hours))):
            asked.append(hours / 24)
            (gap,) = gaps(warehouse, abc)
            told.append((gap.attempts, (gap.next_attempt_at - LATER) / DAY))
    assert asked == [1, 2, 9, 16, 23, 30]
    assert told == [(1, 2), (2, 9), (3, 16), (4, 23), (5, 30), (6, 37)]
    assert len(exchange.requests) == 6
    assert [slot.attempt for one in due_repairs(at(warehouse, LATER + 40 * DAY), STARTS) for slot in one.slots] == [7]


def test_a_person_does_not_wait_for_the_next_attempt(warehouse: Warehouse, exchange: Exchange) -> None:
    abc, other = listed(warehouse), listed(warehouse, "DEF")
    lose(exchange, DAYS[2], CUT)
    for instrument in (abc, other):
        backfill(warehouse, instrument, INTRADAY, DAYS[0], DAYS[-1])
    exchange.trade(DAYS)
    exchange.requests.clear()
    where = [Stretch("ABC", "intraday", DAYS[3], DAYS[7])]
    assert repair(warehouse, where, again=True) == {str(CUT): "complete"}
    assert asked_days(exchange) == [CUT]
    assert repair(warehouse, [Stretch("ABC", "daily", DAYS[0], DAYS[7])], again=True) == {}
    repair(warehouse, again=True)
    assert asked_days(exchange) == [DAYS[2], DAYS[2], CUT]
    assert gaps(warehouse, abc) + gaps(warehouse, other) == []


def test_a_repair_adds_nothing_to_what_is_wanted(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    month = weekdays(date(2024, 5, 1), 12)
    for first, last in ((month[0], month[1]), (month[8], month[9])):
        backfill(warehouse, abc, DAILY, first, last)  # the exchange has no days before the 6th
    wanted = "SELECT time_window::text FROM wanted ORDER BY time_window"
    before = query(warehouse, wanted)
    assert len(before) == 2
    assert repair(at(warehouse, LATER + DAY)) == {"2024-05": "incomplete"}
    assert query(warehouse, wanted) == before


def test_what_the_first_provider_leaves_open_is_asked_of_the_next(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    second = Exchange(name="second").trade(DAYS)
    exchange.silent = [Window(micros(CUT, 0), micros(CUT + DAY, 0))]
    backfill(warehouse, abc, INTRADAY, DAYS[0], DAYS[-1])
    exchange.requests.clear()

    both = Warehouse(warehouse.conn, Router([exchange, second]), Clock(LATER + DAY))
    assert repair(both) == {str(CUT): "complete"}

    assert (asked_days(exchange), asked_days(second)) == ([CUT], [CUT])
    providers = "SELECT DISTINCT session, provider FROM bars WHERE timeframe = '1m' AND provider <> 'exchange'"
    assert query(warehouse, providers) == [(CUT, "second")]


def test_what_failed_without_a_word_of_late_waits_for_no_attempt(warehouse: Warehouse, exchange: Exchange) -> None:
    """No attempt was made. The sensor lets an hour pass."""
    abc = listed(warehouse)
    night = after(DAYS[-1])
    exchange.fails = dict.fromkeys(DAYS, ServerTrouble("out of order"))
    backfill(at(warehouse, night), abc, INTRADAY, DAYS[0], DAYS[-1])
    exchange.fails.clear()
    soon = at(warehouse, night + timedelta(hours=1))
    assert repair(soon) == dict.fromkeys(map(str, DAYS[-3:]), "complete")
    assert repair(soon) == {}
    assert repair(at(warehouse, night + DAY)) == {str(day): "complete" for day in DAYS[:-3]}


def test_a_session_that_became_due_since_the_night_is_asked_for_and_one_that_is_not_is_left(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    listed(warehouse, "OTHER")
    abc, day = listed(warehouse), date(2024, 6, 20)
    exchange.trade(weekdays(date(2024, 6, 10), 9))
    with warehouse.conn:
        want(warehouse.conn, abc.symbol_id, "1m", None, since=micros(date(2024, 6, 10), 0))
    close = datetime(
        2024, 6, 21, 0, 0, tzinfo=UTC
    )  # 20:00 in New York; the exchange settles a quarter of an hour later
    backfill(at(warehouse, close - timedelta(hours=4)), abc, INTRADAY, date(2024, 6, 10), date(2024, 6, 18))
    assert repair(at(warehouse, close + timedelta(minutes=14))) == {}
    assert repair(at(warehouse, close + timedelta(minutes=15))) == {str(day): "complete"}
    assert status(warehouse, abc, day).complete


def test_a_session_that_was_looked_at_while_it_ran_is_asked_for_when_it_is_due(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc, day = listed(warehouse), date(2024, 6, 20)
    exchange.trade([day])
    noon = datetime(2024, 6, 20, 16, tzinfo=UTC)
    backfill(at(warehouse, noon), abc, INTRADAY, day, day)
    assert repair(at(warehouse, noon + timedelta(hours=8))) == {}
    assert repair(at(warehouse, noon + timedelta(hours=9))) == {str(day): "complete"}


def test_years_that_are_followed_and_were_never_asked_for_are_left_to_the_night_and_to_people(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    with warehouse.conn:
        want(warehouse.conn, abc.symbol_id, "1m", None, since=micros(DAYS[0], 0))
    warehouse.sessions("XNYS")
    recent = at(warehouse, after(DAYS[-1]))
    assert [p.key for one in due_repairs(recent, STARTS) for p in one.attempts] == [
        "2024-05-13",
        "2024-05-14",
        "2024-05-15",
    ]
    assert repair(recent, [Stretch("ABC", "intraday", DAYS[0], DAYS[1])], again=True) == {
        str(DAYS[0]): "complete",
        str(DAYS[1]): "complete",
    }


def test_removed_accepted_and_unlisted_sessions_are_not_asked_for(warehouse: Warehouse, exchange: Exchange) -> None:
    removed, accepted, ended = (listed(warehouse, name) for name in ("GONE", "FINE", "ENDED"))
    for ts in regular_minutes(CUT)[:60]:
        del exchange.minutes[ts]
    for instrument in (removed, accepted, ended):
        backfill(warehouse, instrument, INTRADAY, DAYS[4], DAYS[6])
    later = at(warehouse, LATER + DAY)
    assert len(due_repairs(later, STARTS)) == 3
    (gap,) = gaps(warehouse, accepted)
    with warehouse.conn:
        remove_symbol(warehouse.conn, "GONE", with_bars=False)
        accept(warehouse.conn, gap.gap_id, "nobody has it", LATER)
    query(warehouse, "UPDATE symbols SET last_date = %s WHERE symbol = 'ENDED'", DAYS[4])
    query(warehouse, "UPDATE session_status SET missing = 0 WHERE symbol_id = %s", accepted.symbol_id)
    assert due_repairs(later, STARTS) == []


def test_partitions_before_the_first_are_nobodys(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    lose(exchange, CUT)
    backfill(warehouse, abc, INTRADAY, DAYS[0], DAYS[-1])
    later = at(warehouse, LATER + DAY)
    assert len(due_repairs(later, STARTS)) == 1
    assert due_repairs(later, STARTS | {"intraday": DAYS[6]}) == []


def test_a_verification_tells_what_is_stored_and_neither_asks_nor_writes(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    lose(exchange, CUT)
    backfill(warehouse, abc, INTRADAY, DAYS[3], DAYS[6])
    exchange.requests.clear()
    before = query(warehouse, "SELECT * FROM session_status ORDER BY session")
    where = [Stretch("ABC", "intraday", DAYS[4], DAYS[5] + DAY), Stretch("ABC", "daily", DAYS[0], DAYS[0])]
    tasks = verification_tasks(warehouse, STARTS, where)
    told = {outcome.period.key: outcome.state for _, outcome in verified(warehouse, tasks, Work())}
    weekend = {"2024-05-11": "complete", "2024-05-12": "complete"}
    expected = weekend | {"2024-05-10": "complete", "2024-05-13": "incomplete", "2024-05-14": "complete"}
    assert told == expected, "of the days nothing is wanted"
    assert exchange.requests == []
    assert query(warehouse, "SELECT * FROM session_status ORDER BY session") == before
