"""Why bars are absent: counts of sessions explained as far as the evidence goes, and a gap for every run of the rest.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.bars import Micros
from backfill_pipeline.domain.completeness import SessionStatus, open_minutes
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.verdicts import Evidence, Gap, SessionVerdict, explain
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.bars import StoredBars, read_bars
from backfill_pipeline.storage.coverage import answered_windows
from backfill_pipeline.storage.gaps import AGREED, StoredGap, open_gaps, replace_gaps
from backfill_pipeline.storage.rows import Key
from backfill_pipeline.storage.status import read_status, write_status

from .evidence import Market, counted, gather, known_of
from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# Two complete answers so far apart that lack the same minutes, of which the day's volume has nothing: no trade.
_APART = timedelta(days=7)
_DOUBTFUL = ("habit", "too few sessions")


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
    judge = _judge_minutes if base == "1m" else _judge_days
    verdicts = judge(warehouse, subject, rows, statuses, stored, answered, now, hull)
    if asked:
        verdicts = [_agreed(verdict, before, now) for verdict in verdicts]
    present = stored.bars.ts[stored.segment == REGULAR]

    def resolution(window: Window) -> str:
        explained = [word for verdict in verdicts for other, word in verdict.explained if _meet(window, other)]
        low, high = np.searchsorted(present, [window.start, window.end])
        if any(gap.window == window and gap.found < high - low for gap in before) or (high > low and not explained):
            return "filled"
        if explained:
            return AGREED if window in {w for v in verdicts for w in v.agreed} else f"explained {explained[0]}"
        met = any(_meet(window, gap.window) for verdict in verdicts for gap in verdict.gaps)
        return "part of another gap" if met else "not expected"

    found = [gap for verdict in verdicts for gap in verdict.gaps]
    replace_gaps(warehouse.conn, symbol_id, base, before, found, resolution, now, asked=asked)
    of_row = {verdict.row: verdict for verdict in verdicts}
    return [_explained(status, of_row.get(row)) for row, status in zip(rows.tolist(), statuses, strict=True)]
