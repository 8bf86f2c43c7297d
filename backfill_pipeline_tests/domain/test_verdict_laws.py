"""Gaps are what was withheld, no more and no less: seeded cases, and how long they take."""

from __future__ import annotations

import time
from dataclasses import fields
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest

from backfill_pipeline.domain.habits import NEAREST, REACH, Book, Witnesses
from backfill_pipeline.domain.verdicts import explain
from backfill_pipeline.domain.windows import MINUTE, Window, union
from backfill_pipeline_tests.domain.books import XNYS, Trading, rows_around

ROWS = rows_around(XNYS, date(2024, 5, 15), 19, 20)
CASES = range(10)
# Cases of one seed: each of these sessions is one.
OWN = ROWS[5:35]


def _withheld(random: np.random.Generator, rows: npt.NDArray[np.int64]) -> list[Window]:
    """In some of the sessions, one to three runs of regular minutes, some of one minute, some of all of them."""
    windows = []
    for row in rows.tolist():
        if random.random() < 0.5:
            continue
        for _ in range(random.integers(1, 4)):
            length = int(random.choice([1, 2, 5, 30, 120, 390]))
            first = int(random.integers(0, 391 - length))
            start = int(XNYS.open[row]) + first * MINUTE
            windows.append(Window(start, start + length * MINUTE))
    return windows


def _found(trading: Trading, rows: npt.NDArray[np.int64]) -> list[Window]:
    return [gap.window for verdict in explain(XNYS, trading.book(), rows) for gap in verdict.gaps]


@pytest.mark.parametrize("seed", CASES)
def test_of_a_symbol_that_trades_every_minute_the_gaps_are_exactly_what_was_withheld(seed: int) -> None:
    """100 sessions for each seed, half of them cut; auctions make the day larger than its minutes."""
    random = np.random.default_rng(seed)
    rows = rows_around(XNYS, date(2024, 5, 15), 99)
    withheld = _withheld(random, rows)
    assert _found(Trading(rows, seed=seed, withheld=withheld, auction=seed / 50), rows) == union(withheld)


@pytest.mark.parametrize("seed", CASES)
def test_without_a_daily_bar_they_are_too_but_for_single_minutes_where_much_is_lost(seed: int) -> None:
    """A third of 40 sessions cut. Three lost minutes in 20 sessions cannot be told from three silent ones."""
    random = np.random.default_rng(seed)
    withheld = [window for row in ROWS[::3] for window in _withheld(random, np.array([row]))]
    found = _found(Trading(ROWS, seed=seed, withheld=withheld, daily=False), ROWS)
    lost = union(withheld)
    assert set(found) <= set(lost)
    assert {window for window in lost if window.end - window.start > MINUTE} <= set(found)


@pytest.mark.parametrize("seed", CASES)
def test_without_a_daily_bar_they_are_all_where_one_session_is_cut(seed: int) -> None:
    withheld = []
    while not withheld:
        withheld = _withheld(np.random.default_rng(seed), ROWS[20:21])
        seed += 100
    assert _found(Trading(ROWS, seed=seed, withheld=withheld, daily=False), ROWS) == union(withheld)


def _chances(random: np.random.Generator, seed: int) -> npt.NDArray[np.float64] | float:
    """Chances of each minute to trade: even ones of any size, busy opens and closes, and any number for any minute."""
    if seed % 3 == 0:
        return float(random.choice([0.02, 0.12, 0.5, 0.9, 0.97, 0.99, 0.995, 0.999]))
    if seed % 3 == 1:
        busy = np.abs(np.linspace(-1, 1, 390)) ** 3
        low = random.uniform(0.05, 0.9)
        return np.asarray(low + (random.uniform(0.9, 1) - low) * busy)
    return random.uniform(0, 1, 390)


@pytest.mark.parametrize("daily", [True, False])
def test_nothing_is_missing_of_a_symbol_that_was_just_silent(daily: bool) -> None:
    """1,020 sessions, with days whose volume is off its minutes by nothing, 0.3 % or 3 %."""
    false = []
    for seed in range(34):
        random = np.random.default_rng(seed)
        noise = (0.0, 0.003, 0.03)[seed // 3 % 3]
        trading = Trading(ROWS, _chances(random, seed), seed=seed, daily=daily, noise=noise)
        false += [(seed, window) for window in _found(trading, OWN)]
    assert false == []


@pytest.mark.parametrize("draws", [1, 2, 3])
@pytest.mark.parametrize("p", [1.0, 0.97, 0.6, 48 / 390])
def test_a_verdict_rests_on_the_sessions_within_reach_whatever_is_looked_at_together(p: float, draws: int) -> None:
    """240 sessions, 50, 75 or 88 % of them cut, at once and one by one: else the order of runs would show."""
    rows = rows_around(XNYS, date(2024, 5, 15), 119, 120)
    random = np.random.default_rng(draws)
    withheld = [window for _ in range(draws) for window in _withheld(random, rows)]
    book = Trading(rows, p, withheld=withheld, noise=0.003, auction=0.1).book()
    together = {verdict.row: verdict for verdict in explain(XNYS, book, rows)}
    found = 0
    for line in range(100, 140, 3):
        near = slice(line - REACH, line + REACH + 1)
        columns = {one.name: getattr(book, one.name) for one in fields(Book)}
        part = Book(**{name: column if name == "minute" else column[near] for name, column in columns.items()})
        for verdict in explain(XNYS, part, rows[line : line + 1]):
            found += 1
            assert (verdict.counts, verdict.gaps) == (together[verdict.row].counts, together[verdict.row].gaps)
    assert found > 3


@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_an_hour_withheld_from_a_symbol_with_silent_minutes_is_found(p: float) -> None:
    """With the absent minutes that happen to touch it, and no other."""
    start = int(XNYS.open[OWN[15]]) + 90 * MINUTE
    hour = Window(start, start + 60 * MINUTE)
    for daily in (True, False):
        (gap,) = _found(Trading(ROWS, p, withheld=[hour], daily=daily), OWN)
        assert gap.start <= hour.start < hour.end <= gap.end


def test_habits_are_counted_as_a_loop_counts_them() -> None:
    book = Trading(ROWS, 0.7).book()
    eligible = np.arange(len(ROWS)) % 5 != 2
    lines = np.array([0, 3, 12, 20, 39])
    witnesses = Witnesses(book, lines, eligible, book.expected)
    silence, shares = 10 ** witnesses.log_silence(), witnesses.usual_shares()
    for i, line in enumerate(lines.tolist()):
        others = [j for j in np.flatnonzero(eligible).tolist() if 0 < abs(j - line) <= NEAREST]
        chosen = sorted(others, key=lambda j: (abs(j - line), j))[:NEAREST]
        assert witnesses.count[i] == len(chosen) >= 16
        for minute in (0, 29, 200, 389):
            own = sum(not book.traded[j, minute] for j in chosen) / len(chosen)
            near = range(max(0, minute - 30), min(390, minute + 31))
            silent = sum(not book.traded[j, m] for j in chosen for m in near)
            assert silence[i, minute] == pytest.approx(max(own, (silent + 0.5) / (len(chosen) * len(near) + 1)))
            held = [book.volume[j, minute] / book.total[j] for j in chosen if book.traded[j, minute]]
            assert shares[i, minute] == pytest.approx(sum(held) / len(chosen))


def test_a_hundred_sessions_take_no_time() -> None:
    """Under 50 ms (about 15 here) for the worst of them, 342 silent minutes each; the best of three."""
    rows = rows_around(XNYS, date(2024, 5, 15), 139)
    book = Trading(rows, 48 / 390).book()
    whole = Trading(rows).book()
    took, idle = [], []
    for _ in range(3):
        start = time.process_time()
        assert len(explain(XNYS, book, rows[20:120])) == 100
        took.append(time.process_time() - start)
        start = time.process_time()
        assert explain(XNYS, whole, rows[20:120]) == []
        idle.append(time.process_time() - start)
    assert min(took) < 0.05
    assert min(idle) < 0.002
