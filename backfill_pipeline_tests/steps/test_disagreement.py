"""Where another provider's bars replace stored ones: a line where the two tell different stories."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.base import Settle
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps import plain
from backfill_pipeline_tests.steps.warehouses import (
    Clock,
    Exchange,
    backfill,
    empty,
    listed,
    micros,
    ny,
    opened,
    query,
    regular_minutes,
    row_of,
)
from backfill_pipeline_tests.steps.week import MON, TRADED, TUE, WED

CLOSE, BARS, ANY_CLOSE, VOLUME = 0.001, 0.01, 0.02, 0.05


class Two:
    """Today's provider and the history's, and what a night makes of them."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.conn = warehouse.conn
        self.live = Exchange(name="live", live=True).trade(TRADED)
        self.history = Exchange(name="history", settle=Settle("day", timedelta(minutes=15))).trade(TRADED)
        for one in (self.live, self.history):
            one.minutes = {ts: row for ts, row in one.minutes.items() if ts in set(regular_minutes(TUE))}

    def at(self, hour: int, minute: int = 0, day: date = TUE) -> Warehouse:
        return Warehouse(self.conn, Router([self.history, self.live]), Clock(ny(day, hour, minute)))

    def change(self, place: int, *, close: float = 1.0, volume: float = 1.0) -> None:
        """One of the history's minutes, its close and volume times so much."""
        ts = regular_minutes(TUE)[place]
        _, _, _, closing, traded, vwap, trades = row_of(ts)
        closing *= close
        self.history.minutes[ts] = (closing, closing, closing, closing, traded * volume, vwap, trades)


@pytest.fixture
def two(database_url: str) -> Iterator[Two]:
    with opened(database_url, Exchange(), ny(TUE, 12)) as made:
        yield Two(made)


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.message for record in caplog.records if " disagree: " in record.message]
    caplog.clear()
    return lines


def test_todays_bars_give_way_to_the_historys_and_a_disagreement_is_told(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    abc = listed(two.at(16))
    backfill(two.at(20, 30), abc, INTRADAY, TUE, TUE)
    assert query(two.at(16), "SELECT DISTINCT provider FROM bars") == [("live",)]
    assert _told(caplog) == []
    for place in range(7):
        two.change(place, close=1.012)
    two.change(50, volume=100)
    backfill(two.at(1, day=WED), abc, INTRADAY, TUE, TUE)
    new = query(two.at(16), "SELECT sum(volume) FROM bars WHERE timeframe = '1m'")[0][0]
    share = 99 * row_of(regular_minutes(TUE)[50])[4] / float(str(new))
    (line,) = _told(caplog)
    assert line == (
        "ABC 1m 2024-05-07: live and history disagree: close by up to 1.2 % in 7 of 390 minutes, volume by"
        f" {100 * share:.2g} %"
    )
    for timeframe in INTRADAY.timeframes:
        assert plain.stored(two.at(16), timeframe) == plain.expected(two.history.minutes, timeframe)
    assert query(two.at(16), "SELECT DISTINCT provider FROM bars") == [("history",)]
    assert query(two.at(16), "SELECT kind, provider, count(*) FROM bar_revisions GROUP BY 1, 2") == [
        ("restated", "live", 8)
    ]
    backfill(two.at(1, day=WED), abc, INTRADAY, TUE, TUE)
    two.change(99, close=1.5)
    backfill(two.at(1, day=date(2024, 5, 9)), abc, INTRADAY, TUE, TUE)
    assert _told(caplog) == []  # a provider that corrects itself disagrees with nobody


@pytest.mark.parametrize(
    ("places", "change", "is_told"),
    [
        pytest.param(range(3), {"close": 1.015}, False, id="few minutes"),
        pytest.param(range(4), {"close": 1.0015}, True, id="more than 1 % of the minutes"),
        pytest.param(range(390), {"close": 1.0009}, False, id="rounding everywhere"),
        pytest.param(range(1), {"close": 1.021}, True, id="one minute by more than 2 %"),
        pytest.param(range(390), {"volume": 1.049}, False, id="late trades"),
        pytest.param(range(390), {"volume": 1.06}, True, id="volume by more than 5 %"),
    ],
)
def test_the_tolerance(
    two: Two, caplog: pytest.LogCaptureFixture, places: range, change: dict[str, float], *, is_told: bool
) -> None:
    abc = listed(two.at(16))
    backfill(two.at(20, 30), abc, INTRADAY, TUE, TUE)
    for place in places:
        two.change(place, **change)
    backfill(two.at(1, day=WED), abc, INTRADAY, TUE, TUE)
    assert bool(_told(caplog)) == is_told


def test_a_minute_or_a_day_that_was_not_over_disagrees_with_nobody(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    abc = listed(two.at(9, 40))
    now = micros(TUE, 12, 30)
    two.live.silent = [Window(now, micros(WED, 0))]
    two.live.provisional = {now: (50.0, 50.0, 50.0, 50.0, 1.0, None, None)}
    backfill(two.at(12, 31), abc, INTRADAY, TUE, TUE)
    assert query(two.at(16), "SELECT close FROM bars WHERE timeframe = '1m' AND ts = %s", ny(TUE, 12, 30)) == [(50.0,)]
    two.live.provisional = {micros(TUE, 0): (90.0, 90.0, 90.0, 90.0, 1.0, None, None)}
    backfill(two.at(12, 32), abc, DAILY, MON, TUE)
    for chain in (INTRADAY, DAILY):
        backfill(two.at(1, day=WED), abc, chain, TUE, TUE)
    assert query(two.at(16), "SELECT DISTINCT provider FROM bars WHERE session = %s", TUE) == [("history",)]
    assert _told(caplog) == []


def test_days_that_disagree_are_told_too(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    abc = listed(two.at(16))
    backfill(two.at(20, 30), abc, DAILY, TUE, TUE)
    opening, high, low, closing, volume, vwap, trades = two.history.days[micros(TUE, 0)]
    two.history.days[micros(TUE, 0)] = (opening, high + 3, low, closing * 1.02, volume * 1.1, vwap, trades)
    backfill(two.at(1, day=WED), abc, DAILY, TUE, TUE)
    assert _told(caplog) == [
        "ABC 1d 2024-05-07: live and history disagree: close by up to 2 % in 1 of 1 bars, volume by 9.1 %"
    ]


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.integers(0, 389),
        st.tuples(st.sampled_from([1.0, 1.0005, 1.002, 0.99]), st.sampled_from([1.0, 1.5, 40.0])),
        max_size=8,
    )
)
def test_what_is_told_is_what_plain_python_finds(
    database_url: str, caplog: pytest.LogCaptureFixture, changes: dict[int, tuple[float, float]]
) -> None:
    with opened(database_url, Exchange(), ny(TUE, 12)) as made:
        empty(made)
        two = Two(made)
        abc = listed(made)
        backfill(two.at(20, 30), abc, INTRADAY, TUE, TUE)
        for place, (close, volume) in changes.items():
            two.change(place, close=close, volume=volume)
        backfill(two.at(1, day=WED), abc, INTRADAY, TUE, TUE)
        pairs = [(row_of(ts), two.history.minutes[ts]) for ts in regular_minutes(TUE)]
        far = [abs(new[3] - old[3]) / new[3] for old, new in pairs]
        volume = abs(sum(new[4] - old[4] for old, new in pairs)) / sum(new[4] for _, new in pairs)
        off = sum(one > CLOSE for one in far)
        is_told = off / 390 > BARS or max(far) > ANY_CLOSE or volume > VOLUME
        assert len(_told(caplog)) == is_told
