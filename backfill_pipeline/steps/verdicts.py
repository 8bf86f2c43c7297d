"""Why bars are absent: counts of sessions explained as far as the evidence goes, and a gap for every run of the rest.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.bars import Micros
from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.verdicts import Gap, SessionVerdict, Verdict, explain
from backfill_pipeline.domain.windows import Window, intersect
from backfill_pipeline.storage.bars import StoredBars
from backfill_pipeline.storage.gaps import AGREED, StoredGap, open_gaps, replace_gaps

from .evidence import Market, gather, known_of
from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# Two complete answers so far apart that lack the same minutes, of which the day's volume has nothing: no trade.
_APART = timedelta(days=7)
_DOUBTFUL = ("habit", "too few sessions")
_EXPLAINED = {"no_trade", "halt", "accepted"}


def judge_absence(
    warehouse: Warehouse,
    subject: Subject,
    rows: Rows,
    statuses: Sequence[SessionStatus],
    stored: StoredBars,
    answered: Sequence[Window],
    now: datetime,
    *,
    asked: bool = True,
) -> list[SessionStatus]:
    """The statuses of the sessions `rows` (ascending) with what the evidence explains, and their gaps made to match.

    `stored`: the base bars of all segments that the statuses count, as they are stored or about to be. `answered`: what
    the newest answer vouches for. `asked`: there is one, and it counts as an attempt. Afterwards a session's open gaps
    expect as many bars more than they found as its status misses.
    """
    if not len(rows):
        return list(statuses)
    sessions, symbol_id, base = subject.sessions, subject.instrument.symbol_id, subject.chain.base
    hull = Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))
    before = _of_rows(subject, rows, open_gaps(warehouse.conn, symbol_id, base, hull))
    if not before and not any(status.missing for status in statuses):
        return list(statuses)
    lacking = rows[[status.missing > 0 for status in statuses]]
    verdicts: list[SessionVerdict] = []
    if len(lacking):
        known = known_of(warehouse, subject, hull)
        if base == "1m":
            book = gather(warehouse, subject, rows, statuses, stored, answered, now)
            verdicts = explain(sessions, book, lacking, known, Market(warehouse, subject))
        else:
            verdicts = _days(subject, lacking, known.accepted)
    agreed = _agreed(verdicts, before, now) if asked else set()
    by_row = {verdict.row: _believed(verdict, agreed) for verdict in verdicts}
    found = [gap for verdict in by_row.values() for gap in verdict.gaps]
    resolution = _Resolution(subject, by_row, agreed, stored.bars.ts[stored.segment == REGULAR])
    replace_gaps(warehouse.conn, symbol_id, base, before, found, resolution, now, asked=asked)
    return [_counted(status, by_row.get(row)) for row, status in zip(rows.tolist(), statuses, strict=True)]


def _of_rows(subject: Subject, rows: Rows, gaps: Sequence[StoredGap]) -> list[StoredGap]:
    """The gaps of those sessions."""
    if not gaps:
        return []
    at = subject.sessions.row_of(np.array([gap.window.start for gap in gaps], dtype=np.int64))
    return [gap for gap, mine in zip(gaps, np.isin(at, rows).tolist(), strict=True) if mine]


def _days(subject: Subject, rows: Rows, accepted: Sequence[Window]) -> list[SessionVerdict]:
    """An absent day of a listed symbol is missing, whatever the volume of its minutes."""
    verdicts = []
    spared = inside(subject.sessions.day_start[rows], accepted)
    for row, accept in zip(rows.tolist(), spared.tolist(), strict=True):
        window = Window(int(subject.sessions.day_start[row]), int(subject.sessions.day_end[row]))
        if accept:
            verdicts.append(SessionVerdict(row, {"accepted": 1}, (), ((window, "accepted"),), {}))
        else:
            gap = Gap(window, 1, "missing", {"by": "whole session"})
            verdicts.append(SessionVerdict(row, {"missing": 1}, (gap,), (), {}))
    return verdicts


def _agreed(verdicts: Sequence[SessionVerdict], before: Sequence[StoredGap], now: datetime) -> set[Window]:
    """Gaps that this answer has as one of a week ago had them, though the day's volume lacks nothing."""
    old = {gap.window for gap in before if now - gap.detected_at >= _APART}
    return {
        gap.window
        for verdict in verdicts
        for gap in verdict.gaps
        if gap.window in old and gap.evidence["by"] in _DOUBTFUL and gap.evidence["volume"] in ("whole", "unclear")
    }


def _believed(verdict: SessionVerdict, agreed: set[Window]) -> SessionVerdict:
    """With the agreed gaps as no trade."""
    mine = [gap for gap in verdict.gaps if gap.window in agreed]
    if not mine:
        return verdict
    counts: Counter[Verdict] = Counter(verdict.counts)
    for gap in mine:
        counts[gap.verdict] -= gap.expected
        counts["no_trade"] += gap.expected
    return replace(
        verdict,
        counts=+counts,
        gaps=tuple(gap for gap in verdict.gaps if gap.window not in agreed),
        explained=(*verdict.explained, *((gap.window, "no_trade") for gap in mine)),
    )


def _counted(status: SessionStatus, verdict: SessionVerdict | None) -> SessionStatus:
    if verdict is None:
        return status
    explained: dict[str, int] = {word: count for word, count in verdict.counts.items() if word in _EXPLAINED}
    missing = sum(verdict.counts.values()) - sum(explained.values())
    return replace(status, explained={**status.explained, **explained}, missing=missing)


class _Resolution:
    """What became of a gap that is not found again. `present`: regular bars that are stored, ascending."""

    def __init__(
        self, subject: Subject, verdicts: Mapping[int, SessionVerdict], agreed: set[Window], present: Micros
    ) -> None:
        self._sessions, self._verdicts, self._agreed, self._present = subject.sessions, verdicts, agreed, present

    def __call__(self, gap: StoredGap) -> str:
        if gap.window in self._agreed:
            return AGREED
        low, high = np.searchsorted(self._present, [gap.window.start, gap.window.end])
        if high - low > gap.found:
            return "filled"
        row = int(self._sessions.row_of(np.array([gap.window.start]))[0])
        verdict = self._verdicts.get(row)
        if verdict is None:
            return "not expected"
        words = [word for window, word in verdict.explained if intersect([window], [gap.window])]
        return f"explained {words[0]}" if words else "part of another gap"


def still_open(
    warehouse: Warehouse, subject: Subject, rows: Rows, statuses: Sequence[SessionStatus], open_ts: Micros
) -> Micros:
    """`open_ts` of the sessions `rows` (ascending, as open_minutes gives them) without the minutes that are explained.

    Of a session that is explained in part, the regular minutes that still may get a bar are those in its open gaps.
    """
    sessions = subject.sessions
    partly = rows[[bool(status.missing and _EXPLAINED & status.explained.keys()) for status in statuses]]
    if not len(partly) or not len(open_ts):
        return open_ts
    hull = Window(int(sessions.day_start[partly[0]]), int(sessions.day_end[partly[-1]]))
    gaps = open_gaps(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, hull)
    part = sessions.parts.locate(open_ts)
    judged = np.isin(sessions.parts.row[part], partly) & (sessions.parts.segment[part] == REGULAR)
    rest: Micros = open_ts[~judged | inside(open_ts, [gap.window for gap in gaps])]
    return rest


def next_attempts(warehouse: Warehouse, subject: Subject, rows: Rows) -> dict[int, datetime]:
    """By those of the consecutive sessions `rows` that have open gaps, when the first of these is to be asked for."""
    sessions = subject.sessions
    hull = Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))
    found: dict[int, datetime] = {}
    for gap in open_gaps(warehouse.conn, subject.instrument.symbol_id, subject.chain.base, hull):
        row = int(sessions.row_of(np.array([gap.window.start]))[0])
        found[row] = min(gap.next_attempt_at, found.get(row, gap.next_attempt_at))
    return found
