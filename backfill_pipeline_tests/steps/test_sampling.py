"""The monthly sample of final sessions: which are drawn, that they are asked for again, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.steps.sampling import choose, resample_due, sample_news, take_sample
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.samples import Asked, final_sessions
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    at,
    backfill,
    both_chains,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
)
from backfill_pipeline_tests.steps.week import FRI, LATER, MON, NEXT_TUE, THU, TRADED, TUE, WED
from backfill_pipeline_tests.tables import differences, tables

JUNE, JULY = date(2024, 6, 1), date(2024, 7, 1)
MONTHS = st.integers(0, 50).map(lambda n: date(2020 + n // 12, 1 + n % 12, 1))


def _sessions(provider: str, count: int) -> list[Asked]:
    return [Asked(provider, f"S{i % 7}", "1m", MON + timedelta(days=i // 7)) for i in range(count)]


@given(
    counts=st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 900), max_size=6),
    month=MONTHS,
    order=st.randoms(use_true_random=False),
)
def test_a_hundredth_of_each_providers_sessions_is_drawn_and_twenty_at_most(
    counts: dict[str, int], month: date, order: object
) -> None:
    population = [one for provider, count in counts.items() for one in _sessions(provider, count)]
    drawn = choose(population, month)
    assert len(set(drawn)) == len(drawn) == min(20, sum(ceil(count / 100) for count in counts.values()))
    assert set(drawn) <= set(population)
    per_provider = Counter(one.provider for one in drawn)
    assert all(1 <= per_provider[provider] <= ceil(count / 100) for provider, count in counts.items())
    order.shuffle(population)  # type: ignore[attr-defined]  # a random.Random
    assert set(choose(population, month)) == set(drawn)


def test_months_differ_and_every_session_comes_in_the_end() -> None:
    population = _sessions("a", 40)
    months = [date(2000 + n // 12, 1 + n % 12, 1) for n in range(480)]
    drawn = [choose(population, month)[0] for month in months]
    assert set(drawn) == set(population)
    assert max(Counter(drawn).values()) < 40  # 12 on average


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def test_only_final_wanted_sessions_of_followed_symbols_are_drawn_from(warehouse: Warehouse) -> None:
    abc, gone = listed(warehouse), listed(warehouse, "GONE")
    both_chains(at(warehouse, ny(FRI, 20, 30)), abc, MON, FRI)  # Thursday and Friday may still be corrected
    both_chains(warehouse, gone, MON, FRI)
    query(warehouse, "UPDATE symbols SET active = false WHERE symbol = 'GONE'")
    with warehouse.conn:
        found = set(final_sessions(warehouse.conn))
    assert found == {Asked("exchange", "ABC", base, day) for base in ("1m", "1d") for day in (MON, TUE, WED)}
    query(warehouse, "DELETE FROM wanted WHERE timeframe = '1d'")
    with warehouse.conn:
        assert {one.timeframe for one in final_sessions(warehouse.conn)} == {"1m"}


def test_a_sample_is_asked_for_by_the_next_run_once_and_nothing_else(warehouse: Warehouse, exchange: Exchange) -> None:
    abc = listed(warehouse)
    both_chains(warehouse, abc, MON, NEXT_TUE)
    before, rows = tables(warehouse.conn), query(warehouse, "SELECT ctid, xmin::text FROM bars")
    assert resample_due(warehouse.conn, LATER)
    assert take_sample(warehouse) == 1
    assert not resample_due(warehouse.conn, LATER)
    ((month, base, day, asked_at, differing),) = query(
        warehouse, "SELECT month, timeframe::text, session, asked_at, differing FROM samples"
    )
    assert (month, asked_at, differing) == (JUNE, LATER, None)
    assert take_sample(at(warehouse, LATER + timedelta(days=9))) == 0
    assert sample_news(warehouse) == []
    exchange.requests.clear()
    for hours in (1, 2):
        both_chains(at(warehouse, LATER + timedelta(hours=hours)), abc, MON, NEXT_TUE)
    assert isinstance(day, date)
    assert [(one, window.start) for one, window in exchange.requests] == [(base, micros(day, 0))]
    assert sample_news(warehouse) == []
    assert query(warehouse, "SELECT differing FROM samples") == [(0,)]
    assert differences(tables(warehouse.conn), before) == []
    assert query(warehouse, "SELECT ctid, xmin::text FROM bars") == rows
    assert take_sample(at(warehouse, datetime(2024, 7, 1, tzinfo=UTC))) == 1
    assert query(warehouse, "SELECT month FROM samples ORDER BY month") == [(JUNE,), (JULY,)]


def test_what_a_sample_finds_is_stored_and_told_once(
    warehouse: Warehouse, exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, WED, WED)
    take_sample(warehouse)
    lost, changed = regular_minutes(WED)[5], regular_minutes(WED)[6:9]
    del exchange.minutes[lost]
    exchange.minutes |= dict.fromkeys(changed, (102.0, 103.0, 101.0, 102.5, 9.0, 102.0, 3))
    backfill(at(warehouse, LATER + timedelta(hours=1)), abc, INTRADAY, WED, WED)
    line = (
        "ABC 1m 2024-05-08: asked for again, exchange has 4 bars otherwise than before; the new ones are stored, the"
        " old ones are in bar_revisions"
    )
    assert sample_news(warehouse) == [line]
    assert [record.message for record in caplog.records] == [line]
    assert sample_news(warehouse) == []
    traded = {ts: row for ts, row in exchange.minutes.items() if micros(WED, 0) <= ts < micros(THU, 0)}
    for timeframe in INTRADAY.timeframes:
        assert plain.stored(warehouse, timeframe) == plain.expected(traded, timeframe)


def test_a_sampled_session_that_would_lose_too_much_stays_and_is_not_settled(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, WED, WED)
    take_sample(warehouse)
    for ts in regular_minutes(WED)[:50]:
        del exchange.minutes[ts]
    backfill(at(warehouse, LATER + timedelta(hours=1)), abc, INTRADAY, WED, WED)
    assert sample_news(warehouse) == []
    assert query(warehouse, "SELECT differing FROM samples") == [(None,)]
    assert query(warehouse, "SELECT count(*) FROM bars WHERE timeframe = '1m'") == [(390,)]


@pytest.mark.parametrize("day", [MON, WED, NEXT_TUE], ids=["the first", "one inside", "the last"])
def test_only_the_sessions_own_stretch_stops_being_believed(warehouse: Warehouse, day: date) -> None:
    abc = listed(warehouse)
    backfill(warehouse, abc, INTRADAY, MON, NEXT_TUE)
    query(
        warehouse,
        "SELECT expire_coverage(%s, '1m', tstzrange(%s, %s))",
        abc.symbol_id,
        ny(day, 0),
        ny(day + timedelta(days=1), 0),
    )
    held = query(
        warehouse,
        "SELECT lower(time_window), upper(time_window), rows_received, rows_written, valid_until = 'infinity' FROM"
        " coverage ORDER BY 1",
    )
    expired = [row for row in held if not row[4]]
    assert expired == [(ny(day, 0), ny(day + timedelta(days=1), 0), 390, 390, False)]
    kept = {MON: 1, WED: 2, NEXT_TUE: 1}[day]
    assert len(held) == kept + 1
    assert sum(int(str(row[2])) for row in held) == 7 * 390
    assert all(left[1] == right[0] for left, right in pairwise(held))
    assert (held[0][0], held[-1][1]) == (ny(MON, 0), ny(NEXT_TUE + timedelta(days=1), 0))


def test_nothing_final_is_nothing_to_sample(warehouse: Warehouse) -> None:
    listed(warehouse)
    assert take_sample(warehouse) == 0
    assert resample_due(warehouse.conn, LATER)  # later in the month there may be something
