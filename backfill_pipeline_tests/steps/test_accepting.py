"""Accepted gaps explain their bars, and what follows from their sessions is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.accepting import accept_gaps, parse_ids
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.gaps import GapError
from backfill_pipeline.storage.symbols import lock, unlock
from backfill_pipeline_tests.steps.absences import (
    always,
    disagreeing,
    gaps,
    on,
    resolutions,
    short,
    status,
    trade,
    weekdays,
)
from backfill_pipeline_tests.steps.warehouses import Exchange, backfill, listed, opened, query

DAYS = weekdays(date(2024, 5, 6), 8)
CUT, LATER = DAYS[5], datetime(2024, 6, 20, tzinfo=UTC)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        trade(exchange, DAYS, always, lambda day, minute: day == CUT and (90 <= minute < 120 or 200 <= minute < 240))
        for chain in (DAILY, INTRADAY):
            backfill(made, listed(made), chain, DAYS[0], DAYS[-1])
        yield made
        assert disagreeing(made) == []


def said(line: str) -> None:
    raise AssertionError(line)


def test_a_session_is_what_it_still_lacks_and_complete_with_the_last_gap(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    one, two = gaps(warehouse, abc)
    (partly,) = accept_gaps(warehouse, [one.gap_id], "one feed lost them", said)
    assert (partly.symbol, partly.timeframe, partly.status.session) == ("ABC", "1m", CUT)
    assert (partly.status.missing, [gap.gap_id for gap in partly.left]) == (40, [two.gap_id])
    assert short(gaps(warehouse, abc), CUT) == [(200, 40, "outage", "volume")]
    (whole,) = accept_gaps(warehouse, [two.gap_id], "these, too", said)
    assert (whole.status.complete, whole.left) == (True, ())
    assert status(warehouse, abc, CUT).explained == {"accepted": 70}
    assert resolutions(warehouse) == ["accepted", "accepted"]


def test_coarser_bars_of_an_accepted_session_are_final_and_counted(warehouse: Warehouse) -> None:
    open_bars = "SELECT timeframe::text, count(*) FROM bars WHERE NOT final AND timeframe <> '1m' GROUP BY 1 ORDER BY 1"
    before = dict(query(warehouse, open_bars))
    assert before["4h"] == 1
    list(accept_gaps(warehouse, [gap.gap_id for gap in gaps(warehouse, listed(warehouse))], "lost", said))
    assert query(warehouse, open_bars) == []
    # 9:30 to 16:00 without 11:00-11:30 and 12:50-13:30: of half hours, the one at 11:00 and the one at 13:00 have none.
    assert status(warehouse, listed(warehouse), CUT).derived["30m"] == 11


def test_what_is_accepted_is_not_asked_for_again(warehouse: Warehouse, exchange: Exchange) -> None:
    list(accept_gaps(warehouse, [gap.gap_id for gap in gaps(warehouse, listed(warehouse))], "lost", said))
    exchange.requests.clear()
    done = backfill(warehouse, listed(warehouse), INTRADAY, DAYS[0], DAYS[-1])
    assert {outcome.state for outcome in done.values()} == {"complete"}
    assert exchange.requests == []


def test_nothing_is_accepted_where_one_number_is_wrong(warehouse: Warehouse) -> None:
    (one, _) = gaps(warehouse, listed(warehouse))
    with pytest.raises(GapError, match="gap 77 is not known; open gaps: backfill gaps"):
        list(accept_gaps(warehouse, [one.gap_id, 77], "lost", said))
    assert resolutions(warehouse) == []


def test_it_waits_for_the_run_that_is_at_the_symbol_and_says_so(warehouse: Warehouse, database_url: str) -> None:
    abc, lines = listed(warehouse), []
    with closing(connect(database_url)) as other:
        lock(other, abc.symbol_id, "1m")

        def waiting(line: str) -> None:
            lines.append(line)
            unlock(other, abc.symbol_id, "1m")

        numbers = [gap.gap_id for gap in gaps(warehouse, abc)]
        (done,) = accept_gaps(warehouse, numbers, "lost", waiting)
        assert lines == ["waiting for the run that is at ABC 1m"]
        assert done.status.complete
        with other, other.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(1, %s)", (abc.symbol_id,))
            assert cursor.fetchall() == [(True,)], "the lock was given back"


def test_several_symbols_and_chains_are_accepted_at_once(warehouse: Warehouse, exchange: Exchange) -> None:
    trade(exchange, DAYS, always, on(CUT, 0, 30))
    exchange.days.clear()
    xyz = listed(warehouse, "XYZ")
    for chain in (DAILY, INTRADAY):
        backfill(warehouse, xyz, chain, DAYS[0], DAYS[-1])
    numbers = [gap.gap_id for of in (xyz, listed(warehouse)) for gap in gaps(warehouse, of)]
    numbers += [gap.gap_id for gap in gaps(warehouse, xyz, DAILY)]
    assert len(numbers) == 3 + 8
    done = list(accept_gaps(warehouse, numbers, "gone", said))
    assert [(one.symbol, one.timeframe, one.status.session) for one in done] == [
        ("ABC", "1m", CUT),
        *(("XYZ", "1d", day) for day in DAYS),
        ("XYZ", "1m", CUT),
    ]
    assert all(one.status.complete for one in done)
    assert query(warehouse, "SELECT count(DISTINCT resolved_at) FROM gaps") == [(1,)]


@pytest.mark.parametrize(
    ("texts", "ids"),
    [(["17"], [17]), (["17-19", "3"], [17, 18, 19, 3]), (["4,7-8", "7"], [4, 7, 8])],
)
def test_numbers_are_read_as_they_are_shown(texts: list[str], ids: list[int]) -> None:
    assert parse_ids(texts) == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nine", "gap 'nine' is not known; write its number as backfill gaps shows it"),
        ("-3", "gap '-3' is not known"),
        ("", "gap '' is not known"),
        ("9-3", "gaps 9-3 are not a range"),
        ("1-999999999", "gaps 1-999999999 are not a range of at most 10,000 numbers"),
    ],
)
def test_what_is_no_number_is_named(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_ids([text])
