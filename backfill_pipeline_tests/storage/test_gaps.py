"""Open gaps are what the last look found; past ones stay with what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.verdicts import Gap, GapVerdict
from backfill_pipeline.domain.windows import MINUTE, Window
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.gaps import (
    ACCEPTED,
    AGREED,
    GapError,
    StoredGap,
    accept,
    explained_windows,
    open_gaps,
    replace_gaps,
)
from backfill_pipeline.storage.overrides import close_day, closed_days, reopen_day
from backfill_pipeline.storage.symbols import add_symbol
from backfill_pipeline_tests.storage.stored import START, migrated, rows

NOW = datetime(2024, 5, 7, 3, tzinfo=UTC)
EVER = Window(START, START + 10_000 * MINUTE)


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        add_symbol(connection, "ABC", "stock", "XNYS")
        add_symbol(connection, "NA", "stock", "XNYS")
        yield connection


def gap(first: int, length: int, verdict: GapVerdict = "missing", **evidence: object) -> Gap:
    window = Window(START + first * MINUTE, START + (first + length) * MINUTE)
    return Gap(window, length, verdict, {"by": "habit", **evidence})


def look(
    conn: Connection, found: Sequence[Gap], now: datetime = NOW, *, asked: bool = True, became: str = "filled"
) -> list[StoredGap]:
    """A look that finds these; what is open afterwards."""

    def resolution(gone: StoredGap) -> str:
        return became

    replace_gaps(conn, 1, "1m", open_gaps(conn, 1, "1m", EVER), found, resolution, now, asked=asked)
    return open_gaps(conn, 1, "1m", EVER)


def past(conn: Connection) -> list[tuple[object, ...]]:
    return rows(conn, "SELECT gap_id, resolution, resolved_at FROM gaps WHERE resolved_at IS NOT NULL ORDER BY gap_id")


def test_a_gap_is_stored_as_it_was_found(conn: Connection) -> None:
    (stored,) = look(conn, [gap(10, 5, "outage", ratio=0.9)])
    assert stored == StoredGap(
        1,
        "ABC",
        "1m",
        gap(10, 5).window,
        5,
        0,
        "outage",
        {"by": "habit", "ratio": 0.9},
        0,
        NOW + timedelta(days=1),
        NOW,
        None,
        None,
    )
    assert open_gaps(conn, 1, "1d", EVER) == open_gaps(conn, 2, "1m", EVER) == []
    assert open_gaps(conn, 1, "1m", Window(START + 15 * MINUTE, EVER.end)) == []


def test_the_same_window_stays_the_same_row_and_counts_attempts_two_soon_then_weekly(conn: Connection) -> None:
    look(conn, [gap(10, 5)])
    now, waits = NOW, []
    for attempts in (1, 2, 3):
        now = now + timedelta(days=1)
        (again,) = look(conn, [gap(10, 5, "outage")], now)
        assert (again.gap_id, again.attempts, again.verdict, again.detected_at) == (1, attempts, "outage", NOW)
        waits.append(again.next_attempt_at - now)
    assert waits == [timedelta(days=1), timedelta(days=7), timedelta(days=7)]
    assert past(conn) == []


def test_a_look_without_an_answer_is_no_attempt_and_writes_nothing_that_is_the_same(conn: Connection) -> None:
    look(conn, [gap(10, 5)])
    version = rows(conn, "SELECT ctid FROM gaps")
    (again,) = look(conn, [gap(10, 5)], NOW + timedelta(days=1), asked=False)
    assert rows(conn, "SELECT ctid FROM gaps") == version
    (again,) = look(conn, [gap(10, 5, ratio=0.25)], NOW + timedelta(days=1), asked=False)
    assert (again.attempts, again.evidence) == (0, {"by": "habit", "ratio": 0.25})
    rows(conn, """UPDATE gaps SET evidence = '{"by": "rows", "detail": "edited"}' RETURNING 1""")
    (again,) = look(conn, [gap(10, 5, ratio=0.5)], NOW + timedelta(days=1), asked=False)
    assert again.evidence == {"by": "rows", "detail": "edited"}
    (again,) = look(conn, [gap(10, 5, "outage", ratio=0.5)], NOW + timedelta(days=1), asked=False)
    assert (again.verdict, again.evidence["ratio"], again.attempts) == ("outage", 0.5, 0)
    look(conn, [gap(10, 5)], NOW)
    assert rows(conn, "SELECT attempts FROM gaps") == [(0,)]  # the answer by which it was found is none either


def test_what_vanished_shrank_or_was_split_is_closed_and_stays_visible(conn: Connection) -> None:
    look(conn, [gap(10, 5), gap(30, 10), gap(60, 3)])
    later = NOW + timedelta(days=1)
    now_open = look(conn, [gap(30, 4), gap(38, 2), gap(60, 3)], later)
    assert [(one.gap_id, one.window, one.attempts) for one in now_open] == [
        (4, gap(30, 4).window, 0),
        (5, gap(38, 2).window, 0),
        (3, gap(60, 3).window, 1),
    ]
    assert past(conn) == [(1, "filled", later), (2, "filled", later)]
    look(conn, [], later, became="explained no_trade")
    assert [row[1] for row in past(conn)] == ["filled", "filled"] + ["explained no_trade"] * 3


def test_a_gap_that_comes_back_is_a_new_row(conn: Connection) -> None:
    look(conn, [gap(10, 5)])
    look(conn, [])
    (again,) = look(conn, [gap(10, 5)], NOW + timedelta(days=9))
    assert (again.gap_id, again.attempts) == (2, 0)


def test_a_person_accepts_a_gap_with_a_reason(conn: Connection) -> None:
    look(conn, [gap(10, 5), gap(30, 1)])
    assert accept(conn, 1, "the exchange was down", NOW).window == gap(10, 5).window
    assert [one.gap_id for one in open_gaps(conn, 1, "1m", EVER)] == [2]
    assert rows(conn, "SELECT resolution, evidence ->> 'because' FROM gaps WHERE gap_id = 1") == [
        ("accepted", "the exchange was down")
    ]
    assert explained_windows(conn, 1, "1m", EVER) == {ACCEPTED: [gap(10, 5).window], AGREED: []}
    look(conn, [], became=AGREED)
    assert explained_windows(conn, 1, "1m", EVER)[AGREED] == [gap(30, 1).window]
    assert explained_windows(conn, 1, "1m", Window(START, START + 10 * MINUTE)) == {ACCEPTED: [], AGREED: []}


@pytest.mark.parametrize(
    ("gap_id", "because", "message"),
    [
        (7, "why not", "gap 7 is not known; open gaps: backfill gaps"),
        (1, "  ", "gap 1 is not accepted without a reason; say why with --because"),
        (1, "again", r"gap 1 was closed on 2024-05-07 \(accepted\); nothing to accept"),
    ],
)
def test_what_cannot_be_accepted_says_why(conn: Connection, gap_id: int, because: str, message: str) -> None:
    look(conn, [gap(10, 5)])
    if because == "again":
        accept(conn, 1, "once", NOW)
    with pytest.raises(GapError, match=message):
        accept(conn, gap_id, because, NOW)


def test_a_day_closed_by_hand_closes_its_gaps_and_forgets_its_statuses(conn: Connection) -> None:
    store_sessions(conn, load_sessions("XNYS", date(2024, 12, 31)))
    day = date(2024, 5, 6)
    look(conn, [gap(14 * 60, 5), gap(40 * 60, 5)])
    for session in (day, date(2024, 5, 7)):
        rows(
            conn, "INSERT INTO session_status VALUES (1, '1m', %s, 390, 0, '{}', 390, '{}', 'p', NULL, now())", session
        )
    close_day(conn, "XNYS", day, "day of mourning", NOW)
    close_day(conn, "XNYS", day, "national day of mourning", NOW)
    assert closed_days(conn, "XNYS") == {day: "national day of mourning"}
    assert closed_days(conn, "XLON") == {}
    assert past(conn) == [(1, "closed by override", NOW)]
    assert rows(conn, "SELECT session FROM session_status") == [(date(2024, 5, 7),)]
    assert reopen_day(conn, "XNYS", day)
    assert not reopen_day(conn, "XNYS", day)
    assert closed_days(conn, "XNYS") == {}
