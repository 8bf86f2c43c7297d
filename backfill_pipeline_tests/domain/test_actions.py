"""Which told splits and dividends are believed: literal prices, and the limits of what they can show."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest

from backfill_pipeline.domain.actions import (
    Day,
    DividendEvent,
    Judgement,
    SplitEvent,
    judge_dividends,
    judge_splits,
)

# A Monday; TODAY is long after it.
EX_DATE, TODAY = date(2020, 8, 31), date(2020, 12, 31)
FOUR = SplitEvent(EX_DATE, 1, 4)


def days(*prices: float, first: date = EX_DATE - timedelta(days=3)) -> list[Day]:
    """Sessions of a single price each on the weekdays from Friday 28 August 2020 on."""
    dates = (first + timedelta(days=i) for i in range(60))
    weekdays = [day for day in dates if day.weekday() < 5]
    return [Day(day, price, price) for day, price in zip(weekdays, prices, strict=False)]


def judge(*told: SplitEvent, prices: list[Day] | None = None, today: date = TODAY) -> list[Judgement]:
    return judge_splits(told, {split.ex_date: prices or [] for split in told}, today)


@pytest.mark.parametrize(
    ("split", "before", "after", "accepted"),
    [
        pytest.param((1, 4), 499.23, 127.58, True, id="Apple 2020"),
        pytest.param((1, 4), 499.23, 499.0, False, id="no jump"),
        pytest.param((1, 4), 400.0, 49.0, False, id="eight for one told as four"),
        pytest.param((1, 4), 400.0, 199.0, True, id="nearer to four than to none, and not yet twice"),
        pytest.param((1, 4), 400.0, 201.0, False, id="nearer to none than to four"),
        pytest.param((1, 2), 200.0, 141.0, True, id="nearer to two than to none"),
        pytest.param((1, 2), 200.0, 142.0, False, id="nearer to none than to two"),
        pytest.param((10, 1), 1.0, 9.4, True, id="reverse"),
        pytest.param((10, 1), 1.0, 1.02, False, id="reverse without a jump"),
        pytest.param((50, 1), 0.1, 2.6, True, id="a reverse split, and the price all but halves"),
        pytest.param((50, 1), 0.1, 2.4, False, id="a reverse split, and more than news explains"),
        pytest.param((2, 3), 150.0, 101.0, True, id="three for two"),
        pytest.param((4, 5), 125.0, 101.0, True, id="five for four, the smallest that shows"),
        pytest.param((4, 5), 125.0, 124.0, False, id="five for four without a jump"),
        pytest.param((20, 21), 100.0, 101.5, True, id="a stock dividend is taken as told"),
        pytest.param((100, 124), 100.0, 101.5, True, id="just too small to show"),
    ],
)
def test_a_split_is_held_against_the_night_s_jump(
    split: tuple[float, float], before: float, after: float, *, accepted: bool
) -> None:
    (judgement,) = judge(SplitEvent(EX_DATE, *split), prices=days(before, after, after))
    assert judgement.accepted is accepted


def test_the_jump_is_from_the_close_before_to_the_open_of_the_ex_date() -> None:
    prices = [Day(date(2020, 8, 28), 1.0, 400.0), Day(EX_DATE, 100.0, 9.0)]
    (judgement,) = judge(FOUR, prices=prices)
    assert judgement == Judgement(
        accepted=True,
        reason="close 400 (2020-08-28), open 100 (2020-08-31): a factor of 0.25 where 4:1 makes 0.25",
    )


@pytest.mark.parametrize(
    ("prices", "seen"),
    [
        pytest.param(days(400, 400, 400, 100, 100), "prices moved so on 2020-09-02", id="after"),
        pytest.param(days(400, 100, 100, 100, first=date(2020, 8, 26)), "prices moved so on 2020-08-27", id="before"),
        pytest.param(days(400, 400, 400), "no session near it shows one", id="nowhere"),
        pytest.param(
            days(400, 400, 400, 400, 400, 400, 400, 100), "no session near it shows one", id="six sessions later"
        ),
    ],
)
def test_a_split_that_prices_show_on_another_day_is_suspicious_and_the_day_is_named(
    prices: list[Day], seen: str
) -> None:
    (judgement,) = judge(FOUR, prices=prices)
    assert judgement.accepted is False
    assert judgement.reason.endswith(f"where 4:1 makes 0.25; {seen}")


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        pytest.param([], "no bar in the 10 days before it", id="nothing stored"),
        pytest.param(days(400), "no bar in the 10 days from it on", id="nothing after"),
        pytest.param(days(100, first=EX_DATE), "no bar in the 10 days before it", id="nothing before"),
        pytest.param(
            [Day(EX_DATE - timedelta(days=11), 400, 400), Day(EX_DATE, 100, 100)], "10 days before", id="long before"
        ),
        pytest.param(
            [Day(EX_DATE - timedelta(days=3), 400, 400), Day(EX_DATE + timedelta(days=11), 100, 100)],
            "10 days from it on",
            id="long after",
        ),
    ],
)
def test_without_prices_on_both_sides_nothing_is_decided(prices: list[Day], reason: str) -> None:
    (judgement,) = judge(FOUR, prices=prices)
    assert judgement.accepted is None
    assert reason in judgement.reason


def test_a_holiday_in_the_days_around_is_no_obstacle() -> None:
    gap = [Day(EX_DATE - timedelta(days=10), 400, 400), Day(EX_DATE + timedelta(days=10), 100, 100)]
    assert [judgement.accepted for judgement in judge(FOUR, prices=gap)] == [True]


@pytest.mark.parametrize("split", [FOUR, SplitEvent(EX_DATE, 20, 21)])
def test_what_lies_ahead_is_not_used_yet(split: SplitEvent) -> None:
    (judgement,) = judge(split, prices=days(400), today=EX_DATE - timedelta(days=1))
    assert judgement.accepted is None
    assert judgement.reason.endswith("lies ahead")


@pytest.mark.parametrize(
    ("split_from", "split_to"), [(1, 1), (0, 4), (4, 0), (-1, 4), (math.inf, 1), (math.nan, 1), (1, math.nan)]
)
def test_what_is_no_ratio_is_refused(split_from: float, split_to: float) -> None:
    (judgement,) = judge(SplitEvent(EX_DATE, split_from, split_to), prices=days(400, 100))
    assert judgement.accepted is False
    assert judgement.reason.endswith("is no split")


def test_two_ratios_for_one_day_are_both_refused_and_both_named() -> None:
    judged = judge(FOUR, SplitEvent(EX_DATE, 1, 2), prices=days(400, 100))
    assert judged == [Judgement(accepted=False, reason="2:1 and 4:1 are told for the same day; neither is used")] * 2


def test_a_split_by_nothing_does_not_contradict_a_real_one() -> None:
    judged = judge(SplitEvent(EX_DATE, 1, 1), FOUR, prices=days(400, 100))
    assert [judgement.accepted for judgement in judged] == [False, True]


def test_the_same_ratio_written_otherwise_counts_once() -> None:
    judged = judge(FOUR, SplitEvent(EX_DATE, 2, 8), prices=days(400, 100))
    assert [judgement.accepted for judgement in judged] == [True, False]


@pytest.mark.parametrize(
    ("told", "calendar", "accepted"),
    [
        pytest.param([DividendEvent(EX_DATE, 0.82, "USD")], "XNYS", [True], id="plain"),
        pytest.param([DividendEvent(EX_DATE, 0.82, "CAD")], "XNYS", [False], id="foreign"),
        pytest.param([DividendEvent(EX_DATE, 0.82, "")], "XNYS", [False], id="no currency told"),
        pytest.param([DividendEvent(EX_DATE, 0.82, "CAD")], "XTSE", [True], id="another calendar"),
        pytest.param([DividendEvent(EX_DATE, 0.0, "USD")], "XNYS", [False], id="nothing"),
        pytest.param([DividendEvent(EX_DATE, -1.0, "USD")], "XNYS", [False], id="negative"),
        pytest.param([DividendEvent(TODAY, 1.0, "USD")], "XNYS", [True], id="today"),
        pytest.param([DividendEvent(TODAY + timedelta(days=1), 1.0, "USD")], "XNYS", [None], id="ahead"),
        pytest.param(
            [DividendEvent(EX_DATE, 0.8, "USD", distribution_type=kind) for kind in ("recurring", "special")],
            "XNYS",
            [True, True],
            id="a regular and a special one",
        ),
        pytest.param(
            [DividendEvent(EX_DATE, cash, "USD", distribution_type="recurring") for cash in (0.8, 0.9)],
            "XNYS",
            [False, False],
            id="two that contradict",
        ),
    ],
)
def test_dividends_count_where_they_are_money_of_the_listing(
    told: list[DividendEvent], calendar: str, accepted: list[bool | None]
) -> None:
    assert [judgement.accepted for judgement in judge_dividends(told, calendar, TODAY)] == accepted
