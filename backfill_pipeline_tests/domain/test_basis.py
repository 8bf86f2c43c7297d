"""Adjusted answers are told from raw ones, and crashes, real splits, thin stocks and random walks are left alone."""

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backfill_pipeline.domain.adjust import Split, split_basis, split_factors
from backfill_pipeline.domain.bars import Bars, make_bars
from backfill_pipeline.domain.basis import basis_mismatch

MONDAY = date(2024, 6, 3)
TEN = Split(date(2024, 7, 1), 10.0)
Sessions = NDArray[np.datetime64]

law = settings(deadline=None, max_examples=60)


def on_days(closes: list[float], first: date = MONDAY) -> tuple[Bars, Sessions]:
    """Flat daily bars on consecutive days."""
    session = np.datetime64(first) + np.arange(len(closes))
    return make_bars(np.arange(len(closes)), closes, closes, closes, closes, np.ones(len(closes))), session


def closes_of(bars: Bars, session: Sessions) -> dict[date, float]:
    return dict(zip(session.astype("datetime64[D]").tolist(), bars.close.tolist(), strict=True))


@pytest.mark.parametrize(
    ("answered", "known", "splits", "expected"),
    [
        pytest.param([12.1], [121.0], [TEN], "basis mismatch 0.100 = split 10:1", id="one session and a told split"),
        pytest.param([12.1], [121.0], [], "basis mismatch 0.100 = split 10:1", id="a split nobody told of"),
        pytest.param([121.0], [12.1], [], "basis mismatch 10.000 = split 1:10", id="a reverse split"),
        pytest.param(
            [50.0] * 3 + [100.0], [75.0] * 3 + [100.0], [], "basis mismatch 0.667 = split 3:2", id="three of 3:2"
        ),
        pytest.param([121.0, 12.2], [121.0, 122.0], [TEN], "basis mismatch 0.100 = split 10:1", id="only page two"),
        pytest.param(
            [6.0],
            [121.0],
            [TEN, Split(date(2025, 1, 2), 2.0)],
            "basis mismatch 0.050 = split 20:1",
            id="two later splits",
        ),
        pytest.param(
            [12.1],
            [121.0],
            [TEN, Split(date(2025, 1, 2), 2.0)],
            "basis mismatch 0.100 = split 10:1",
            id="as of a day between two later splits",
        ),
        pytest.param([80.0], [100.0], [Split(date(2024, 7, 1), 1.25)], "split 5:4", id="a told 5:4"),
        pytest.param([121.0], [121.3], [TEN], None, id="raw"),
        pytest.param([12.1], [12.1], [Split(MONDAY, 10.0)], None, id="a split day itself"),
        pytest.param([60.5], [60.5], [Split(date(2024, 7, 1), 2.0)], None, id="a crash in both"),
        pytest.param([50.0] * 2, [75.0] * 2, [], None, id="two of 3:2 are not enough"),
        pytest.param(
            [91.0] * 4, [100.0] * 4, [Split(date(2024, 7, 1), 1.1)], None, id="11:10 is too near to a thin stock"
        ),
        pytest.param([43.0], [100.0], [TEN], None, id="no usual ratio"),
        pytest.param([0.0001], [0.0002], [], None, id="a tick of a sub-penny stock"),
        pytest.param([12.1], [], [TEN], None, id="nothing known"),
    ],
)
def test_an_answer_is_compared_with_the_days_that_are_known(
    answered: list[float], known: list[float], splits: list[Split], expected: str | None
) -> None:
    bars, session = on_days(answered)
    found = basis_mismatch(bars, session, closes_of(*on_days(known)), None, splits)
    assert found is None if expected is None else expected in (found or "")


FIVE_LATER = [Split(date(2024, 7, 1), 5.0)]


@pytest.mark.parametrize(
    ("answered", "before", "splits", "expected"),
    [
        pytest.param([20.0], (date(2024, 5, 31), 100.0), FIVE_LATER, "basis mismatch 0.200 = split 5:1", id="adjusted"),
        pytest.param([100.0, 20.0], None, FIVE_LATER, "basis mismatch 0.200 = split 5:1", id="only page two"),
        pytest.param([20.0], (date(2024, 5, 31), 100.0), [], None, id="a split nobody told of yet, or a crash"),
        pytest.param([20.0], (date(2024, 5, 31), 100.0), [Split(MONDAY, 5.0)], None, id="a real split"),
        pytest.param(
            [10.0],
            (date(2024, 5, 31), 100.0),
            [Split(MONDAY, 5.0), Split(date(2024, 7, 1), 2.0)],
            "basis mismatch 0.500 = split 2:1",
            id="a real split, adjusted for the next",
        ),
        pytest.param([50.0], (date(2024, 5, 31), 100.0), FIVE_LATER, None, id="a crash by half"),
        pytest.param([22.5], (date(2024, 5, 31), 100.0), FIVE_LATER, None, id="a crash by 77.5 %"),
        pytest.param([500.0], (date(2024, 5, 31), 100.0), FIVE_LATER, None, id="upwards"),
        pytest.param([20.0], (date(2024, 1, 31), 100.0), FIVE_LATER, None, id="after months"),
    ],
)
def test_without_a_known_day_the_step_from_the_close_before_counts(
    answered: list[float], before: tuple[date, float] | None, splits: list[Split], expected: str | None
) -> None:
    bars, session = on_days(answered)
    found = basis_mismatch(bars, session, {}, before, splits)
    assert found is None if expected is None else expected in (found or "")


def test_a_crash_that_equals_a_later_split_is_cleared_by_the_day_itself() -> None:
    bars, session = on_days([100.0, 50.0])
    two = [Split(date(2024, 7, 1), 2.0)]
    assert basis_mismatch(bars, session, {}, None, two) is not None
    assert basis_mismatch(bars, session, {date(2024, 6, 4): 50.1}, None, two) is None


def test_a_page_that_changes_basis_in_mid_session_is_seen() -> None:
    minutes = [100.0, 100.1, 100.2, 10.01, 10.0, 9.99]
    bars, _ = on_days(minutes)
    session = np.full(6, np.datetime64(MONDAY))
    found = basis_mismatch(bars, session, {}, None, [TEN])
    assert found == "basis mismatch 0.100 = split 10:1 (2024-06-03: open 10.01 after 100.2 of 2024-06-03)"


def test_no_bars_are_no_mismatch() -> None:
    bars, session = on_days([])
    assert basis_mismatch(bars, session, {MONDAY: 1.0}, (MONDAY, 1.0), [TEN]) is None


@st.composite
def walks(draw: st.DrawFn, largest: float) -> tuple[Bars, Sessions, list[Split]]:
    """Unadjusted daily bars, 3 to 40 days, steps of up to `largest` (as ln), and real splits in and after them."""
    steps = draw(st.lists(st.floats(-largest, largest), min_size=3, max_size=40))
    session = np.datetime64(MONDAY) + np.arange(len(steps))
    days = draw(st.lists(st.integers(1, 2 * len(steps)), max_size=3, unique=True))
    splits = [Split(MONDAY + timedelta(days=day), draw(ratios)) for day in days]
    close = 100 * np.exp(np.cumsum(steps)) / split_basis(session, splits)
    opening = close * math.exp(draw(st.floats(-0.04, 0.04)))
    return make_bars(session.astype(int), opening, opening, opening, close, close), session, splits


ratios = st.sampled_from([2.0, 3.0, 4.0, 7.0, 10.0, 20.0, 1.5, 0.5, 0.1, 1 / 30])


@law
@given(walks(0.54), st.integers(1, 39), st.floats(-0.15, 0.15), st.integers(0, 3))
def test_raw_answers_never_trigger(walk: tuple[Bars, Sessions, list[Split]], cut: int, noise: float, told: int) -> None:
    """Nights of -42 % to +72 %, whatever the splits; and closes that differ from the day's by 16 %."""
    bars, session, splits = walk
    cut = min(cut, len(bars) - 1)
    known = closes_of(replace(bars, close=bars.close * np.exp(noise * np.cos(np.arange(len(bars))))), session)
    before = session[cut - 1].item(), float(bars.close[cut - 1])
    answer, days = bars.take(slice(cut, None)), session[cut:]
    assert basis_mismatch(answer, days, {}, before, splits) is None
    assert basis_mismatch(answer, days, known, before, splits[:told]) is None


@law
@given(walks(0.03), st.integers(0, 39), st.floats(-0.015, 0.015))
def test_adjusted_answers_always_do(walk: tuple[Bars, Sessions, list[Split]], cut: int, noise: float) -> None:
    bars, session, splits = walk
    cut = min(cut, len(bars) - 1)
    factors = split_factors(session, splits)
    adjusted = replace(bars, open=bars.open * factors, close=bars.close * factors)
    answer, days = adjusted.take(slice(cut, None)), session[cut:]
    known = closes_of(replace(bars, close=bars.close * math.exp(noise)), session)
    assume(np.abs(np.log(factors[cut:])).max() > math.log(1.2))
    assert "basis mismatch" in (basis_mismatch(answer, days, known, None, splits) or "")
    if cut > 0 and abs(math.log(factors[cut])) > 0.69:
        before = session[cut - 1].item(), float(bars.close[cut - 1])
        assert "basis mismatch" in (basis_mismatch(answer, days, {}, before, splits) or "")


@law
@given(walks(0.54), st.sampled_from([2.0, 5.0, 10.0, 0.1, 0.5]))
def test_adjusted_answers_are_seen_without_being_told_of_the_split(
    walk: tuple[Bars, Sessions, list[Split]], ratio: float
) -> None:
    bars, session, _ = walk
    adjusted = replace(bars, close=bars.close / ratio)
    assume(min(adjusted.close.max(), bars.close.max()) > 0.02)
    assert "basis mismatch" in (basis_mismatch(adjusted, session, closes_of(bars, session), None, []) or "")


def test_a_crash_by_half_before_a_later_split_is_a_crash_where_the_split_shows_on_its_day() -> None:
    days = np.arange("2000-09-25", "2000-11-01", dtype="datetime64[D]")
    crash, ex = date(2000, 9, 29), date(2000, 10, 20)
    raw = np.full(len(days), 53.5)
    raw[days >= np.datetime64(crash)] = 27.0
    raw[days >= np.datetime64(ex)] = 13.5
    split = Split(ex, 2.0)

    def answer(prices: np.ndarray) -> Bars:
        ts = days.astype("datetime64[us]").astype(np.int64)
        return make_bars(ts, prices, prices, prices, prices, np.ones(len(days)))

    assert basis_mismatch(answer(raw), days, {}, None, [split]) is None
    stepped = raw.copy()
    stepped[days >= np.datetime64(ex)] *= 2  # adjusted from the crash's day on: the split itself is not to be seen
    found = basis_mismatch(answer(stepped), days, {}, None, [split])
    assert found is not None
    assert "2:1" in found
