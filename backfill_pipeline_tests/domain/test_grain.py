"""Partition dates: every day lies in exactly one period, and no key can be read as another grain's."""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_pipeline.domain.grain import (
    GRAINS,
    KEY_FORMAT,
    Grain,
    Period,
    day_after_chunk,
    parse_key,
    period_of,
    periods_between,
    stretches,
)

DAYS = st.dates(date(1990, 1, 1), date(2060, 12, 31))


@pytest.mark.parametrize(
    ("day", "grain", "period"),
    [
        ("2024-03-08", "day", ("2024-03-08", "2024-03-08", "2024-03-08")),
        ("2024-03-08", "week", ("2024-03-04", "2024-03-10", "2024-03-04W")),
        ("2024-03-10", "week", ("2024-03-04", "2024-03-10", "2024-03-04W")),
        ("2024-03-08", "month", ("2024-03-01", "2024-03-31", "2024-03")),
        ("2024-02-29", "month", ("2024-02-01", "2024-02-29", "2024-02")),
        ("2025-01-01", "week", ("2024-12-30", "2025-01-05", "2024-12-30W")),
        ("2024-12-31", "month", ("2024-12-01", "2024-12-31", "2024-12")),
    ],
)
def test_a_day_lies_in_its_period(day: str, grain: Grain, period: tuple[str, str, str]) -> None:
    first, last, key = period
    assert period_of(date.fromisoformat(day), grain) == Period(date.fromisoformat(first), date.fromisoformat(last), key)


@given(DAYS, st.sampled_from(GRAINS))
def test_a_key_is_read_back_by_its_own_grain_alone_and_is_what_dagster_formats(day: date, grain: Grain) -> None:
    period = period_of(day, grain)
    assert period.first <= day <= period.last
    assert parse_key(period.key, grain) == period
    assert datetime.combine(period.first, datetime.min.time()).strftime(KEY_FORMAT[grain]) == period.key
    for other in GRAINS:
        if other != grain:
            with pytest.raises(ValueError, match="is not a"):
                parse_key(period.key, other)


@pytest.mark.parametrize(
    ("key", "grain"),
    [
        ("2024-03-05W", "week"),  # a Tuesday
        ("2024-02-30", "day"),
        ("2024-13", "month"),
        ("0000-01", "month"),
        ("2024-03-08 ", "day"),
        ("20240308", "day"),
        ("2024-W10-5", "day"),
        ("٢٠٢٤-03", "month"),
        ("", "day"),
    ],
)
def test_what_is_no_key_is_refused_with_an_example(key: str, grain: Grain) -> None:
    example = {"day": "2024-03-08", "week": "2024-03-04W", "month": "2024-03"}[grain]
    with pytest.raises(ValueError, match=f"a {grain} looks like {example}") as error:
        parse_key(key, grain)
    assert repr(key) in str(error.value)


@given(DAYS, st.integers(0, 400), st.sampled_from(GRAINS))
def test_periods_follow_one_another_and_hold_every_day(first: date, days: int, grain: Grain) -> None:
    last = first + timedelta(days=days)
    periods = periods_between(first, last, grain)
    assert periods[0].first <= first <= periods[0].last
    assert periods[-1].first <= last <= periods[-1].last
    for before, after in itertools.pairwise(periods):
        assert before.last + timedelta(days=1) == after.first
    assert stretches(periods) == [periods]


def test_there_are_no_periods_between_days_in_the_wrong_order() -> None:
    assert periods_between(date(2024, 1, 2), date(2024, 1, 1), "day") == []


@given(st.sets(st.integers(0, 60)), st.sampled_from(GRAINS), st.randoms())
def test_stretches_are_the_runs_of_periods_without_a_gap(offsets: set[int], grain: Grain, random: object) -> None:
    periods = [period_of(date(2024, 1, 1) + timedelta(days=offset), grain) for offset in offsets]
    random.shuffle(periods)  # type: ignore[attr-defined]  # a Random
    groups = stretches(periods)
    assert [period for group in groups for period in group] == sorted(set(periods))
    held = [{day for p in group for day in range(p.first.toordinal(), p.last.toordinal() + 1)} for group in groups]
    for days in held:
        assert len(days) == max(days) - min(days) + 1
    for before, after in itertools.pairwise(held):
        assert max(before) + 1 < min(after)


@pytest.mark.parametrize(
    ("day", "months", "after"),
    [
        ("2024-01-01", 3, "2024-04-01"),
        ("2024-03-31", 3, "2024-04-01"),
        ("2024-12-31", 3, "2025-01-01"),
        ("2024-02-29", 1, "2024-03-01"),
        ("2024-12-01", 12, "2025-01-01"),
        ("2000-03-01", 1200, "2100-01-01"),
        ("1999-12-31", 1200, "2000-01-01"),
    ],
)
def test_chunks_end_at_the_calendars_own_months(day: str, months: int, after: str) -> None:
    assert day_after_chunk(date.fromisoformat(day), months) == date.fromisoformat(after)
