"""Minutes read in a wrong zone, and prices that do not know a split."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backfill_pipeline.domain.adjust import Split
from backfill_pipeline.domain.imported import Edge, unmoved_split, wrong_hours
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.windows import MINUTE, to_micros
from backfill_pipeline_tests.steps.warehouses import minutes_between, ny

XNYS = load_sessions("XNYS", date(2027, 12, 31))
FEBRUARY = [date(2024, 2, day) for day in range(5, 10)]
SUMMER = [date(2024, 7, day) for day in range(8, 13)]
HOUR = 60 * MINUTE


def stamps(days: list[date], first: tuple[int, int], last: tuple[int, int]) -> np.ndarray:
    return np.array([ts for day in days for ts in minutes_between(ny(day, *first), ny(day, *last))], dtype=np.int64)


@pytest.mark.parametrize(
    "ts",
    [
        pytest.param(stamps(FEBRUARY, (9, 30), (16, 0)), id="regular"),
        pytest.param(stamps(FEBRUARY, (4, 0), (20, 0)), id="extended"),
        pytest.param(stamps(SUMMER, (7, 0), (18, 30)), id="part of the extended"),
        pytest.param(stamps(FEBRUARY, (9, 30), (10, 30)), id="first hours"),
        pytest.param(stamps(FEBRUARY, (9, 30), (16, 0))[::7], id="thin"),
        pytest.param(stamps(FEBRUARY[:1], (3, 0), (6, 0)), id="too few to tell"),
        pytest.param(np.zeros(0, dtype=np.int64), id="none"),
    ],
)
def test_hours_that_fit_are_not_doubted(ts: np.ndarray) -> None:
    assert wrong_hours(ts, XNYS) is None


@pytest.mark.parametrize(
    ("shift", "hours"),
    [
        pytest.param(-5, 5, id="New York's time taken for UTC"),
        pytest.param(5, -5, id="UTC's for New York's"),
        pytest.param(-1, 1, id="Chicago's for New York's"),
        pytest.param(13, -13, id="Tokyo's"),
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_hours_of_another_zone_are_noticed(shift: int, hours: int, *, extended: bool) -> None:
    ts = stamps(FEBRUARY, *(((4, 0), (20, 0)) if extended else ((9, 30), (16, 0))))
    found = wrong_hours(ts + shift * HOUR, XNYS)
    assert found is not None
    assert found.shift == hours * HOUR
    assert found.better > found.inside


def test_a_fixed_offset_is_wrong_for_half_a_year_and_noticed() -> None:
    ts = stamps(FEBRUARY, (9, 30), (16, 0)), stamps(SUMMER, (9, 30), (16, 0)) + HOUR
    found = wrong_hours(np.concatenate(ts), XNYS)
    assert found is not None
    assert found.shift == -HOUR


def test_a_market_that_never_closes_has_no_wrong_hours() -> None:
    begin = datetime(2024, 2, 5, 3, tzinfo=UTC)
    ts = np.arange(to_micros(begin), to_micros(begin + timedelta(hours=20)), MINUTE)
    assert wrong_hours(ts, load_sessions("24/7", date(2027, 12, 31))) is None


SPLIT = Split(date(2024, 6, 10), 10.0)


@pytest.mark.parametrize(
    ("before", "after", "split", "adjusted"),
    [
        pytest.param(1208.0, 120.37, SPLIT, False, id="raw"),
        pytest.param(120.8, 120.37, SPLIT, True, id="adjusted"),
        pytest.param(120.8, 84.0, SPLIT, True, id="adjusted, and a crash"),
        pytest.param(1208.0, 84.0, SPLIT, False, id="raw, and a crash"),
        pytest.param(12.0, 121.0, Split(date(2024, 6, 10), 0.1), False, id="raw, a reverse split"),
        pytest.param(120.0, 121.0, Split(date(2024, 6, 10), 0.1), True, id="adjusted, a reverse split"),
        pytest.param(100.0, 100.0, Split(date(2024, 6, 10), 1.05), False, id="too small to tell"),
        pytest.param(120.8, 120.37, Split(date(2024, 6, 11), 10.0), False, id="not yet"),
    ],
)
def test_a_split_that_does_not_show_gives_adjusted_prices_away(
    before: float, after: float, split: Split, *, adjusted: bool
) -> None:
    edges = [
        Edge(date(2024, 6, 6), before, before),
        Edge(date(2024, 6, 7), before, before),
        Edge(date(2024, 6, 10), after, after),
    ]
    line = unmoved_split(edges, [split])
    assert (line is not None) is adjusted
    if adjusted:
        assert str(line).startswith(f"the split {split.ratio:g}:1 of 2024-06-10 does not show: {before:g} at the close")


def test_a_hole_of_weeks_before_the_split_tells_nothing() -> None:
    edges = [Edge(date(2024, 4, 6), 120.0, 120.0), Edge(date(2024, 6, 10), 120.0, 120.0)]
    assert unmoved_split(edges, [SPLIT]) is None
