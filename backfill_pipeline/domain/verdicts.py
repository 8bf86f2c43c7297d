"""Why regular minutes of a session are absent, with the evidence. Pure; what is usual for a symbol is in habits.py.

Volume speaks first: where the stored minutes hold what they usually hold of the day's, nothing traded in the absent
ones. Where they do not, or cannot tell, habit decides which of the absent runs are gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .absence import ACCEPTED, AGREED, IN_HALT, REFUSED, UNKNOWN, Known, Runs, absent_runs
from .bars import Float
from .habits import EXACT, FEWEST, Book, Ratios, Rows, Witnesses, volume_ratios
from .sessions import Sessions
from .windows import Window

GapVerdict = Literal["missing", "outage"]
Explanation = Literal["no_trade", "halt", "accepted"]
Verdict = GapVerdict | Explanation
Evidence = dict[str, object]

# A run of absent minutes that is less likely than this (log10) did not come about by itself.
_UNLIKELY = -6.0
# Lost runs are looked for twice: once the long ones are known, shorter ones show.
_PASSES = 2
# The shortest run that a market shares, and of how many symbols a market is made at least.
SHARED_MINUTES = 5
_FEWEST_OTHERS = 5
# Unlikely runs of one session for which other symbols are looked at, the first ones: each costs a query.
_MOST_ASKED = 4

_SETTLED: Mapping[int, tuple[Verdict, str]] = {
    IN_HALT: ("halt", "list"),
    AGREED: ("no_trade", "two answers"),
    REFUSED: ("missing", "refused row"),
    ACCEPTED: ("accepted", "person"),
}


@dataclass(frozen=True)
class Gap:
    """One run of absent bars that nothing explains: `expected` bars in `window`, of which `found` are there."""

    window: Window
    expected: int
    verdict: GapVerdict
    evidence: Evidence = field(compare=False)
    found: int = 0


@dataclass(frozen=True)
class SessionVerdict:
    """`counts`: absent minutes by verdict. `gaps`: the runs that are `missing` or `outage`, ascending. `explained`: the
    others. `evidence`: what the volume and the habit were judged by.
    """

    row: int
    counts: Mapping[Verdict, int]
    gaps: tuple[Gap, ...]
    explained: tuple[tuple[Window, Verdict], ...]
    evidence: Evidence


@dataclass(frozen=True)
class Others:
    """Other symbols of the calendar in some minutes: how many `usually` trade through them, how many of those `lack`
    them, and of how many of these the day's volume says that they traded (`short`) or that they did not (`whole`).
    """

    usually: int
    lack: int
    short: int
    whole: int

    @property
    def shared(self) -> bool:
        return self.usually >= _FEWEST_OTHERS and 2 * self.lack > self.usually

    @property
    def lost(self) -> bool:
        return self.shared and 2 * self.short > self.lack

    @property
    def quiet(self) -> bool:
        return self.shared and 2 * self.whole > self.lack


@dataclass(frozen=True)
class _Session:
    """What a session is judged by. `volume`: the day's word, one of

    whole: nothing is lacking; short: some is; surplus: the minutes have more than the day, which is no witness then;
    unclear: too few minutes are absent to be seen in it; none: there is no daily bar.
    """

    row: int
    answered: bool
    empty: bool
    volume: Literal["whole", "short", "surplus", "unclear", "none"]
    sessions: int
    evidence: Evidence


def explain(
    sessions: Sessions,
    book: Book,
    rows: Rows,
    known: Known | None = None,
    market: Callable[[Window], Others] | None = None,
) -> list[SessionVerdict]:
    """Verdicts on those of the sessions `rows` of the book that lack a minute.

    `market`: what other symbols did in a window; asked about a few unlikely runs. Without it nothing is shared.
    """
    lines = np.searchsorted(book.rows, rows)
    lines = lines[book.absent[lines].any(axis=1)]
    if not len(lines):
        return []
    ratios = volume_ratios(book)
    witnesses = _witnesses(sessions, book, lines, ratios)
    runs = absent_runs(sessions, book, lines, known or Known())
    usual = witnesses.usual_shares()
    absent = (usual * book.absent[lines]).sum(axis=1)
    judged = [
        _session(book, line, share, count, ratios.ratio[line], ratios.median[line], ratios.tolerance[line])
        for line, share, count in zip(lines.tolist(), absent.tolist(), witnesses.count.tolist(), strict=True)
    ]
    return _collect(judged, runs, runs.sums(witnesses.log_silence()), runs.sums(usual), _Bounded(market))


def _witnesses(sessions: Sessions, book: Book, lines: Rows, ratios: Ratios) -> Witnesses:
    """A session that lacks volume is no witness of which minutes are silent, and a run that is unlikely by the others'
    habits was lost, not silent: without that, long gaps would excuse short ones nearby.
    """
    eligible = book.telling & ~(ratios.shortfall > ratios.tolerance)
    cut = np.flatnonzero(book.telling & book.absent.any(axis=1))
    seen = book.expected.copy()
    if len(cut):
        runs = absent_runs(sessions, book, cut, Known())
        witnesses = Witnesses(book, cut, eligible, seen)
        for _ in range(_PASSES):
            lost = runs.sums(witnesses.log_silence()) < _UNLIKELY
            seen[cut] = book.expected[cut] & ~runs.mask(lost, seen[cut].shape)
    return Witnesses(book, lines, eligible, seen)


def _session(
    book: Book, line: int, absent: float, count: int, ratio: float, median: float, tolerance: float
) -> _Session:
    """`absent`: the share of the day that the absent minutes usually hold."""
    lack = 1 - ratio / median
    volume: Literal["whole", "short", "surplus", "unclear", "none"]
    if np.isnan(ratio):
        volume = "none"
    elif abs(lack) <= EXACT:
        volume = "whole"
    elif lack < -tolerance:
        volume = "surplus"
    elif absent < tolerance:
        volume = "unclear" if lack <= tolerance else "short"
    else:
        # Half way between nothing and all that the absent minutes usually hold.
        volume = "whole" if lack <= min(tolerance, absent / 2) else "short"
    evidence: Evidence = {"volume": volume, "sessions": count, "absent_share": _short(absent)}
    if volume != "none":
        evidence |= {"ratio": _short(ratio), "median": _short(median), "tolerance": _short(tolerance)}
    empty = not book.traded[line].any()
    return _Session(int(book.rows[line]), bool(book.answered[line]), empty, volume, count, evidence)


def _short(number: float) -> float:
    return float(f"{number:.6g}")


class _Bounded:
    """Asks about the first few windows of each session only."""

    def __init__(self, market: Callable[[Window], Others] | None) -> None:
        self._market = market
        self._asked: Counter[int] = Counter()

    def __call__(self, line: int, window: Window) -> Others | None:
        if self._market is None or self._asked[line] == _MOST_ASKED:
            return None
        self._asked[line] += 1
        return self._market(window)


def _collect(
    judged: list[_Session], runs: Runs, likelihood: Float, share: Float, market: _Bounded
) -> list[SessionVerdict]:
    counts: list[dict[Verdict, int]] = [{} for _ in judged]
    gaps: list[list[Gap]] = [[] for _ in judged]
    explained: list[list[tuple[Window, Verdict]]] = [[] for _ in judged]
    columns = (runs.line, runs.kind, runs.length, runs.start, runs.end, likelihood, share)
    for line, kind, minutes, start, end, log, part in zip(*(column.tolist() for column in columns), strict=True):
        session, window = judged[line], Window(start, end)
        verdict, by = _SETTLED[kind] if kind != UNKNOWN else _weigh(session, log)
        others = None
        open_to_others = (verdict, by) in (("no_trade", "volume"), ("missing", "habit"))
        if kind == UNKNOWN and log < _UNLIKELY and minutes >= SHARED_MINUTES and open_to_others:
            others = market(line, window)
            verdict, by = _with_others(verdict, by, others)
        counts[line][verdict] = counts[line].get(verdict, 0) + minutes
        if verdict == "missing" or verdict == "outage":
            evidence = session.evidence | {"by": by, "log10_habit": _short(log), "share": _short(part)}
            if others is not None:
                evidence["others"] = dict(vars(others))
            gaps[line].append(Gap(window, minutes, verdict, evidence))
        else:
            explained[line].append((window, verdict))
    return [
        SessionVerdict(session.row, counts[i], tuple(gaps[i]), tuple(explained[i]), session.evidence)
        for i, session in enumerate(judged)
    ]


def _weigh(session: _Session, log: float) -> tuple[Verdict, str]:
    """The verdict on a run, and which evidence spoke. `log`: log10 of how likely all of it is silent."""
    if session.empty:
        return "missing", "whole session"
    if not session.answered:
        return "missing", "unanswered"
    if session.volume == "whole":
        return "no_trade", "volume"
    short = session.volume == "short"
    if session.sessions < FEWEST:
        return ("outage", "volume") if short else ("missing", "too few sessions")
    if log >= _UNLIKELY:
        return "no_trade", "habit"
    return ("outage", "volume") if short else ("missing", "habit")


def _with_others(verdict: Verdict, by: str, others: Others | None) -> tuple[Verdict, str]:
    if others is None:
        return verdict, by
    if verdict == "missing" and others.lost:
        return "outage", "other symbols"
    if verdict == "missing" and others.quiet:
        return "halt", "other symbols"
    if verdict == "no_trade" and others.shared and not others.lost:
        return "halt", "other symbols"
    return verdict, by
