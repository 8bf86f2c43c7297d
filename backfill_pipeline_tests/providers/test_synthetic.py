"""Made-up bars: the same however they are asked for, nothing from the future, nothing that validation refuses."""

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import validate
from backfill_pipeline.domain.windows import MINUTE, Window, subtract, to_micros, union
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.providers.synthetic import SyntheticProvider

LAST = date(2027, 12, 31)
XNYS = load_sessions("XNYS", LAST)
LATER = datetime(2027, 1, 1, tzinfo=UTC)
AAPL = Instrument(1, "AAPL", "stock", "XNYS")
SPAN = XNYS.days_window(date(2024, 10, 28), date(2024, 12, 8))  # a change of the clocks, a holiday, a half day


def fetch(provider: SyntheticProvider, window: Window, timeframe: Base = "1m", now: datetime = LATER) -> list[Answer]:
    return list(provider.fetch(Request(AAPL, timeframe, window, XNYS), now))


def bars_of(answers: list[Answer]) -> Bars:
    return concatenate([answer.bars for answer in answers])


def answered(answers: list[Answer]) -> list[Window]:
    return union(window for answer in answers for window in answer.answered)


def assert_same(left: Bars, right: Bars) -> None:
    for field in fields(Bars):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(SPAN.start + 1, SPAN.end - 1), max_size=5, unique=True),
    st.sampled_from(["1m", "1d"]),
    st.booleans(),
)
def test_any_cutting_of_a_range_gives_the_same_bars(cuts: list[int], timeframe: Base, extended: bool) -> None:
    provider = SyntheticProvider(extended=extended)
    edges = [SPAN.start, *sorted(cuts), SPAN.end]
    pieces = [fetch(provider, Window(*pair), timeframe) for pair in pairwise(edges)]
    whole = fetch(provider, SPAN, timeframe)
    assert_same(concatenate([bars_of(piece) for piece in pieces]), bars_of(whole))
    assert [window for piece in pieces for window in answered(piece)] == [Window(*pair) for pair in pairwise(edges)]


def test_a_long_range_comes_in_pieces_that_meet() -> None:
    window = XNYS.days_window(date(2023, 12, 30), date(2024, 12, 29))
    answers = fetch(SyntheticProvider(), window)
    assert len(answers) == 4  # 250 sessions by 64
    flat = [piece for answer in answers for piece in answer.answered]
    assert [piece.start for piece in flat[1:]] == [piece.end for piece in flat[:-1]]
    assert union(flat) == [window]
    bars = bars_of(answers)
    assert len(bars) == int(XNYS.expected_1m[XNYS.rows(window)].sum())
    assert_same(bars, concatenate([bars_of(fetch(SyntheticProvider(), piece)) for piece in flat]))


def test_a_weekend_is_answered_and_empty() -> None:
    window = XNYS.days_window(date(2024, 11, 2), date(2024, 11, 3))
    (answer,) = fetch(SyntheticProvider(), window)
    assert (len(answer.bars), answer.answered) == (0, (window,))


@pytest.mark.parametrize("extended", [False, True], ids=["regular", "extended"])
@pytest.mark.parametrize("timeframe", ["1m", "1d"])
@pytest.mark.parametrize("calendar", ["XNYS", "XHKG", "24/7"])
def test_bars_are_complete_and_nothing_is_refused(calendar: str, timeframe: Base, extended: bool) -> None:
    sessions = load_sessions(calendar, LAST)
    window = sessions.days_window(date(2024, 12, 2), date(2024, 12, 31))
    request = Request(Instrument(1, "X:BTCUSD", "crypto", calendar), timeframe, window, sessions)
    bars = bars_of(list(SyntheticProvider(extended=extended).fetch(request, LATER)))
    result = validate(bars, timeframe, window, sessions)
    assert (len(result.bars), result.refused, result.outside, result.fillers) == (len(bars), (), 0, 0)
    rows = sessions.rows(window)
    trading = sessions.expected_1m[rows]
    if extended and calendar == "XNYS":
        trading = trading + 330 + 240
    assert len(bars) == (trading.sum() if timeframe == "1m" else len(trading))


@pytest.mark.parametrize("extended", [False, True], ids=["regular", "extended"])
def test_a_day_is_the_aggregate_of_its_minutes(extended: bool) -> None:
    provider = SyntheticProvider(extended=extended)
    minutes, days = bars_of(fetch(provider, SPAN)), bars_of(fetch(provider, SPAN, "1d"))
    rows = XNYS.row_of(minutes.ts)
    assert days.ts.tolist() == XNYS.day_start[np.unique(rows)].tolist()
    for i, row in enumerate(np.unique(rows).tolist()):
        mine = minutes.take(rows == row)
        assert days.open[i] == mine.open[0]
        assert days.high[i] == max(mine.high.tolist())
        assert days.low[i] == min(mine.low.tolist())
        assert days.close[i] == mine.close[-1]
        assert days.volume[i] == pytest.approx(sum(mine.volume.tolist()), rel=1e-12)
        assert days.trades[i] == sum(mine.trades.tolist())
        weighted = sum(v * w for v, w in zip(mine.vwap.tolist(), mine.volume.tolist(), strict=True))
        assert days.vwap[i] == pytest.approx(weighted / sum(mine.volume.tolist()), rel=1e-12)


def test_withheld_stretches_are_missing_from_an_answer_that_says_it_is_complete() -> None:
    opened = to_micros(datetime(2024, 11, 4, 14, 30, tzinfo=UTC))
    holes = [Window(opened + 10 * MINUTE, opened + 13 * MINUTE), Window(opened + 30 * MINUTE, opened + 31 * MINUTE)]
    whole = bars_of(fetch(SyntheticProvider(), SPAN))
    answers = fetch(SyntheticProvider(withheld={"AAPL": holes, "IBM": [SPAN]}), SPAN)
    absent = np.setdiff1d(whole.ts, bars_of(answers).ts)
    assert ((absent - opened) // MINUTE).tolist() == [10, 11, 12, 30]
    assert_same(bars_of(answers), whole.take(~np.isin(whole.ts, absent)))
    assert answered(answers) == [SPAN]
    day = int(XNYS.day_start[XNYS.row_of(np.array([opened]))[0]])
    days = bars_of(fetch(SyntheticProvider(withheld={"AAPL": [Window(day, day + 1)]}), SPAN, "1d"))
    assert day not in days.ts.tolist()
    assert len(days) == XNYS.rows(SPAN).stop - XNYS.rows(SPAN).start - 1


@settings(deadline=None, max_examples=40)
@given(st.integers(-600, 3000), st.integers(0, 59_999_999))
def test_no_bar_is_served_before_it_is_over(minutes: int, micros: int) -> None:
    week = XNYS.days_window(date(2024, 11, 4), date(2024, 11, 6))
    now = datetime(2024, 11, 4, 14, 30, tzinfo=UTC) + timedelta(minutes=minutes, microseconds=micros)
    limit = to_micros(now)
    for timeframe in ("1m", "1d"):
        everything = bars_of(fetch(SyntheticProvider(extended=True), week, timeframe))
        answers = fetch(SyntheticProvider(extended=True), week, timeframe, now)
        ends = everything.ts + MINUTE if timeframe == "1m" else XNYS.post_close[XNYS.row_of(everything.ts)]
        assert_same(bars_of(answers), everything.take(ends <= limit))
        # What is answered is exactly what cannot change any more: no bar that is still to come starts in it.
        pending = everything.ts[ends > limit]
        assert not any(int(ts) in window for ts in pending for window in answered(answers))
        assert not subtract(answered(answers), [Window(0, limit)])


def test_seeds_symbols_and_days_differ_and_a_seed_repeats() -> None:
    first = bars_of(fetch(SyntheticProvider(seed=1), SPAN))
    assert_same(first, bars_of(fetch(SyntheticProvider(seed=1), SPAN)))
    assert not np.array_equal(first.close, bars_of(fetch(SyntheticProvider(seed=2), SPAN)).close)
    other = Request(Instrument(1, "IBM", "stock", "XNYS"), "1m", SPAN, XNYS)
    assert not np.array_equal(first.close, bars_of(list(SyntheticProvider().fetch(other, LATER))).close)
    assert len(np.unique(first.volume)) > len(first) * 0.9


def test_everything_is_served_and_no_lifetime_is_known() -> None:
    served = SyntheticProvider().served(AAPL, "1m", XNYS)
    assert served.window == Window(int(XNYS.day_start[0]), int(XNYS.day_end[-1]))
    assert SyntheticProvider().lifetime("AAPL") is None


def test_a_session_is_due_a_quarter_of_an_hour_after_the_post_market() -> None:
    row = XNYS.rows_between(date(2024, 11, 29), date(2024, 11, 29))
    (due,) = SyntheticProvider().settle.due_at(XNYS)[row].tolist()
    assert due == to_micros(datetime(2024, 11, 29, 22, 15, tzinfo=UTC))
