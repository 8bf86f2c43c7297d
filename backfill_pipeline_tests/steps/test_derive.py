"""What follows from base bars: coarser bars and features, exactly as far as a change reaches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.derive import by_provider
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    at,
    backfill,
    both_chains,
    empty,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
)
from backfill_pipeline_tests.tables import Tables, differences, tables

# Across the clock change of 2024-11-03, Thanksgiving, the half day after it and a year end.
AUTUMN = [
    day
    for day in (date(2024, 10, 28) + timedelta(days=i) for i in range(70))
    if day.weekday() < 5 and day not in {date(2024, 11, 28), date(2024, 12, 25), date(2025, 1, 1)}
]
FIRST, LAST = AUTUMN[0], AUTUMN[-1]
LATER = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(AUTUMN)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def _clean(warehouse: Warehouse, first: date = FIRST, last: date = LAST) -> Tables:
    """The tables of one run over everything, in an emptied database."""
    empty(warehouse)
    both_chains(warehouse, listed(warehouse), first, last)
    return tables(warehouse.conn)


def _changed(before: Tables, after: Tables, name: str) -> set[tuple[str, str]]:
    """Timeframe and ts of the rows that differ."""
    differing = set(before[name]) ^ set(after[name])
    return {(row.split("\t")[1], row.split("\t")[2]) for row in differing}


def _stamp(ts: int) -> str:
    return f"{datetime.fromtimestamp(ts / 1_000_000, UTC):%Y-%m-%d %H:%M:%S+00}"


def test_coarser_bars_equal_plain_python_over_a_clock_change_a_half_day_and_unknown_parts(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    days = [date(2024, 11, 1), date(2024, 11, 4), date(2024, 11, 29)]
    exchange.minutes.clear()
    exchange.trade([days[0]], extended=True).trade(days[1:])
    for i, ts in enumerate(list(exchange.minutes)):
        opening, high, low, closing, volume, vwap, trades = exchange.minutes[ts]
        if i % 211 == 0:
            trades = None
        if i % 97 < 3:
            vwap = None
        exchange.minutes[ts] = (opening, high, low, closing, volume, vwap, trades)
        if i % 53 == 0:
            del exchange.minutes[ts]
    backfill(warehouse, listed(warehouse), INTRADAY, days[0], days[-1])
    for timeframe in INTRADAY.timeframes:
        assert plain.stored(warehouse, timeframe) == plain.expected(exchange.minutes, timeframe)
    assert query(
        warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1h' AND session = '2024-11-29' AND segment = 'regular'"
    ) == [(4,)]


def test_a_bucket_with_an_absent_minute_is_stored_and_is_neither_final_nor_counted(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    day = date(2024, 11, 29)
    del exchange.minutes[micros(day, 11, 7)]
    backfill(warehouse, listed(warehouse), INTRADAY, day, day)
    open_bars = query(warehouse, "SELECT timeframe::text, ts FROM bars WHERE NOT final ORDER BY bars.timeframe")
    assert open_bars == [
        ("5m", ny(day, 11, 5)),
        ("15m", ny(day, 11)),
        ("30m", ny(day, 11)),
        ("1h", ny(day, 10, 30)),
        ("4h", ny(day, 9, 30)),
    ]
    assert query(warehouse, "SELECT derived FROM session_status") == [
        ({"5m": 41, "15m": 13, "30m": 6, "1h": 3, "4h": 0},)
    ]


def test_a_restated_minute_reaches_every_bar_and_feature_that_saw_it_and_no_other(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    before = _clean(warehouse)
    day = date(2024, 11, 12)
    minute = micros(day, 10, 17)
    exchange.minutes[minute] = (140.0, 141.0, 139.0, 140.5, 77.0, 140.0, 2)
    query(warehouse, "UPDATE coverage SET valid_until = '2024-01-01' WHERE timeframe = '1m'")
    backfill(warehouse, listed(warehouse), INTRADAY, day, day)
    after = tables(warehouse.conn)
    assert _changed(before, after, "bars") == {
        ("1m", _stamp(minute)),
        ("5m", _stamp(micros(day, 10, 15))),
        ("15m", _stamp(micros(day, 10, 15))),
        ("30m", _stamp(micros(day, 10))),
        ("1h", _stamp(micros(day, 9, 30))),
        ("4h", _stamp(micros(day, 9, 30))),
    }
    changed = _changed(before, after, "features")
    for timeframe in INTRADAY.timeframes:
        stamps = sorted(ts for name, ts in changed if name == timeframe)
        starts = sorted(ts for ts, (segment, _) in plain.stored(warehouse, timeframe).items() if segment == "regular")
        bucket = max(ts for ts in starts if ts <= minute)
        assert stamps[0] == _stamp(bucket)
        # The simple average over 50 bars sees it from the bar itself on: 50 rows in a row at least.
        place = starts.index(bucket)
        assert {_stamp(ts) for ts in starts[place : place + 50]} <= set(stamps)
    assert differences(after, _clean(warehouse)) == []


@pytest.mark.parametrize("minutes", [1, 390], ids=["a minute", "a session"])
def test_withdrawn_bars_take_what_was_built_of_them_along(
    warehouse: Warehouse, exchange: Exchange, minutes: int
) -> None:
    before = _clean(warehouse)
    day = date(2024, 11, 12)
    for ts in regular_minutes(day)[:minutes]:
        del exchange.minutes[ts]
    query(warehouse, "SELECT reopen('ABC', '1m', %s, %s)", day, day)
    outcome = backfill(warehouse, listed(warehouse), INTRADAY, day, day)["2024-11-12"]
    assert outcome.message == f"ABC 2024-11-12 1m: {minutes} of 390 bars are missing"
    after = tables(warehouse.conn)
    assert differences(after, before) != []
    assert differences(after, _clean(warehouse)) == []


def test_older_history_that_comes_later_changes_the_features_after_it(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    both_chains(warehouse, abc, date(2024, 11, 20), LAST)
    both_chains(warehouse, abc, FIRST, date(2024, 11, 19))
    late = tables(warehouse.conn)
    assert differences(late, _clean(warehouse)) == []


def test_days_far_beyond_the_warm_up_stay_untouched(warehouse: Warehouse, exchange: Exchange) -> None:
    _clean(warehouse)
    marks = query(warehouse, "SELECT timeframe::text, ts, xmin::text FROM features WHERE ts >= '2024-12-01'")
    exchange.minutes[micros(FIRST, 10)] = (140.0, 141.0, 139.0, 140.5, 77.0, 140.0, 2)
    query(warehouse, "UPDATE coverage SET valid_until = '2024-01-01'")
    backfill(warehouse, listed(warehouse), INTRADAY, FIRST, FIRST)
    later = query(warehouse, "SELECT timeframe::text, ts, xmin::text FROM features WHERE ts >= '2024-12-01'")
    now = {row[:2]: row[2] for row in later}
    rewritten = {row[0] for row in marks if now[row[:2]] != row[2]}
    # From October to December are some 9,000 minutes, 1,900 bars of 5m and 630 of 15m: 1,050 reach as far as 15m.
    assert not rewritten & {"1m", "5m"}


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM features",
        "DELETE FROM bars WHERE timeframe NOT IN ('1m', '1d')",
        "DELETE FROM features WHERE ts < '2024-11-15' AND timeframe IN ('5m', '1d', '1w')",
        "UPDATE bars SET close = close * 1.01, volume = 0 WHERE timeframe IN ('15m', '4h', '1w')",
        "UPDATE features SET sma_20 = 0, rsi_14 = NULL WHERE extract(day FROM ts) = 12",
        "UPDATE session_status SET derived = '{}' WHERE timeframe = '1m'",
        "UPDATE bars SET ts = ts + interval '1 minute' WHERE timeframe = '30m'",
    ],
)
def test_deriving_anew_heals_whatever_was_done_to_derived_tables(
    warehouse: Warehouse, exchange: Exchange, damage: str
) -> None:
    first, last = date(2024, 11, 4), date(2024, 12, 6)
    del exchange.minutes[micros(date(2024, 11, 12), 10, 17)]
    clean = _clean(warehouse, first, last)
    query(warehouse, damage)
    assert differences(tables(warehouse.conn), clean) != []
    exchange.requests.clear()
    abc = listed(warehouse)
    for chain in (INTRADAY, DAILY):
        backfill(warehouse, abc, chain, first, last, ask=False)
    assert exchange.requests == []
    assert differences(tables(warehouse.conn), clean) == []


def test_deriving_anew_heals_the_features_of_a_week_that_begins_with_a_holiday(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    # Monday 2024-09-02 is Labor Day and labels the week; its first session is the Tuesday.
    exchange.trade([date(2024, 9, day) for day in (3, 4, 5, 6)])
    first, last = date(2024, 9, 2), date(2024, 9, 8)
    clean = _clean(warehouse, first, last)
    assert query(warehouse, "SELECT ts FROM features WHERE timeframe = '1w'") == [(ny(first, 0),)]
    query(warehouse, "DELETE FROM features WHERE timeframe = '1w'")
    backfill(warehouse, listed(warehouse), DAILY, first, last, ask=False)
    assert differences(tables(warehouse.conn), clean) == []


def test_deriving_anew_gives_bars_the_name_of_who_sent_their_parts(database_url: str) -> None:
    days = [date(2024, 12, day) for day in (2, 3, 4, 5, 6, 9, 10, 11, 12, 13)]
    with opened(database_url, Exchange(name="first").trade(days), LATER) as one:
        both_chains(one, listed(one), days[0], days[4])
    with opened(database_url, Exchange(name="second").trade(days), LATER) as two:
        abc = listed(two)
        both_chains(two, abc, days[0], days[-1])
        mixed = tables(two.conn)
        names = "SELECT session < '2024-12-09', provider FROM bars GROUP BY 1, 2 ORDER BY 1"
        assert query(two, names) == [(False, "second"), (True, "first")]
        query(two, "DELETE FROM bars WHERE timeframe IN ('4h', '1w')")
        for chain in (INTRADAY, DAILY):
            backfill(two, abc, chain, days[0], days[-1], ask=False)
        assert differences(tables(two.conn), mixed) == []


def test_runs_of_days_are_cut_where_the_provider_changes() -> None:
    a, b, c, d = (date(2024, 1, day) for day in range(1, 5))
    assert by_provider([a, b, c, d], {b: "x", d: "y"}, "z") == [([a], "z"), ([b, c], "x"), ([d], "y")]
    assert by_provider([], {}, "z") == []


def test_a_week_is_built_when_its_last_session_is_there_and_goes_when_one_is_withdrawn(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    monday = date(2024, 12, 2)
    at_noon_of_friday = at(warehouse, ny(date(2024, 12, 6), 12))
    backfill(at_noon_of_friday, abc, DAILY, monday, date(2024, 12, 6))
    assert plain.stored(warehouse, "1w") == {}
    backfill(warehouse, abc, DAILY, monday, date(2024, 12, 6))
    expected = {micros(monday, 0): ("regular", plain.rounded(plain.week(exchange.days, monday)))}
    assert plain.stored(warehouse, "1w") == expected
    del exchange.days[micros(date(2024, 12, 4), 0)]
    query(warehouse, "SELECT reopen('ABC', '1d', '2024-12-04', '2024-12-04')")
    backfill(warehouse, abc, DAILY, monday, date(2024, 12, 6))
    assert plain.stored(warehouse, "1w") == {}
    assert query(warehouse, "SELECT count(*) FROM features WHERE timeframe = '1w'") == [(0,)]


def test_a_week_of_which_a_session_is_not_wanted_gets_no_bar_until_it_is(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, DAILY, date(2024, 12, 3), date(2024, 12, 6))
    assert plain.stored(warehouse, "1w") == {}
    backfill(warehouse, abc, DAILY, date(2024, 12, 2), date(2024, 12, 2))
    assert len(plain.stored(warehouse, "1w")) == 1


def test_a_week_in_which_a_stock_was_listed_is_the_same_however_it_was_asked_for(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    wednesday = date(2024, 12, 4)
    exchange.days = {ts: row for ts, row in exchange.days.items() if ts >= micros(wednesday, 0)}
    new = listed(warehouse, lifetime=(wednesday, None))
    backfill(warehouse, new, DAILY, wednesday, date(2024, 12, 6))
    backfill(warehouse, new, DAILY, date(2024, 12, 2), date(2024, 12, 3))
    cut = tables(warehouse.conn)
    assert len(plain.stored(warehouse, "1w")) == 1
    empty(warehouse)
    backfill(warehouse, listed(warehouse, lifetime=(wednesday, None)), DAILY, date(2024, 12, 2), date(2024, 12, 6))
    assert differences(cut, tables(warehouse.conn)) == []


def test_features_know_what_is_between_two_bars(warehouse: Warehouse, exchange: Exchange) -> None:
    day = date(2024, 12, 3)
    minutes = regular_minutes(day)
    del exchange.minutes[minutes[5]]
    backfill(warehouse, listed(warehouse), INTRADAY, day, day)
    rows = query(warehouse, "SELECT ts, return_pct FROM features WHERE timeframe = '1m' ORDER BY ts LIMIT 8")
    closes = [exchange.minutes[ts][3] for ts in minutes if ts in exchange.minutes][:8]
    returns = [None] + [b / a - 1 for a, b in pairwise(closes)]
    returns[5] = None  # the bar after the hole
    for (_, stored), expected in zip(rows, returns, strict=True):
        assert (stored is None) == (expected is None)
        assert expected is None or stored == pytest.approx(expected, abs=1e-15)
