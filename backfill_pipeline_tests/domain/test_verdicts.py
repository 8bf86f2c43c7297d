"""Why minutes are absent: each example by hand."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
import pytest

from backfill_pipeline.domain.absence import Known
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.verdicts import Others, SessionVerdict, explain
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline_tests.domain.books import XNYS, Trading, ny, rows_around, span

DAY = date(2024, 5, 15)
AROUND = rows_around(XNYS, DAY, 20, 5)
ROW = int(AROUND[20])
LUNCH = span(DAY, (11, 0), (11, 30))
LIQUID = 0.998
ILLIQUID = 48 / 390


def judged(trading: Trading, row: int = ROW, **evidence: object) -> SessionVerdict:
    (verdict,) = explain(trading.sessions, trading.book(), np.array([row]), **evidence)  # type: ignore[arg-type]  # by name
    return verdict


def gaps(verdict: SessionVerdict) -> list[tuple[Window, int, str]]:
    return [(gap.window, gap.expected, gap.verdict) for gap in verdict.gaps]


def by(verdict: SessionVerdict) -> object:
    return verdict.gaps[0].evidence["by"]


@pytest.mark.parametrize("daily", [True, False])
def test_an_illiquid_symbol_with_48_minutes_a_day_is_complete(daily: bool) -> None:
    verdict = judged(Trading(AROUND, ILLIQUID, daily=daily))
    assert set(verdict.counts) == {"no_trade"}
    assert 320 < verdict.counts["no_trade"] < 365
    assert verdict.gaps == ()


def test_half_an_hour_that_the_days_volume_has_is_a_gap() -> None:
    verdict = judged(Trading(AROUND, withheld=[LUNCH]))
    assert gaps(verdict) == [(LUNCH, 30, "outage")]
    assert verdict.counts == {"outage": 30}
    evidence = verdict.gaps[0].evidence
    assert evidence["by"] == "volume"
    assert evidence["median"] == 1
    assert 0.93 < evidence["ratio"] < 0.97  # type: ignore[operator]  # a number
    assert evidence["log10_habit"] < -6  # type: ignore[operator]  # a number
    assert json.loads(json.dumps(evidence)) == evidence


def test_half_an_hour_that_the_days_volume_lacks_too_is_no_trade_whatever_its_length() -> None:
    verdict = judged(Trading(AROUND, silent=[LUNCH, span(DAY, (13, 0), (15, 30))]))
    assert verdict.counts == {"no_trade": 180}


def test_without_a_daily_bar_habit_decides() -> None:
    lost = Trading(AROUND, LIQUID, daily=False, withheld=[LUNCH])
    verdict = judged(lost)
    assert gaps(verdict) == [(LUNCH, 30, "missing")]
    assert by(verdict) == "habit"
    few = Window(LUNCH.start, LUNCH.start + 2 * MINUTE)
    verdict = judged(Trading(AROUND, 0.95, daily=False, withheld=[few]))
    assert set(verdict.counts) == {"no_trade"}


def test_a_minute_of_a_symbol_that_never_is_silent_is_missing() -> None:
    one = Window(LUNCH.start, LUNCH.start + MINUTE)
    assert gaps(judged(Trading(AROUND, daily=False, withheld=[one]))) == [(one, 1, "missing")]
    assert gaps(judged(Trading(AROUND, withheld=[one]))) == [(one, 1, "outage")]
    assert judged(Trading(AROUND, silent=[one])).counts == {"no_trade": 1}


@pytest.mark.parametrize("auction", [0.0, 0.15])
def test_the_usual_ratio_counts_not_the_sum(auction: float) -> None:
    """A day that always holds 15 % more than its minutes reconciles; half an hour is seen in it all the same."""
    assert judged(Trading(AROUND, 0.9, auction=auction, noise=0.002)).gaps == ()
    lost = judged(Trading(AROUND, LIQUID, auction=auction, noise=0.002, withheld=[LUNCH]))
    assert gaps(lost) == [(LUNCH, 30, "outage")]


def test_volume_that_is_off_by_more_than_the_absent_minutes_hold_leaves_it_to_habit() -> None:
    few = Window(LUNCH.start, LUNCH.start + 3 * MINUTE)
    quiet = judged(Trading(AROUND, 0.97, noise=0.005, silent=[few]))
    assert set(quiet.counts) == {"no_trade"}
    lost = judged(Trading(AROUND, noise=0.005, withheld=[few]))
    assert gaps(lost) == [(few, 3, "missing")]
    assert lost.evidence["volume"] == "unclear"


def test_volume_that_lacks_more_than_half_of_what_the_absent_minutes_hold_does_not_reconcile() -> None:
    """Ten minutes hold some 2.4 % of the day; days are off by 1 %, so that 2 % would be within the noise."""
    ten = Window(LUNCH.start, LUNCH.start + 10 * MINUTE)
    book = Trading(AROUND, silent=[ten], noise=0.01).book()
    for lack, counts in ((0.015, {"outage": 10}), (0.008, {"no_trade": 10})):
        usual = np.median(np.delete(book.total / book.day, 20)[:20])
        book.day[20] = book.total[20] / usual / (1 - lack)
        (verdict,) = explain(XNYS, book, np.array([ROW]))
        assert 0.02 < float(str(verdict.evidence["absent_share"])) < 0.03
        assert verdict.counts == counts


def test_minutes_with_more_volume_than_the_day_make_the_day_no_witness() -> None:
    trading = Trading(AROUND, LIQUID, silent=[LUNCH])
    book = trading.book()
    book.day[20] *= 0.5
    (verdict,) = explain(XNYS, book, np.array([ROW]))
    assert (verdict.evidence["volume"], verdict.gaps[0].verdict) == ("surplus", "missing")


def test_a_whole_session_is_missing_whatever_the_evidence_says() -> None:
    day = XNYS.session[ROW].astype(object)
    verdict = judged(Trading(AROUND, ILLIQUID, silent=[span(day, (0, 0), (23, 0))]))
    assert gaps(verdict) == [(span(day, (9, 30), (16, 0)), 390, "missing")]
    assert by(verdict) == "whole session"


def test_what_no_complete_answer_speaks_of_is_missing() -> None:
    verdict = judged(Trading(AROUND, silent=[LUNCH], unanswered={ROW}))
    assert gaps(verdict) == [(LUNCH, 30, "missing")]
    assert by(verdict) == "unanswered"


@pytest.mark.parametrize(
    ("sessions", "daily", "expected", "why"),
    [
        pytest.param(3, False, "missing", "too few sessions", id="nobody knows"),
        pytest.param(3, True, "outage", "volume", id="the volume knows"),
        pytest.param(5, False, "missing", "habit", id="five sessions are a habit"),
    ],
)
def test_with_too_few_sessions_what_volume_does_not_explain_is_a_gap(
    sessions: int, daily: bool, expected: str, why: str
) -> None:
    rows = rows_around(XNYS, DAY, sessions)
    verdict = judged(Trading(rows, LIQUID, daily=daily, withheld=[LUNCH]))
    assert (LUNCH, 30, expected) in gaps(verdict)
    assert by(verdict) == why


def test_the_first_session_of_all_reconciles_with_its_own_day() -> None:
    alone = rows_around(XNYS, DAY, 0)
    assert set(judged(Trading(alone, ILLIQUID)).counts) == {"no_trade"}
    assert judged(Trading(alone, silent=[Window(LUNCH.start, LUNCH.start + MINUTE)])).counts == {"no_trade": 1}
    assert set(judged(Trading(alone, ILLIQUID, daily=False)).counts) == {"missing"}
    assert (LUNCH, 30, "outage") in gaps(judged(Trading(alone, LIQUID, withheld=[LUNCH])))


BREAKER = date(2020, 3, 18)


def test_the_circuit_breaker_of_2020_03_18_is_a_halt_of_whoever_lacks_its_minutes() -> None:
    rows = rows_around(XNYS, BREAKER, 10, 10)
    halted = span(BREAKER, (12, 57), (13, 11))
    for daily in (True, False):
        verdict = judged(Trading(rows, silent=[halted], daily=daily), int(rows[10]))
        assert verdict.counts == {"halt": 14}
    whole = judged(Trading(rows, silent=[span(BREAKER, (0, 0), (23, 0))]), int(rows[10]))
    assert whole.counts == {"missing": 390}
    lost = span(BREAKER, (12, 30), (13, 30))
    verdict = judged(Trading(rows, withheld=[lost]), int(rows[10]))
    assert verdict.counts == {"halt": 16, "outage": 44}
    assert [gap.expected for gap in verdict.gaps] == [26, 18]


@pytest.mark.parametrize(
    ("day", "hour", "minutes"),
    [
        (date(2020, 3, 9), 9, (34, 49)),
        (date(2020, 3, 12), 9, (35, 50)),
        (date(2020, 3, 16), 9, (30, 45)),
        (date(2020, 3, 18), 13, (0, 11)),
    ],
)
def test_all_four_circuit_breakers_are_known(day: date, hour: int, minutes: tuple[int, int]) -> None:
    rows = rows_around(XNYS, day, 6, 6)
    silent = span(day, (hour, minutes[0]), (hour, minutes[1] + 1))
    assert judged(Trading(rows, silent=[silent]), int(rows[6])).counts == {"halt": minutes[1] - minutes[0] + 1}


def test_a_run_that_the_market_shares_is_a_halt_where_volumes_reconcile_and_an_outage_where_they_do_not() -> None:
    asked: list[Window] = []

    def market(others: Others, **trading: object) -> SessionVerdict:
        def tell(window: Window) -> Others:
            asked.append(window)
            return others

        return judged(Trading(AROUND, **trading), market=tell)  # type: ignore[arg-type]  # by name

    everybody_lost, everybody_quiet = Others(30, 29, 28, 1), Others(30, 29, 1, 28)
    nobody, four = Others(30, 1, 1, 0), Others(4, 4, 4, 0)
    no_day = {"daily": False, "withheld": [LUNCH]}
    assert market(everybody_lost, **no_day).counts == {"outage": 30}
    assert market(everybody_quiet, **no_day).counts == {"halt": 30}
    assert market(nobody, **no_day).counts == {"missing": 30}
    assert market(four, **no_day).counts == {"missing": 30}
    assert market(everybody_quiet, silent=[LUNCH]).counts == {"halt": 30}
    assert market(nobody, silent=[LUNCH]).counts == {"no_trade": 30}
    assert market(everybody_quiet, withheld=[LUNCH]).counts == {"outage": 30}
    assert set(asked) == {LUNCH}
    few = Window(LUNCH.start, LUNCH.start + 4 * MINUTE)
    asked.clear()
    assert market(everybody_quiet, silent=[few]).counts == {"no_trade": 4}
    assert asked == []


def test_other_symbols_are_asked_about_a_few_runs_only() -> None:
    hours = [span(DAY, (hour, 0), (hour, 10)) for hour in range(10, 16)]
    hours += [span(date(2024, 5, 14), (hour, 0), (hour, 10)) for hour in range(10, 16)]
    asked: list[Window] = []

    def nobody(window: Window) -> Others:
        asked.append(window)
        return Others(0, 0, 0, 0)

    explain(XNYS, Trading(AROUND, withheld=hours, daily=False).book(), np.array([ROW - 1, ROW]), market=nobody)
    assert len(asked) == 8


def test_what_was_found_out_before_counts() -> None:
    lost = Trading(AROUND, withheld=[LUNCH])
    half = Window(LUNCH.start, LUNCH.start + 15 * MINUTE)
    assert judged(lost, known=Known(accepted=[half])).counts == {"accepted": 15, "outage": 15}
    assert judged(lost, known=Known(agreed=[LUNCH])).counts == {"no_trade": 30}
    quiet = Trading(AROUND, silent=[LUNCH])
    refused = Window(LUNCH.start, LUNCH.start + MINUTE)
    verdict = judged(quiet, known=Known(refused=[refused]))
    assert gaps(verdict) == [(refused, 1, "missing")]
    assert by(verdict) == "refused row"
    whole = span(DAY, (0, 0), (23, 0))
    assert judged(Trading(AROUND, silent=[whole]), known=Known(agreed=[whole])).counts == {"missing": 390}
    assert judged(Trading(AROUND, silent=[whole]), known=Known(accepted=[whole])).counts == {"accepted": 390}


def test_sessions_that_lack_nothing_get_no_verdict() -> None:
    trading = Trading(AROUND, withheld=[LUNCH])
    assert [v.row for v in explain(XNYS, trading.book(), AROUND)] == [ROW]
    assert explain(XNYS, Trading(AROUND).book(), AROUND) == []


def test_a_half_day_ends_at_one_and_its_minutes_are_judged_by_full_days() -> None:
    day = date(2024, 11, 29)
    rows = rows_around(XNYS, day, 10, 10)
    row = int(rows[10])
    for p, lost in ((LIQUID, span(day, (12, 40), (13, 0))), (1.0, span(day, (9, 30), (9, 31)))):
        verdict = judged(Trading(rows, p, withheld=[lost]), row)
        assert (lost, (lost.end - lost.start) // MINUTE, "outage") in gaps(verdict)
    whole = judged(Trading(rows, withheld=[span(day, (0, 0), (20, 0))]), row)
    assert gaps(whole) == [(span(day, (9, 30), (13, 0)), 210, "missing")]


def test_the_week_in_which_the_clocks_change_keeps_its_wall_clock_habits() -> None:
    """Open at 9:30 New York before and after: a symbol silent from 12 to 13 by the wall clock stays explained."""
    p = np.ones(390)
    p[150:210] = 0.05
    monday = date(2024, 3, 11)
    rows = rows_around(XNYS, monday, 10, 4)
    verdict = judged(Trading(rows, p, daily=False, withheld=[span(monday, (13, 0), (13, 30))]), int(rows[10]))
    assert gaps(verdict)[0][0].end == ny(monday, 13, 30)
    assert gaps(verdict)[0][0].start <= ny(monday, 13)
    (friday,) = explain(XNYS, Trading(rows, p, daily=False).book(), rows[9:10])
    assert set(friday.counts) == {"no_trade"}
    assert to_micros(datetime(2024, 3, 11, 13, 30, tzinfo=UTC)) == XNYS.open[rows[10]]


def test_a_market_without_a_night_is_judged_the_same() -> None:
    always = load_sessions("24/7", date(2025, 12, 31))
    sunday = date(2024, 3, 10)
    rows = rows_around(always, sunday, 10, 10)
    hour = Window(to_micros(datetime(2024, 3, 10, 2, tzinfo=UTC)), to_micros(datetime(2024, 3, 10, 3, tzinfo=UTC)))
    verdict = judged(Trading(rows, LIQUID, always, withheld=[hour]), int(rows[10]))
    assert (hour, 60, "outage") in gaps(verdict)
    assert set(judged(Trading(rows, 0.3, always, daily=False), int(rows[10])).counts) == {"no_trade"}


def test_a_lunch_break_is_no_end_of_a_run() -> None:
    hong_kong = load_sessions("XHKG", date(2025, 12, 31))
    rows = rows_around(hong_kong, date(2024, 5, 16), 10)
    row = int(rows[10])
    around_lunch = Window(int(hong_kong.break_start[row]) - 10 * MINUTE, int(hong_kong.break_end[row]) + 5 * MINUTE)
    verdict = judged(Trading(rows, sessions=hong_kong, withheld=[around_lunch]), row)
    assert gaps(verdict) == [(around_lunch, 15, "outage")]
