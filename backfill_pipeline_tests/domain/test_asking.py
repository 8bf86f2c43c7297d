"""Which days' events are asked: the whole of it once, then an overlap, and older days when somebody wants them."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfill_pipeline.domain.asking import OVERLAP, Asked, Days, days_to_ask

TODAY = date(2024, 6, 3)
DAY = st.dates(date(2020, 1, 1), TODAY)


def test_the_first_time_everything_from_the_oldest_wanted_day_is_asked_once_for_all() -> None:
    assert days_to_ask({1: date(2022, 1, 3), 2: date(2019, 5, 1)}, {}, TODAY) == [Days(date(2019, 5, 1), None)]


def test_later_only_the_last_weeks_and_what_lies_ahead_are_asked() -> None:
    asked = {1: Asked(date(2019, 5, 1), date(2024, 6, 2))}
    assert days_to_ask({1: date(2019, 5, 1)}, asked, TODAY) == [Days(date(2024, 4, 28), None)]


def test_after_a_long_absence_no_day_is_left_out() -> None:
    asked = {1: Asked(date(2019, 5, 1), date(2023, 1, 5))}
    assert days_to_ask({1: date(2019, 5, 1)}, asked, TODAY) == [Days(date(2022, 12, 1), None)]


def test_older_days_that_a_symbol_wants_are_asked_beside_the_overlap() -> None:
    asked = {1: Asked(date(2022, 1, 3), date(2024, 6, 2))}
    assert days_to_ask({1: date(2020, 1, 2)}, asked, TODAY) == [
        Days(date(2020, 1, 2), date(2022, 1, 3)),
        Days(date(2024, 4, 28), None),
    ]


def test_a_new_symbol_s_events_of_days_asked_before_are_asked_again() -> None:
    asked = {1: Asked(date(2020, 1, 2), date(2024, 6, 2))}
    assert days_to_ask({1: date(2020, 1, 2), 2: date(2023, 1, 3)}, asked, TODAY) == [Days(date(2023, 1, 3), None)]


def test_nothing_is_asked_for_nobody() -> None:
    assert days_to_ask({}, {1: Asked(date(2020, 1, 2), TODAY)}, TODAY) == []


@given(
    st.dictionaries(st.integers(1, 5), DAY, min_size=1),
    st.dictionaries(st.integers(1, 5), st.builds(Asked, DAY, DAY)),
)
def test_every_needed_day_is_asked_now_or_was_and_stretches_never_touch(
    needed: dict[int, date], asked: dict[int, Asked]
) -> None:
    stretches = days_to_ask(needed, asked, TODAY)
    for symbol_id, since in needed.items():
        known = asked.get(symbol_id)
        for day in (since, date(2022, 3, 1), date(2023, 3, 1), TODAY, date(2025, 1, 1)):
            settled = known is not None and known.since <= day < known.on - OVERLAP
            assert day < since or settled or any(day in days for days in stretches)
    for earlier, later in pairwise(stretches):
        assert earlier.end is not None
        assert earlier.end < later.first
