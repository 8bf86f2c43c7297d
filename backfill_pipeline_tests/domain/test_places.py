"""Which bar holds an instant: literal intervals, from the wall clock of each market."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from backfill_pipeline.domain.places import Nowhere, Place, hours, place_of
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import to_datetime, to_micros

ZONES = {"XNYS": ZoneInfo("America/New_York"), "XHKG": ZoneInfo("Asia/Hong_Kong"), "24/7": UTC}


def find(calendar: str, time: str, timeframe: Timeframe) -> Place | Nowhere:
    at = datetime.fromisoformat(time).replace(tzinfo=ZONES[calendar])
    return place_of(to_micros(at), load_sessions(calendar, date(2025, 12, 31)), timeframe)


@pytest.mark.parametrize(
    ("calendar", "time", "timeframe", "start", "end", "segment"),
    [
        pytest.param("XNYS", "2024-03-08 10:31:59", "1m", "2024-03-08 10:31", "2024-03-08 10:32", "regular", id="1m"),
        pytest.param("XNYS", "2024-03-08 09:30", "1h", "2024-03-08 09:30", "2024-03-08 10:30", "regular", id="first"),
        pytest.param("XNYS", "2024-03-08 15:59", "1h", "2024-03-08 15:30", "2024-03-08 16:00", "regular", id="short"),
        pytest.param("XNYS", "2024-03-11 14:00", "4h", "2024-03-11 13:30", "2024-03-11 16:00", "regular", id="DST"),
        pytest.param(
            "XNYS", "2024-07-03 12:59", "4h", "2024-07-03 09:30", "2024-07-03 13:00", "regular", id="half day"
        ),
        pytest.param("XNYS", "2024-07-03 16:59", "1h", "2024-07-03 16:00", "2024-07-03 17:00", "post", id="half post"),
        pytest.param("XNYS", "2024-03-08 09:29", "30m", "2024-03-08 09:00", "2024-03-08 09:30", "pre", id="pre"),
        pytest.param("XHKG", "2024-03-08 11:59", "4h", "2024-03-08 09:30", "2024-03-08 12:00", "regular", id="morning"),
        pytest.param(
            "XHKG", "2024-03-08 13:00", "1h", "2024-03-08 13:00", "2024-03-08 14:00", "regular", id="afternoon"
        ),
        pytest.param("24/7", "2024-03-09 23:59", "4h", "2024-03-09 20:00", "2024-03-10 00:00", "regular", id="crypto"),
        pytest.param("XNYS", "2024-03-10 23:59", "1w", "2024-03-04 00:00", "2024-03-11 00:00", "regular", id="week"),
        pytest.param("XNYS", "2024-03-08 22:00", "1d", "2024-03-08 00:00", "2024-03-09 00:00", "regular", id="day"),
    ],
)
def test_the_bar_that_holds_a_time(
    calendar: str, time: str, timeframe: Timeframe, start: str, end: str, segment: str
) -> None:
    place = find(calendar, time, timeframe)
    assert isinstance(place, Place)
    shown = [to_datetime(edge).astimezone(ZONES[calendar]) for edge in (place.window.start, place.window.end)]
    assert [f"{at:%Y-%m-%d %H:%M}" for at in shown] == [start, end]
    assert place.segment == segment


def test_a_week_is_of_its_sessions_and_starts_on_a_holiday() -> None:
    place = find("XNYS", "2024-02-20 10:00", "1w")
    assert isinstance(place, Place)
    assert (place.first, place.last) == (date(2024, 2, 20), date(2024, 2, 23)), "Monday was Presidents' Day"
    assert to_datetime(place.window.start) == datetime(2024, 2, 19, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("calendar", "time", "timeframe", "session", "why"),
    [
        pytest.param("XNYS", "2024-03-09 11:00", "1m", False, "is no session of XNYS (weekend)", id="weekend"),
        pytest.param("XNYS", "2024-03-29 11:00", "1d", False, "(Good Friday)", id="holiday"),
        pytest.param("XNYS", "2024-03-08 20:00", "1m", True, "post 16:00-20:00 on 2024-03-08", id="20:00"),
        pytest.param("XNYS", "2024-07-03 17:00", "1m", True, "regular 09:30-13:00, post 13:00-17:00", id="half day"),
        pytest.param("XHKG", "2024-03-08 12:30", "1m", True, "trades 09:30-12:00, 13:00-16:00 on", id="lunch"),
    ],
)
def test_where_there_can_be_no_bar_it_says_why(
    calendar: str, time: str, timeframe: Timeframe, session: bool, why: str
) -> None:
    place = find(calendar, time, timeframe)
    assert isinstance(place, Nowhere)
    assert place.session is session
    assert why in place.why


def test_a_week_without_a_session_is_nowhere() -> None:
    """Shanghai's New Year of 2020 was prolonged to a whole week."""
    sessions = load_sessions("XSHG", date(2025, 12, 31))
    at = to_micros(datetime(2020, 1, 29, 12, tzinfo=ZoneInfo("Asia/Shanghai")))
    place = place_of(at, sessions, "1w")
    assert isinstance(place, Nowhere)
    assert place.why == "the week of 2020-01-27 has no session of XSHG"


def test_hours_name_the_segments_where_there_are_several() -> None:
    us, crypto = (load_sessions(name, date(2025, 12, 31)) for name in ("XNYS", "24/7"))
    assert hours(us, date(2024, 3, 8)) == "pre 04:00-09:30, regular 09:30-16:00, post 16:00-20:00"
    assert hours(crypto, date(2024, 3, 8)) == "00:00-00:00"
