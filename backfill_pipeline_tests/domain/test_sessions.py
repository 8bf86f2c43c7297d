"""Sessions against hand-made times of days, clock changes, half days and lunch breaks (answers/sessions.csv)."""

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.sessions import (
    POST,
    PRE,
    REGULAR,
    Sessions,
    UnknownCalendarError,
    canonical_calendar,
    closed_day_names,
    horizon,
    load_sessions,
)
from backfill_pipeline.domain.windows import MINUTE, Window, to_datetime, to_micros

ANSWERS = Path(__file__).parents[1] / "answers"
LAST = date(2027, 12, 31)
XNYS = load_sessions("XNYS", LAST)
TIMES = ("day_start", "pre_open", "open", "break_start", "break_end", "close", "post_close")


def row_of(sessions: Sessions, day: date) -> int:
    rows = sessions.rows_between(day, day)
    assert rows.stop - rows.start == 1, f"{day} is not one session"
    return rows.start


def hand_made() -> list[dict[str, str]]:
    with (ANSWERS / "sessions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("answer", hand_made(), ids=lambda answer: f"{answer['calendar']} {answer['session']}")
def test_times_of_a_session_are_those_worked_out_by_hand(answer: dict[str, str]) -> None:
    sessions = load_sessions(answer["calendar"], LAST)
    row = row_of(sessions, date.fromisoformat(answer["session"]))
    expected = {name: answer[name] for name in TIMES}
    expected["pre_open"] = expected["pre_open"] or expected["open"]
    expected["post_close"] = expected["post_close"] or expected["close"]
    for name in ("break_start", "break_end"):
        expected[name] = expected[name] or expected["close"]
    found = {name: f"{to_datetime(getattr(sessions, name)[row]):%Y-%m-%dT%H:%MZ}" for name in TIMES}
    assert found == expected


@pytest.mark.parametrize(
    "day", [date(2025, 1, 9), date(2026, 6, 19), date(2024, 3, 9), date(2001, 9, 11), date(2012, 10, 29)], ids=str
)
def test_a_closed_day_is_no_session(day: date) -> None:
    rows = XNYS.rows_between(day, day)
    assert rows.start == rows.stop


def test_sessions_of_2024_in_new_york_are_252_of_which_3_are_half_days() -> None:
    rows = XNYS.rows_between(date(2024, 1, 1), date(2024, 12, 31))
    minutes = XNYS.expected_1m[rows]
    assert (len(minutes), int((minutes == 210).sum()), int(minutes.sum())) == (252, 3, 249 * 390 + 3 * 210)


def test_the_table_reaches_from_1990_to_the_end_asked_for() -> None:
    assert XNYS.session[0] == np.datetime64("1990-01-02")
    assert XNYS.session[-1] == np.datetime64("2027-12-31")
    assert horizon(date(2026, 11, 22)) == LAST


def test_calendars_narrower_than_the_range_asked_for_give_what_their_authors_vouch_for() -> None:
    tokyo = load_sessions("XTKS", LAST)
    assert tokyo.session[0] == np.datetime64("1997-01-06")


@pytest.mark.parametrize("calendar", ["XNYS", "XHKG", "XLON", "24/7"])
def test_parts_are_disjoint_ascending_and_add_up_to_the_session(calendar: str) -> None:
    sessions = load_sessions(calendar, LAST)
    parts = sessions.parts
    assert (parts.end > parts.start).all()
    assert (parts.start[1:] >= parts.end[:-1]).all()
    regular = parts.segment == REGULAR
    minutes = (parts.end - parts.start) // MINUTE
    assert (np.bincount(parts.row[regular], weights=minutes[regular]) == sessions.expected_1m).all()


def test_a_new_york_session_has_three_parts_and_a_hong_kong_one_two() -> None:
    row = row_of(XNYS, date(2024, 3, 11))
    mine = XNYS.parts.row == row
    assert XNYS.parts.segment[mine].tolist() == [PRE, REGULAR, POST]
    hong_kong = load_sessions("XHKG", LAST)
    mine = hong_kong.parts.row == row_of(hong_kong, date(2024, 3, 11))
    assert hong_kong.parts.segment[mine].tolist() == [REGULAR, REGULAR]
    mine = hong_kong.parts.row == row_of(hong_kong, date(2024, 12, 24))
    assert hong_kong.parts.segment[mine].tolist() == [REGULAR]


def test_2000_new_york_time_never_falls_into_tomorrows_session() -> None:
    assert (XNYS.post_close <= XNYS.day_end).all()
    new_york = ZoneInfo("America/New_York")
    latest = {to_datetime(end).astimezone(new_york).time().hour for end in XNYS.post_close[-800:].tolist()}
    assert latest == {17, 20}


@settings(deadline=None)
@given(st.lists(st.integers(-3 * 1440, 8 * 1440), max_size=60))
def test_a_minute_is_located_by_comparing_it_with_every_part(offsets: list[int]) -> None:
    anchor = to_micros(datetime(2024, 11, 27, tzinfo=UTC))  # Thanksgiving and a half day follow
    ts = np.sort(np.array([anchor + offset * MINUTE for offset in offsets], dtype=np.int64))
    found = XNYS.parts.locate(ts)
    starts, ends = XNYS.parts.start, XNYS.parts.end
    for stamp, part in zip(ts.tolist(), found.tolist(), strict=True):
        holding = np.flatnonzero((starts <= stamp) & (stamp < ends)).tolist()
        assert [part] == (holding or [-1])


def test_moments_before_and_after_the_whole_table_are_located_nowhere() -> None:
    far = np.array([np.iinfo(np.int64).min, -1, np.iinfo(np.int64).max], dtype=np.int64)
    assert XNYS.parts.locate(far).tolist() == [-1, -1, -1]
    assert XNYS.parts.locate(far[:0]).tolist() == []
    assert XNYS.row_of(far).tolist() == [-1, -1, -1]


def test_the_row_of_a_moment_is_its_local_day_even_overnight() -> None:
    rows = [row_of(XNYS, day) for day in (date(2024, 3, 8), date(2024, 3, 11))]
    moments = {
        datetime(2024, 3, 8, 4, 59, tzinfo=UTC): row_of(XNYS, date(2024, 3, 7)),
        datetime(2024, 3, 8, 5, 0, tzinfo=UTC): rows[0],
        datetime(2024, 3, 9, 4, 59, tzinfo=UTC): rows[0],
        datetime(2024, 3, 9, 5, 0, tzinfo=UTC): -1,  # Saturday
        datetime(2024, 3, 11, 3, 59, tzinfo=UTC): -1,  # still Sunday in New York
        datetime(2024, 3, 11, 4, 0, tzinfo=UTC): rows[1],
    }
    ts = np.array([to_micros(moment) for moment in moments], dtype=np.int64)
    assert XNYS.row_of(ts).tolist() == list(moments.values())
    assert XNYS.row_of(ts[::-1]).tolist() == list(moments.values())[::-1]


@pytest.mark.parametrize(
    ("calendar", "day", "hours"),
    [
        pytest.param("XNYS", date(2024, 3, 10), 23, id="New York springs forward"),
        pytest.param("XNYS", date(2024, 11, 3), 25, id="New York falls back"),
        pytest.param("XLON", date(2024, 3, 31), 23, id="London springs forward"),
        pytest.param("XHKG", date(2024, 3, 31), 24, id="Hong Kong does not"),
        pytest.param("BVMF", date(2018, 11, 4), 23, id="Sao Paulo skipped midnight"),
        pytest.param("BVMF", date(2018, 2, 17), 25, id="Sao Paulo repeated 23 o'clock"),
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(calendar: str, day: date, hours: int) -> None:
    sessions = load_sessions(calendar, LAST)
    window = sessions.days_window(day, day)
    assert window.end - window.start == timedelta(hours=hours) // timedelta(microseconds=1)
    # The first instant of the day: the one before belongs to yesterday.
    zone = ZoneInfo(sessions.zone)
    assert to_datetime(window.start).astimezone(zone).date() == day
    assert to_datetime(window.start - 1).astimezone(zone).date() == day - timedelta(days=1)


def test_rows_of_a_window_are_the_days_that_start_in_it() -> None:
    week = XNYS.days_window(date(2024, 3, 4), date(2024, 3, 10))
    assert XNYS.rows(week) == XNYS.rows_between(date(2024, 3, 4), date(2024, 3, 8))
    assert XNYS.rows(Window(week.start + 1, week.end)) == XNYS.rows_between(date(2024, 3, 5), date(2024, 3, 8))
    weekend = XNYS.rows(XNYS.days_window(date(2024, 3, 9), date(2024, 3, 10)))
    assert weekend.start == weekend.stop


def test_closed_days_are_named() -> None:
    assert closed_day_names(XNYS, date(2025, 1, 8), date(2025, 1, 20)) == {
        date(2025, 1, 9): "closed",  # a day of mourning, announced ad hoc
        date(2025, 1, 11): "weekend",
        date(2025, 1, 12): "weekend",
        date(2025, 1, 18): "weekend",
        date(2025, 1, 19): "weekend",
        date(2025, 1, 20): "Dr. Martin Luther King Jr. Day",
    }
    assert "Juneteenth" in closed_day_names(XNYS, date(2026, 6, 19), date(2026, 6, 19))[date(2026, 6, 19)]
    assert closed_day_names(XNYS, date(2026, 7, 29), date(2026, 7, 31)) == {}
    round_the_clock = load_sessions("24/7", LAST)
    assert closed_day_names(round_the_clock, date(2024, 12, 20), date(2025, 1, 5)) == {}


@pytest.mark.parametrize(
    ("calendar", "last_days"), [("XHKG", (2027, 12, 27)), ("XTKS", (2027, 12, 31)), ("XNYS", (2027, 12, 25))]
)
def test_closed_days_are_named_up_to_the_end_of_the_table(calendar: str, last_days: tuple[int, int, int]) -> None:
    names = closed_day_names(load_sessions(calendar, LAST), date(2027, 12, 20), LAST)
    assert date(*last_days) in names


def test_an_alias_is_its_calendar_and_an_unknown_name_is_refused_by_name() -> None:
    assert canonical_calendar("NASDAQ") == "XNYS"
    assert load_sessions("NASDAQ", LAST).calendar == "XNYS"
    with pytest.raises(UnknownCalendarError, match="calendar 'XXXX' is not known"):
        load_sessions("XXXX", LAST)
