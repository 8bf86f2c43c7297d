"""Places on the grid against buckets enumerated from wall-clock times, and true ends worked out by hand."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.grid import bars_per_year, expected_per_session, is_intraday, places, true_ends
from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, LENGTH, Timeframe, chain_of, parse_timeframe
from backfill_pipeline.domain.windows import to_datetime, to_micros

LAST = date(2027, 12, 31)
XNYS = load_sessions("XNYS", LAST)
FULL, HALF = [(time(9, 30), time(16))], [(time(9, 30), time(13))]
LUNCH = [(time(9, 30), time(12)), (time(13), time(16))]

# Stretches of consecutive sessions: regular hours in local time, written down by hand.
STRETCHES: dict[str, tuple[str, str, dict[str, list[tuple[time, time]]]]] = {
    "a weekend on which the clocks change": (
        "XNYS",
        "America/New_York",
        {"2024-03-07": FULL, "2024-03-08": FULL, "2024-03-11": FULL, "2024-03-12": FULL},
    ),
    "Thanksgiving and its half day": (
        "XNYS",
        "America/New_York",
        {"2024-11-27": FULL, "2024-11-29": HALF, "2024-12-02": FULL},
    ),
    "New Year": ("XNYS", "America/New_York", {"2024-12-31": FULL, "2025-01-02": FULL, "2025-01-03": FULL}),
    "a lunch break and a half day without": (
        "XHKG",
        "Asia/Hong_Kong",
        {"2024-12-23": LUNCH, "2024-12-24": LUNCH[:1], "2024-12-27": LUNCH},
    ),
}


def buckets(stretch: str, timeframe: Timeframe) -> Iterator[tuple[int, str, bool]]:
    """(start, session, first of its session) of every bucket of a stretch."""
    _, zone, days = STRETCHES[stretch]
    length = timedelta(microseconds=LENGTH[timeframe])
    for day, parts in days.items():
        for i, (opened, closed) in enumerate(parts):
            moment, end = (
                datetime.combine(date.fromisoformat(day), clock, ZoneInfo(zone)).astimezone(UTC)
                for clock in (opened, closed)
            )
            first = i == 0
            while moment < end:
                yield to_micros(moment), day, first
                moment, first = moment + length, False


def utc(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def row_starts(sessions: Sessions, first: str, last: str) -> np.ndarray:
    return sessions.day_start[sessions.rows_between(date.fromisoformat(first), date.fromisoformat(last))]


@pytest.mark.parametrize("timeframe", INTRADAY.timeframes)
@pytest.mark.parametrize("stretch", STRETCHES)
def test_neighbours_are_bars_between_which_no_bucket_lies(stretch: str, timeframe: Timeframe) -> None:
    sessions = load_sessions(STRETCHES[stretch][0], LAST)
    ts, days, first = (np.array(column) for column in zip(*buckets(stretch, timeframe), strict=True))
    found = places(ts, sessions, timeframe)
    assert (np.diff(found.ordinal) == 1).all()
    assert found.first.tolist() == first.tolist()
    assert found.first.sum() == len(STRETCHES[stretch][2])
    months = np.array([int(day[:4]) * 12 + int(day[5:7]) for day in days])
    assert np.array_equal(np.diff(found.block), np.diff(months))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(STRETCHES)), st.sampled_from(INTRADAY.timeframes), st.integers(0, 2**32))
def test_absent_bars_do_not_move_the_others(stretch: str, timeframe: Timeframe, seed: int) -> None:
    sessions = load_sessions(STRETCHES[stretch][0], LAST)
    ts = np.array([start for start, _, _ in buckets(stretch, timeframe)], dtype=np.int64)
    some = np.random.default_rng(seed).random(len(ts)) < 0.4
    everything, part = places(ts, sessions, timeframe), places(ts[some], sessions, timeframe)
    assert np.array_equal(part.ordinal, everything.ordinal[some])
    assert np.array_equal(part.first, everything.first[some])
    assert np.array_equal(part.block, everything.block[some])


def test_the_first_bar_of_a_session_is_its_opening_bucket_and_not_the_first_there_is() -> None:
    found = places(np.array([utc("2024-03-11 13:31"), utc("2024-03-12 13:30")]), XNYS, "1m")
    assert found.first.tolist() == [False, True]


@pytest.mark.parametrize(
    ("calendar", "first", "last", "sessions_there"),
    [
        pytest.param("XNYS", "2024-03-07", "2024-03-12", 4, id="clocks"),
        pytest.param("XNYS", "2024-12-30", "2025-01-10", 8, id="New Year and a day of mourning"),
        pytest.param("XLON", "2024-03-27", "2024-04-03", 4, id="Easter and clocks"),
        pytest.param("24/7", "2024-02-28", "2024-03-02", 4, id="leap day"),
    ],
)
def test_days_are_neighbours_over_weekends_and_holidays(
    calendar: str, first: str, last: str, sessions_there: int
) -> None:
    sessions = load_sessions(calendar, LAST)
    ts = row_starts(sessions, first, last)
    found = places(ts, sessions, "1d")
    assert len(ts) == sessions_there
    assert (np.diff(found.ordinal) == 1).all()
    assert found.first.all()
    assert found.block[-1] - found.block[0] == int(last[:4]) - int(first[:4])
    assert places(ts[::2], sessions, "1d").ordinal.tolist() == found.ordinal[::2].tolist()


@pytest.mark.parametrize(
    ("calendar", "mondays", "steps"),
    [
        pytest.param(
            "XNYS", ["2024-03-04 05:00", "2024-03-11 04:00", "2024-03-25 04:00"], [1, 2], id="clocks, one absent"
        ),
        pytest.param("XNYS", ["2024-12-30 05:00", "2025-01-06 05:00"], [1], id="New Year"),
        pytest.param("XNYS", ["2001-09-10 04:00", "2001-09-17 04:00"], [1], id="a week of one session"),
        pytest.param("XLON", ["2024-03-25 00:00", "2024-03-31 23:00", "2024-04-07 23:00"], [1, 1], id="London"),
        pytest.param("XASX", ["2024-12-22 13:00", "2024-12-29 13:00", "2025-01-05 13:00"], [1, 1], id="Sydney"),
        pytest.param("XSHG", ["2024-02-04 16:00", "2024-02-18 16:00"], [1], id="a week without any session"),
    ],
)
def test_weeks_are_neighbours_when_no_week_with_a_session_lies_between(
    calendar: str, mondays: list[str], steps: list[int]
) -> None:
    found = places(np.array([utc(monday) for monday in mondays]), load_sessions(calendar, LAST), "1w")
    assert np.diff(found.ordinal).tolist() == steps
    assert found.first.all()


def test_a_block_is_the_month_or_year_of_the_session_and_not_of_utc() -> None:
    sydney = load_sessions("XASX", LAST)
    opened = np.array([utc("2024-02-28 23:00"), utc("2024-02-29 23:00")])  # the sessions of 02-29 and 03-01
    assert np.diff(places(opened, sydney, "1h").block).tolist() == [1]
    # Daily bars of 2024-12-31 and 2025-01-02; weeks of 2024-12-30, which ends in 2025, and of 2025-01-06.
    assert np.diff(places(np.array([utc("2024-12-30 13:00"), utc("2025-01-01 13:00")]), sydney, "1d").block) == [1]
    assert places(np.array([utc("2024-12-29 13:00"), utc("2025-01-05 13:00")]), sydney, "1w").block.tolist() == [54, 55]


@pytest.mark.parametrize(
    ("calendar", "timeframe", "expected"),
    [
        ("XNYS", "1m", 98_280),
        ("XNYS", "5m", 78 * 252),
        ("XNYS", "15m", 26 * 252),
        ("XNYS", "30m", 13 * 252),
        ("XNYS", "1h", 7 * 252),
        ("XNYS", "4h", 2 * 252),
        ("XNYS", "1d", 252),
        ("XNYS", "1w", 365.25 / 7),
        ("24/7", "1m", 1440 * 365.25),
        ("24/7", "4h", 6 * 365.25),
        ("24/7", "1d", 365.25),
        ("24/7", "1w", 365.25 / 7),
        ("XHKG", "1h", 6 * 252),
        ("XSHG", "4h", 2 * 252),  # 09:30-11:30 and 13:00-15:00: four hours, and yet two bars
    ],
)
def test_bars_per_year_are_those_of_a_usual_session_times_its_days(
    calendar: str, timeframe: Timeframe, expected: float
) -> None:
    assert bars_per_year(load_sessions(calendar, LAST), timeframe) == expected


def test_expected_bars_of_a_session_are_its_regular_ones() -> None:
    rows = XNYS.rows_between(date(2024, 11, 27), date(2024, 12, 2))
    expected = {"1m": [390, 210, 390], "1h": [7, 4, 7], "4h": [2, 1, 2], "1d": [1, 1, 1]}
    for timeframe in ("1m", "1h", "4h", "1d"):
        assert expected_per_session(XNYS, timeframe)[rows].tolist() == expected[timeframe]
    assert np.array_equal(expected_per_session(XNYS, "1m"), XNYS.expected_1m)
    hong_kong = load_sessions("XHKG", LAST)
    rows = hong_kong.rows_between(date(2024, 12, 23), date(2024, 12, 24))
    assert expected_per_session(hong_kong, "1h")[rows].tolist() == [6, 3]


@pytest.mark.parametrize(
    ("calendar", "timeframe", "start", "end"),
    [
        pytest.param("XNYS", "1m", "2024-03-11 19:59", "2024-03-11 20:00", id="last minute"),
        pytest.param("XNYS", "1h", "2024-03-11 13:30", "2024-03-11 14:30", id="whole hour"),
        pytest.param("XNYS", "1h", "2024-03-11 19:30", "2024-03-11 20:00", id="last hour of a day"),
        pytest.param("XNYS", "4h", "2024-03-11 17:30", "2024-03-11 20:00", id="last 4h of a day"),
        pytest.param("XNYS", "1h", "2024-11-29 17:30", "2024-11-29 18:00", id="last hour of a half day"),
        pytest.param("XNYS", "4h", "2024-11-29 14:30", "2024-11-29 18:00", id="the 4h of a half day"),
        pytest.param("XNYS", "1h", "2024-03-11 13:00", "2024-03-11 13:30", id="last hour of the pre-market"),
        pytest.param("XNYS", "4h", "2024-03-11 20:00", "2024-03-12 00:00", id="post-market"),
        pytest.param("XHKG", "1h", "2024-03-11 03:30", "2024-03-11 04:00", id="the hour that lunch cuts"),
        pytest.param("XHKG", "4h", "2024-03-11 01:30", "2024-03-11 04:00", id="the morning"),
        pytest.param("XNYS", "1d", "2024-03-11 04:00", "2024-03-11 20:00", id="a day ends at its close"),
        pytest.param("XNYS", "1d", "2024-11-29 05:00", "2024-11-29 18:00", id="a half day at its own"),
        pytest.param("XNYS", "1w", "2024-03-04 05:00", "2024-03-08 21:00", id="a week at Friday's close"),
        pytest.param("XNYS", "1w", "2024-10-28 04:00", "2024-11-01 20:00", id="a week before the clocks go back"),
        pytest.param("XNYS", "1w", "2024-11-25 05:00", "2024-11-29 18:00", id="a week that ends with a half day"),
        pytest.param("XNYS", "1w", "2024-03-25 04:00", "2024-03-28 20:00", id="Good Friday"),
        pytest.param("XNYS", "1w", "2024-01-15 05:00", "2024-01-19 21:00", id="a holiday on Monday"),
        pytest.param("XHKG", "1w", "2024-02-11 16:00", "2024-02-16 08:00", id="Hong Kong's Monday starts on Sunday"),
        pytest.param("24/7", "1w", "2024-02-26 00:00", "2024-03-04 00:00", id="round the clock"),
    ],
)
def test_a_bar_is_over_when_trading_in_it_is(calendar: str, timeframe: Timeframe, start: str, end: str) -> None:
    (found,) = true_ends(np.array([utc(start)]), load_sessions(calendar, LAST), timeframe)
    assert f"{to_datetime(int(found)):%Y-%m-%d %H:%M}" == end


def test_only_days_and_weeks_are_not_intraday() -> None:
    assert [timeframe for timeframe in LENGTH if not is_intraday(timeframe)] == ["1d", "1w"]


def test_a_timeframe_is_known_by_its_word_and_belongs_to_one_chain() -> None:
    assert [parse_timeframe(word) for word in LENGTH] == [*INTRADAY.timeframes, *DAILY.timeframes]
    assert {chain_of(timeframe) for timeframe in INTRADAY.timeframes} == {INTRADAY}
    assert {chain_of(timeframe) for timeframe in DAILY.timeframes} == {DAILY}
    for word in ("1M", "1 h", "60m", ""):
        with pytest.raises(ValueError, match=f"timeframe '{word}' is not known; use one of 1m 5m 15m 30m 1h 4h 1d 1w"):
            parse_timeframe(word)
