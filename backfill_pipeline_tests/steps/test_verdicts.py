"""Absent minutes are explained, or gaps, from what is stored around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backfill_pipeline.domain.completeness import SessionStatus, open_minutes
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.evidence import counted
from backfill_pipeline.steps.look_again import _stored, doubtful_around
from backfill_pipeline.steps.verdicts import judge_absence, next_attempts, still_open
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.gaps import accept
from backfill_pipeline.storage.status import write_status
from backfill_pipeline_tests.steps.absences import (
    always,
    disagreeing,
    gaps,
    load,
    look,
    never,
    on,
    resolutions,
    short,
    status,
    trade,
    weekdays,
)
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    at,
    backfill,
    listed,
    micros,
    opened,
    query,
    regular_minutes,
    row_of,
)

# Eight sessions of May 2024; the last but two is cut.
DAYS = weekdays(date(2024, 5, 6), 8)
CUT = DAYS[5]
LATER = datetime(2024, 6, 20, tzinfo=UTC)
HALF_HOUR = on(CUT, 90, 120)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made
        assert disagreeing(made) == []


def rare(day: date, minute: int) -> bool:
    """48 or 49 minutes of each session, others every day."""
    return (minute * 7 + day.day) % 8 == 0


def test_an_illiquid_symbol_is_complete_with_a_daily_bar_and_without(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    trade(exchange, DAYS, rare, never)
    load(warehouse, abc, DAYS, INTRADAY)
    stored = sum(rare(CUT, minute) for minute in range(390))
    assert status(warehouse, abc, CUT).explained == {"no_trade": 390 - stored}
    load(warehouse, abc, DAYS, DAILY)
    assert all(status(warehouse, abc, day).complete for day in DAYS)
    assert gaps(warehouse, abc) == []


def test_a_lost_half_hour_of_a_liquid_one_is_a_gap_until_it_comes(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    trade(exchange, DAYS, always, HALF_HOUR)
    load(warehouse, abc, DAYS, INTRADAY)
    assert short(gaps(warehouse, abc), CUT) == [(90, 30, "missing", "habit")]
    load(warehouse, abc, DAYS, DAILY)
    assert short(gaps(warehouse, abc), CUT) == [(90, 30, "outage", "volume")]
    assert status(warehouse, abc, CUT).missing == 30
    trade(exchange, DAYS, always, on(CUT, 100, 120))
    load(warehouse, abc, DAYS, INTRADAY)
    assert short(gaps(warehouse, abc), CUT) == [(100, 20, "outage", "volume")]
    trade(exchange, DAYS, always, never)
    load(warehouse, abc, DAYS, INTRADAY)
    assert status(warehouse, abc, CUT).complete
    assert gaps(warehouse, abc) == []
    assert resolutions(warehouse) == ["filled", "filled"]


def test_a_daily_bar_that_comes_later_explains_what_was_missing(warehouse: Warehouse, exchange: Exchange) -> None:
    """Three sessions are no habit; the changed sessions are derived again, and whole then."""
    abc, days = listed(warehouse), DAYS[4:7]
    trade(exchange, days, lambda day, minute: not HALF_HOUR(day, minute), never)
    load(warehouse, abc, days, INTRADAY)
    assert short(gaps(warehouse, abc), CUT) == [(90, 30, "missing", "too few sessions")]
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '4h' AND NOT final") == [(1,)]
    backfill(warehouse, abc, DAILY, days[0], days[-1])
    assert look(warehouse, abc, days) in ([CUT], [])
    assert status(warehouse, abc, CUT).explained == {"no_trade": 30}
    assert resolutions(warehouse) == ["explained no_trade"]
    backfill(warehouse, abc, INTRADAY, days[0], days[-1], ask=False)
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '4h' AND NOT final") == [(0,)]
    assert status(warehouse, abc, CUT).derived["30m"] == 12
    assert look(warehouse, abc, days) == []


def test_half_an_hour_that_most_symbols_lack_against_their_volume_is_an_outage(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    lonely, days = listed(warehouse, "LONELY"), DAYS
    trade(exchange, days, always, HALF_HOUR)
    for i in range(6):
        other = listed(warehouse, f"A{i}")
        load(warehouse, other, days, DAILY, INTRADAY)
    load(warehouse, lonely, days, INTRADAY)
    (gap,) = gaps(warehouse, lonely)
    assert (gap.verdict, gap.evidence["by"]) == ("outage", "other symbols")
    assert gap.evidence["others"] == {"usually": 6, "lack": 6, "short": 6, "whole": 0}


def test_a_run_that_most_symbols_share_is_a_halt(warehouse: Warehouse, exchange: Exchange) -> None:
    lonely = listed(warehouse, "LONELY")
    trade(exchange, DAYS, lambda day, minute: not HALF_HOUR(day, minute), never)
    for i in range(5):
        load(warehouse, listed(warehouse, f"A{i}"), DAYS, DAILY, INTRADAY)
    load(warehouse, lonely, DAYS, INTRADAY)
    assert status(warehouse, lonely, CUT).explained == {"halt": 30}
    # Who came before the fifth other symbol was there has been looked at again.
    assert status(warehouse, listed(warehouse, "A0"), CUT).explained == {"halt": 30}


def test_the_circuit_breaker_is_a_halt_without_any_other_symbol(warehouse: Warehouse, exchange: Exchange) -> None:
    days = weekdays(date(2020, 3, 16), 5)
    breaker = on(date(2020, 3, 18), 207, 221)
    trade(exchange, days, lambda day, minute: not breaker(day, minute), never)
    abc = listed(warehouse)
    load(warehouse, abc, days, INTRADAY)
    assert status(warehouse, abc, date(2020, 3, 18)).explained == {"halt": 14}


def test_a_deleted_row_and_deleted_coverage_are_found(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    trade(exchange, DAYS, always, never)
    load(warehouse, abc, DAYS, DAILY, INTRADAY)
    ten = [micros(CUT, 11, minute) for minute in range(10)]
    query(warehouse, "DELETE FROM bars WHERE timeframe = '1m' AND ts IN (SELECT instant(u) FROM unnest(%s) u)", ten)
    assert look(warehouse, abc, DAYS) == [CUT]
    assert short(gaps(warehouse, abc), CUT) == [(90, 10, "outage", "volume")]
    query(warehouse, "DELETE FROM coverage WHERE timeframe = '1m'")
    assert look(warehouse, abc, DAYS) == DAYS
    assert status(warehouse, abc, DAYS[0]).missing == 390
    assert short(gaps(warehouse, abc), DAYS[0]) == [(0, 390, "missing", "whole session")]
    load(warehouse, abc, DAYS, INTRADAY)
    assert gaps(warehouse, abc) == []


def test_an_absent_day_of_a_listed_symbol_is_a_gap_of_its_own(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    trade(exchange, DAYS, lambda day, minute: day != CUT, never)
    load(warehouse, abc, DAYS, DAILY, INTRADAY)
    look(warehouse, abc, DAYS, DAILY)
    (day,), (session,) = gaps(warehouse, abc, DAILY), gaps(warehouse, abc)
    assert (day.timeframe, day.expected, day.verdict, day.window.start) == ("1d", 1, "missing", micros(CUT, 0))
    assert (session.expected, session.verdict) == (390, "missing")
    with warehouse.conn:
        for gap in (day, session):
            accept(warehouse.conn, gap.gap_id, "nobody knows", LATER)
    assert look(warehouse, abc, DAYS, DAILY) == look(warehouse, abc, DAYS) == [CUT]
    assert status(warehouse, abc, CUT, "1d").explained == {"accepted": 1}
    assert status(warehouse, abc, CUT).explained == {"accepted": 390}
    assert gaps(warehouse, abc) == gaps(warehouse, abc, DAILY) == []


def answer(warehouse: Warehouse, now: datetime) -> SessionStatus:
    """Judge the stored sessions as after a new answer that says the same."""
    abc = listed(warehouse)
    subject = warehouse.subject(abc, INTRADAY)
    sessions = subject.sessions
    rows = np.arange(*sessions.rows_between(DAYS[0], DAYS[-1]).indices(10**6)[:2])
    window = sessions.days_window(DAYS[0], DAYS[-1])
    bare = []
    for day in DAYS:
        one = status(warehouse, abc, day)
        bare.append(replace(one, explained={}, missing=one.expected - one.stored))
    with warehouse.conn:
        stored = counted(_stored(warehouse, subject, rows), [window])
        judged = judge_absence(warehouse, subject, rows, bare, stored, [window], now)
    return judged[DAYS.index(CUT)]


def test_two_answers_a_week_apart_that_agree_are_believed_where_the_day_lacks_nothing(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    few = on(CUT, 90, 93)
    trade(exchange, DAYS, lambda day, minute: not few(day, minute), never, noise=0.005)
    abc = listed(warehouse)
    load(warehouse, abc, DAYS, DAILY, INTRADAY)
    (gap,) = gaps(warehouse, abc)
    assert (gap.verdict, gap.evidence["volume"], gap.attempts) == ("missing", "unclear", 0)
    assert answer(warehouse, LATER + timedelta(days=6)).missing == 3
    assert gaps(warehouse, abc)[0].attempts == 1
    agreed = answer(warehouse, LATER + timedelta(days=7))
    assert (agreed.missing, agreed.explained) == (0, {"no_trade": 3})
    assert resolutions(warehouse) == ["agreed no_trade"]
    look(at(warehouse, LATER + timedelta(days=8)), abc, DAYS)
    assert status(warehouse, abc, CUT).explained == {"no_trade": 3}


def test_where_the_day_has_it_no_number_of_answers_makes_it_no_trade(warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, HALF_HOUR)
    abc = listed(warehouse)
    load(warehouse, abc, DAYS, DAILY, INTRADAY)
    waits = []
    for day in (1, 2, 9):
        now = LATER + timedelta(days=day)
        assert answer(warehouse, now).missing == 30
        row = int(warehouse.sessions("XNYS").rows_between(CUT, CUT).start)
        with warehouse.conn:
            waits.append(
                next_attempts(warehouse, warehouse.subject(abc, INTRADAY), np.arange(row - 1, row + 1))[row] - now
            )
    assert waits == [timedelta(days=1), timedelta(days=7), timedelta(days=7)]
    assert gaps(warehouse, abc)[0].attempts == 3


def test_minutes_that_are_explained_are_not_open_beside_a_gap(warehouse: Warehouse, exchange: Exchange) -> None:
    """A symbol that usually is silent from 13:00 to 13:30 lost 11:00 to 11:30, too: the later bucket is whole."""
    quiet = range(210, 240)
    trade(exchange, DAYS, lambda day, minute: minute not in quiet, HALF_HOUR)
    abc = listed(warehouse)
    load(warehouse, abc, DAYS, DAILY, INTRADAY)
    assert (status(warehouse, abc, CUT).missing, status(warehouse, abc, CUT).explained) == (30, {"no_trade": 30})
    subject = warehouse.subject(abc, INTRADAY)
    row = subject.sessions.rows_between(CUT, CUT).start
    rows, one = np.array([row]), [status(warehouse, abc, CUT)]
    window = subject.sessions.days_window(CUT, CUT)
    with warehouse.conn:
        present = _stored(warehouse, subject, rows).bars.ts
        before = open_minutes(subject.sessions, rows, one, [window], present)
        after = still_open(warehouse, subject, rows, one, before)
    lost = regular_minutes(CUT)[90:120]
    assert before.tolist() == lost + regular_minutes(CUT)[210:240]
    assert after.tolist() == lost


def test_a_refused_row_is_no_silence(warehouse: Warehouse, exchange: Exchange) -> None:
    """Its minute is absent although the provider told of it; the volume alone would call it no trade."""
    ts = micros(CUT, 11)
    trade(exchange, DAYS, lambda day, minute: not on(CUT, 90, 91)(day, minute), never)
    exchange.garbage = [(ts, (*row_of(ts)[:4], -5.0, None, None))]
    abc = listed(warehouse)
    load(warehouse, abc, DAYS, DAILY, INTRADAY)
    assert short(gaps(warehouse, abc), CUT) == [(90, 1, "missing", "refused row")]


def test_sessions_within_reach_of_new_ones_are_to_be_looked_at_again(warehouse: Warehouse) -> None:
    """Those with at most 80 sessions to the next new one that hold bars; one of them is in doubt."""
    abc = listed(warehouse)
    subject = warehouse.subject(abc, INTRADAY)
    row = subject.sessions.rows_between(CUT, CUT).start
    days = subject.sessions.session[row - 100 : row + 101].astype(object).tolist()
    known = [SessionStatus(day, 390, 390, {}, 0, {}, "exchange") for day in days]
    known[100] = SessionStatus(CUT, 390, 300, {"no_trade": 90}, 0, {}, "exchange")
    known[110] = SessionStatus(days[110], 390, 0, {"not_listed": 390}, 0, {}, "exchange")
    with warehouse.conn:
        write_status(warehouse.conn, abc.symbol_id, "1m", known, LATER)
        for rows, found in (([80], [0]), ([81], [0]), ([82], []), ([-90, -80], [0]), ([-90, -81], []), ([], [])):
            around = doubtful_around(warehouse, subject, row + np.array(rows, dtype=np.int64))
            assert (around - row).tolist() == found
