"""Windows against sets of integers, and moments against datetime's own arithmetic."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.windows import Window, intersect, span, subtract, to_datetime, to_micros, union

BOUND = 40
windows = st.lists(
    st.tuples(st.integers(0, BOUND - 1), st.integers(1, 8)).map(lambda pair: Window(pair[0], pair[0] + pair[1])),
    max_size=9,
)


def covered(some: list[Window]) -> set[int]:
    return {point for window in some for point in range(window.start, window.end)}


def canonical(points: set[int]) -> list[Window]:
    """The one sorted, disjoint, gap-separated form of a set of integers."""
    starts = sorted(point for point in points if point - 1 not in points)
    ends = sorted(point + 1 for point in points if point + 1 not in points)
    return [Window(start, end) for start, end in zip(starts, ends, strict=True)]


@settings(deadline=None)
@given(windows)
def test_a_union_covers_what_any_window_covers_in_canonical_form(some: list[Window]) -> None:
    assert union(some) == canonical(covered(some))


@settings(deadline=None)
@given(windows, windows)
def test_a_difference_is_the_set_difference(some: list[Window], holes: list[Window]) -> None:
    assert subtract(some, holes) == canonical(covered(some) - covered(holes))


@settings(deadline=None)
@given(windows, windows)
def test_an_intersection_is_the_set_intersection(left: list[Window], right: list[Window]) -> None:
    assert intersect(left, right) == canonical(covered(left) & covered(right))


@settings(deadline=None)
@given(windows)
def test_the_span_reaches_from_the_first_start_to_the_last_end(some: list[Window]) -> None:
    points = covered(some)
    assert span(some) == (Window(min(points), max(points) + 1) if points else None)


def test_touching_windows_are_one_but_do_not_intersect() -> None:
    assert union([Window(5, 9), Window(0, 5)]) == [Window(0, 9)]
    assert intersect([Window(0, 5)], [Window(5, 9)]) == []


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window(10, 20)
    assert (9 in window, 10 in window, 19 in window, 20 in window) == (False, True, True, False)


@pytest.mark.parametrize("end", [10, 9], ids=["empty", "reversed"])
def test_an_empty_or_reversed_window_cannot_be_made(end: int) -> None:
    with pytest.raises(ValueError, match="ends at or before its start"):
        Window(10, end)


def test_generators_are_read_once_and_wholly() -> None:
    assert subtract((w for w in [Window(0, 9)]), (w for w in [Window(2, 3), Window(5, 6)])) == [
        Window(0, 2),
        Window(3, 5),
        Window(6, 9),
    ]


@settings(deadline=None)
@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_moments_survive_the_way_to_microseconds_and_back(local: datetime, offset: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert to_datetime(to_micros(moment)) == moment
    assert to_datetime(to_micros(moment)).tzinfo is UTC


def test_known_moments() -> None:
    assert to_micros(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert to_micros(datetime(2024, 3, 11, 13, 30, 0, 1, tzinfo=UTC)) == 1_710_163_800_000_001
    assert to_micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_a_naive_moment_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"2024-03-11T13:30:00 has no time zone"):
        to_micros(datetime(2024, 3, 11, 13, 30))  # noqa: DTZ001


def test_a_window_prints_as_utc_minutes() -> None:
    window = Window(1_710_163_800_000_000, 1_710_163_860_000_000)
    assert str(window) == "[2024-03-11 13:30Z, 2024-03-11 13:31Z)"


@settings(deadline=None)
@given(windows)
def test_a_moment_lies_inside_if_any_window_covers_it(some: list[Window]) -> None:
    moments = np.arange(-1, BOUND + 9)[::-1]
    assert set(moments[inside(moments, some)].tolist()) == covered(some)
