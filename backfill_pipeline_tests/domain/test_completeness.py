"""How complete sessions and partitions are, on a week of New York sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from backfill_pipeline.domain.completeness import (
    SessionStatus,
    State,
    is_final,
    is_listed,
    is_whole,
    judge,
    latest_begun,
    open_minutes,
    state_of,
)
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros

SESSIONS = load_sessions("XNYS", date(2025, 12, 31))
NEW_YORK = ZoneInfo("America/New_York")
MON, TUE, WED, THU, FRI = (date(2024, 5, day) for day in range(6, 11))
ROW = SESSIONS.rows_between(MON, MON).start
ROWS = np.arange(ROW, ROW + 5)
DUE = SESSIONS.post_close + 15 * MINUTE


def _ny(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK)


def _ts(day: date, hour: int, minute: int = 0) -> int:
    return to_micros(_ny(day, hour, minute))


def _status(day: date, *, missing: int = 0, not_due: int = 0) -> SessionStatus:
    explained = {"not_due": not_due} if not_due else {}
    return SessionStatus(day, 390, 390 - missing - not_due, explained, missing, {}, "p")


@pytest.mark.parametrize(
    ("now", "finals"),
    [
        (_ny(WED, 19, 59), 0),
        (_ny(WED, 20), 1),  # Monday: two sessions have closed after it
        (_ny(FRI, 19, 59), 2),
        (_ny(FRI, 20), 3),
        (_ny(date(2024, 5, 13), 20), 4),  # the weekend does not count
    ],
)
def test_a_session_is_final_when_two_later_ones_have_closed(now: datetime, finals: int) -> None:
    assert is_final(SESSIONS, now)[ROWS].tolist() == [True] * finals + [False] * (5 - finals)


def test_a_session_begins_after_its_first_segment_opens() -> None:
    assert latest_begun(SESSIONS, _ny(TUE, 4)) == MON
    assert latest_begun(SESSIONS, _ny(TUE, 4) + timedelta(microseconds=1)) == TUE
    assert latest_begun(SESSIONS, _ny(date(2024, 5, 12), 12)) == FRI


@pytest.mark.parametrize(
    ("first", "last", "listed"),
    [
        (None, None, [True] * 5),
        (TUE, None, [False, True, True, True, True]),
        (None, WED, [True, True, True, False, False]),
        (TUE, TUE, [False, True, False, False, False]),
    ],
)
def test_a_lifetime_includes_its_first_and_last_day(first: date | None, last: date | None, listed: list[bool]) -> None:
    instrument = Instrument(1, "A", "stock", "XNYS", first, last)
    assert is_listed(SESSIONS, instrument)[ROWS].tolist() == listed


def test_what_is_absent_is_not_listed_not_due_or_missing() -> None:
    listed = np.ones(len(SESSIONS), dtype=bool)
    listed[ROW] = False
    present = np.repeat(ROWS, [0, 390, 380, 0, 100])
    statuses = judge(SESSIONS, ROWS, "1m", present, listed=listed, due_at=DUE, now=_ny(FRI, 12), provider="p")
    assert [(s.session, s.expected, s.stored, dict(s.explained), s.missing, s.due_at) for s in statuses] == [
        (MON, 390, 0, {"not_listed": 390}, 0, None),
        (TUE, 390, 390, {}, 0, None),
        (WED, 390, 380, {}, 10, None),
        (THU, 390, 0, {}, 390, None),
        (FRI, 390, 100, {"not_due": 290}, 0, _ny(FRI, 20, 15)),
    ]
    assert [s.complete for s in statuses] == [True, True, False, False, False]
    assert all(s.expected == s.stored + sum(s.explained.values()) + s.missing for s in statuses)


def test_a_session_is_due_at_the_very_moment() -> None:
    listed = np.ones(len(SESSIONS), dtype=bool)
    for now, verdict in ((_ny(FRI, 20, 14), {"not_due": 1}), (_ny(FRI, 20, 15), {})):
        status = judge(SESSIONS, ROWS[4:], "1d", ROWS[:0], listed=listed, due_at=DUE, now=now, provider=None)[0]
        assert (status.explained, status.missing, status.expected) == (verdict, 0 if verdict else 1, 1)


def test_minutes_stay_open_where_a_session_lacks_them_and_where_nobody_answered() -> None:
    whole = Window(_ts(MON, 0), _ts(WED, 0))
    regular = np.arange(_ts(MON, 9, 30), _ts(MON, 16), MINUTE)
    lacking = np.delete(regular, [3, 4])
    statuses = [_status(MON, missing=2), _status(TUE)]
    both = np.concatenate([lacking, np.arange(_ts(TUE, 9, 30), _ts(TUE, 16), MINUTE)])
    assert open_minutes(SESSIONS, ROWS[:2], statuses, [whole], both).tolist() == regular[[3, 4]].tolist()
    complete = [_status(MON), _status(TUE)]
    everything = np.concatenate([regular, both[len(lacking) :]])
    assert len(open_minutes(SESSIONS, ROWS[:2], complete, [whole], everything)) == 0
    until = [Window(_ts(MON, 0), _ts(TUE, 17, 30) + 30 * MINUTE // 60)]
    silent = open_minutes(SESSIONS, ROWS[:2], complete, until, everything)
    assert silent.tolist() == list(range(_ts(TUE, 17, 30), _ts(TUE, 20), MINUTE))
    assert len(open_minutes(SESSIONS, ROWS[:0], [], [], everything[:0])) == 0


def test_a_bucket_is_whole_when_none_of_its_minutes_is_open() -> None:
    buckets = np.array([_ts(MON, 9, 30), _ts(MON, 10, 30), _ts(MON, 15, 30), _ts(MON, 16)])
    open_ts = np.array([_ts(MON, 10, 29), _ts(MON, 16, 59)])
    assert is_whole(buckets, "1h", SESSIONS, open_ts).tolist() == [False, True, True, False]
    assert is_whole(buckets, "1h", SESSIONS, open_ts[:0]).all()
    assert is_whole(buckets[:0], "1h", SESSIONS, open_ts).tolist() == []


DONE, BAD, WAITING = _status(MON), _status(TUE, missing=1), _status(WED, not_due=5)


@pytest.mark.parametrize(
    ("wanted", "statuses", "state"),
    [
        pytest.param({}, [], "not served", id="nothing wanted is served"),
        pytest.param({MON: True}, [DONE], "complete", id="due and complete"),
        pytest.param({MON: True, TUE: True}, [DONE, BAD], "incomplete", id="one is missing"),
        pytest.param({MON: True, TUE: True}, [DONE], "incomplete", id="one was never looked at"),
        pytest.param({MON: True, WED: False}, [DONE, WAITING], "in progress", id="one is not due"),
        pytest.param({MON: True, WED: False}, [DONE], "in progress", id="one is not due nor looked at"),
        pytest.param({MON: False}, [DONE], "in progress", id="all there and not due"),
        pytest.param({WED: True}, [WAITING], "incomplete", id="due by now and not looked at since"),
        pytest.param({TUE: True, WED: False}, [BAD, WAITING], "incomplete", id="missing comes before waiting"),
    ],
)
def test_the_state_of_a_partition(wanted: dict[date, bool], statuses: list[SessionStatus], state: State) -> None:
    assert state_of(wanted, {status.session: status for status in statuses}, has_sessions=True) == state


def test_a_partition_without_a_session_is_complete() -> None:
    assert state_of({}, {}, has_sessions=False) == "complete"


def test_a_status_that_explains_all_is_complete() -> None:
    assert replace(DONE, stored=0, explained={"not_listed": 390}).complete
