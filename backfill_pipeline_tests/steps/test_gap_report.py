"""Gaps in lines: what stands in them, what is told together, and in which order."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.steps.gap_report import GapLine, gap_lines, head
from backfill_pipeline.storage.gaps import StoredGap
from backfill_pipeline_tests.steps.warehouses import micros

FRI, MON, TUE, WED = date(2024, 5, 10), date(2024, 5, 13), date(2024, 5, 14), date(2024, 5, 15)
FOUND = datetime(2024, 5, 16, 6, tzinfo=UTC)
NOW = FOUND + timedelta(hours=1)
WHOLE = {"by": "whole session"}
HABIT = {"by": "habit", "volume": "none", "log10_habit": -12.3, "sessions": 20}


def gap(
    gap_id: int,
    day: date,
    first: int = 0,
    last: int = 390,
    *,
    symbol: str = "ABC",
    timeframe: Base = "1m",
    verdict: str = "missing",
    evidence: dict[str, object] | None = None,
    attempts: int = 0,
    closed: datetime | None = None,
    resolution: str | None = None,
    wait: timedelta = timedelta(days=1),
) -> StoredGap:
    """Minutes `first` to before `last` after 9:30 in New York; of 1d, the day."""
    opening = micros(day, 9, 30)
    window = Window(opening + first * 60_000_000, opening + last * 60_000_000)
    if timeframe == "1d":
        window = Window(micros(day, 0), micros(day + timedelta(days=1), 0))
    expected = 1 if timeframe == "1d" else last - first
    said = evidence or (WHOLE if timeframe == "1d" or expected == 390 else HABIT)
    times = FOUND + wait, FOUND, closed
    return StoredGap(gap_id, symbol, timeframe, window, expected, 0, verdict, said, attempts, *times, resolution)


def lines(gaps: Sequence[StoredGap], **calendars: Sessions) -> list[GapLine]:
    xnys = load_sessions("XNYS", date(2025, 12, 31))
    ordered = sorted(gaps, key=lambda one: (one.symbol, one.timeframe, one.window))
    return gap_lines(ordered, {one.symbol: calendars.get(one.symbol, xnys) for one in gaps})


def test_a_gap_is_told_in_the_calendars_own_time_with_its_next_attempt() -> None:
    (line,) = lines([gap(17, MON, 90, 120)])
    assert (line.number, line.symbol, line.bars) == ("17", "ABC", "30 minutes")
    assert line.when == "Mon 2024-05-13 11:00 to 11:30"
    assert line.why == "missing: it trades then; silence is 1 in 10^12; no daily bar to compare"
    assert line.fate(NOW) == "asked again 2024-05-17 02:00"
    assert line.repair == "backfill run --symbols ABC --timeframes 1m --start 2024-05-13 --end 2024-05-13"


def test_whole_sessions_that_follow_one_another_are_one_line_over_a_weekend_too() -> None:
    (line,) = lines([gap(4, FRI), gap(5, MON), gap(9, TUE)])
    assert (line.number, line.bars, line.when) == ("4-5,9", "1,170 minutes", "2024-05-10 to 2024-05-14, 3 sessions")
    assert line.repair.endswith("--start 2024-05-10 --end 2024-05-14")
    (days,) = lines([gap(4, FRI, timeframe="1d"), gap(5, MON, timeframe="1d")])
    assert (days.bars, days.why) == ("2 days", "missing: the session has no daily bar")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(gap(2, WED), id="a session between them"),
        pytest.param(gap(2, TUE, symbol="XYZ"), id="another symbol"),
        pytest.param(gap(2, TUE, timeframe="1d"), id="another timeframe"),
        pytest.param(gap(2, TUE, attempts=1), id="tried more often"),
        pytest.param(gap(2, TUE, verdict="outage"), id="another verdict"),
        pytest.param(gap(2, TUE, 0, 30), id="only a part"),
        pytest.param(gap(2, TUE, closed=NOW, resolution="filled"), id="closed"),
    ],
)
def test_others_are_told_apart(other: StoredGap) -> None:
    assert sorted(line.number for line in lines([gap(1, MON), other])) == ["1", "2"]


def test_the_biggest_comes_first_then_the_newest_and_past_ones_last() -> None:
    past = {"closed": NOW, "resolution": "filled"}
    told = lines(
        [
            gap(1, TUE, 0, 5),
            gap(2, MON, 90, 120),
            gap(3, WED, 90, 120, symbol="XYZ"),
            gap(4, FRI, timeframe="1d"),
            gap(5, MON, 0, 380, symbol="OLD", **past),  # type: ignore[arg-type]  # of two types
        ]
    )
    assert [line.number for line in told] == ["4", "3", "2", "1", "5"]
    assert told[-1].fate(NOW) == "filled, 2024-05-16 03:00"


def test_five_symbols_that_lack_the_same_are_one_line_four_are_not() -> None:
    def volume(i: int) -> dict[str, object]:
        return {"by": "volume", "ratio": 0.9 + i / 1000, "median": 0.987}

    gaps = [gap(7 * i, MON, 90, 120, symbol=f"S{i}", verdict="outage", evidence=volume(i)) for i in range(1, 6)]
    (line,) = lines(gaps)
    assert (line.number, line.symbol, line.bars) == ("7,14,21,28,35", "5 symbols", "150 minutes")
    assert line.why == "outage: minutes hold 90.1 % of the day's volume, usually 98.7 % (S1)"
    assert "--symbols S1,S2,S3,S4,S5 --timeframes 1m" in line.repair
    assert len(lines(gaps[:4])) == 4
    many = [gap(7 * i, MON, symbol=f"S{i:02}", evidence=WHOLE) for i in range(1, 31)]
    (line,) = lines(many)
    assert (line.number, line.why) == ("30 gaps", "missing: not one minute of the session")


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"by": "unanswered"}, "no complete answer speaks of it yet"),
        ({"by": "refused row"}, "rows were sent and refused; backfill explain tells why"),
        (
            {"by": "too few sessions", "sessions": 3},
            "only 3 sessions around it are known, too few for a habit",
        ),
        ({**HABIT, "log10_habit": -300.0}, "it always trades then; no daily bar to compare"),
        (
            {**HABIT, "volume": "unclear"},
            "it trades then; silence is 1 in 10^12; too short to show in the day's volume",
        ),
        (
            {"by": "other symbols", "others": {"usually": 6, "lack": 5, "short": 4, "whole": 1}},
            "5 of 6 other symbols lack it, too, 4 of them against their day's volume",
        ),
        ({"by": "changed by another hand", "detail": "12 bars are gone"}, "12 bars are gone"),
        ({"by": "something new"}, "judged by something new"),
    ],
)
def test_every_evidence_has_its_words(evidence: dict[str, object], words: str) -> None:
    (line,) = lines([gap(1, MON, 0, 30, evidence=evidence)])
    assert line.why == f"missing: {words}"


@pytest.mark.parametrize(
    ("attempts", "wait", "words"),
    [
        (0, -1, "asked again by the next run"),
        (1, -1, "asked again by the next run, tried once"),
        (4, 7, "asked again 2024-05-23 02:00, tried 4 times"),
    ],
)
def test_what_happens_next_says_how_often_it_was_tried(attempts: int, wait: int, words: str) -> None:
    (line,) = lines([gap(1, MON, attempts=attempts, wait=timedelta(days=wait))])
    assert line.fate(NOW) == words


def test_an_accepted_gap_says_why() -> None:
    evidence = {**WHOLE, "because": "the exchange was down"}
    (line,) = lines([gap(1, MON, evidence=evidence, closed=NOW, resolution="accepted")])
    assert line.fate(NOW) == "accepted: the exchange was down, 2024-05-16 03:00"


def test_other_calendars_have_their_own_sessions_and_time() -> None:
    always = load_sessions("24/7", date(2025, 12, 31))
    coin = [gap(1, date(2024, 5, 11), symbol="COIN"), gap(2, date(2024, 5, 12), symbol="COIN")]
    (line,) = lines(coin, COIN=always)
    assert (line.when, line.zone.key) == ("2024-05-11 to 2024-05-12, 2 sessions", "UTC")
    (line,) = lines([gap(1, MON, 0, 5, symbol="COIN")], COIN=always)
    assert line.when == "Mon 2024-05-13 13:30 to 13:35"


def test_a_gap_on_a_day_that_was_closed_since_has_its_date() -> None:
    (line,) = lines([gap(1, date(2024, 5, 11), 0, 5)])  # a Saturday
    assert line.when == "Sat 2024-05-11 09:30 to 09:35"


def test_a_symbol_is_quoted_for_the_shell() -> None:
    (line,) = lines([gap(1, MON, symbol="A;rm")])
    assert shlex.split(line.repair)[3] == "A;rm"


def test_the_head_has_the_totals() -> None:
    past = gap(9, FRI, closed=NOW, resolution="filled")
    assert head([gap(1, MON, 0, 5), gap(2, TUE, timeframe="1d"), past]) == (
        "2 open gaps of 1 symbol: 5 minutes and 1 day missing; 1 past"
    )
    assert head([gap(1, MON, 0, 1), gap(2, MON, 0, 1, symbol="X")]) == "2 open gaps of 2 symbols: 2 minutes missing"
    assert head([]) == "no open gaps"
    assert head([past]) == "no open gaps; 1 past"
