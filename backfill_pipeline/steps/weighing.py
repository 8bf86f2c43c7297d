"""Whose bars a session keeps where two providers have answered about it: those of the one that has more of them.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from backfill_pipeline.domain.completeness import is_covered
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.evidence import settled_windows
from backfill_pipeline.storage.gaps import open_gaps
from backfill_pipeline.storage.revisions import regular_bars
from backfill_pipeline.storage.rows import Key
from backfill_pipeline.storage.status import held_by_others

from .fetching import Answers, Fetched, pieces
from .ingest import record_answer
from .look_again import look_again
from .warehouse import Subject, Warehouse


def weigh(warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched]) -> tuple[list[Fetched], list[date]]:
    """What of the answers is to be stored. Sessions of which another provider's settled bars are as good or better
    stay as they are, and count as asked for; those of them whose status changed by that are returned, too.
    """
    taken: list[Fetched] = []
    changed: list[date] = []
    for fetched in answers:
        kept = fetched.rows[:0] if fetched.by_hand else _outweighed(warehouse, subject, fetched)
        if not len(kept):
            taken.append(fetched)
            continue
        for piece in pieces(subject, fetched, kept):
            changed += look_again(warehouse, subject, piece.rows, asked=True)
            record_answer(warehouse, subject, piece)
        taken += pieces(subject, fetched, np.setdiff1d(fetched.rows, kept))
    return taken, changed


def poorly_answered(warehouse: Warehouse, answers: Answers) -> Rows:
    """The due sessions of a stored unit, whole in its answer, of which another provider may have more: nothing came, or
    what came leaves a gap that was known before, or the stored bars are another's.
    """
    unit, now = answers.unit, warehouse.now()
    subject, name = unit.subject, unit.provider.name
    conn, base, symbol_id, sessions = warehouse.conn, subject.chain.base, subject.instrument.symbol_id, subject.sessions
    rows = unit.rows[subject.route.due_at()[unit.rows] <= to_micros(now)]
    rows = np.setdiff1d(rows, answers.unanswered(now))
    if not len(rows):
        return rows
    came = np.concatenate([subject.rows_of(fetched.validated.bars.ts) for fetched in answers.fetched])
    first, last = sessions.session[rows[[0, -1]]].astype(object).tolist()
    others = held_by_others(conn, symbol_id, base, name, first, last)
    hull = Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))
    asked_at = min(fetched.fetched_at for fetched in answers.fetched)
    known = [g.window.start for g in open_gaps(conn, symbol_id, base, hull) if g.detected_at < asked_at]
    poor = ~np.isin(rows, came)
    poor |= np.isin(rows, sessions.row_of(np.array(known, dtype=np.int64)))
    poor |= np.isin(sessions.session[rows], np.array(list(others), dtype="datetime64[D]"))
    found: Rows = rows[poor]
    return found


def _outweighed(warehouse: Warehouse, subject: Subject, fetched: Fetched) -> Rows:
    """The answered sessions whose stored bars are to stay: of another provider, after its settle delay, and not fewer
    than the answer's; as many are enough only for the one that is preferred.
    """
    conn, base, symbol_id, sessions = warehouse.conn, subject.chain.base, subject.instrument.symbol_id, subject.sessions
    first, last = sessions.session[fetched.rows[[0, -1]]].astype(object).tolist()
    holders = held_by_others(conn, symbol_id, base, fetched.provider, first, last)
    rows = fetched.rows[np.isin(sessions.session[fetched.rows], np.array(list(holders), dtype="datetime64[D]"))]
    if not len(rows):
        return rows
    hull = Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))
    settled = settled_windows(conn, symbol_id, base, hull)
    rows = rows[is_covered(sessions, rows, settled, fetched.fetched_at)]
    rows = rows[is_covered(sessions, rows, fetched.answered, fetched.fetched_at)]
    stored = regular_bars(conn, Key(symbol_id, base, hull))
    counts = _regular(subject, fetched)
    rank = {provider.name: place for place, provider in enumerate(subject.route.providers)}
    mine = rank.get(fetched.provider, -1)

    def stays(row: int) -> bool:
        day = sessions.session[row].astype(object)
        # A name that is in the list no more is a file's, or one that was chosen once: bars somebody had reason to have.
        is_preferred = rank.get(holders[day], -1) < mine
        had, got = stored.get(day, 0), int(counts[row])
        return had >= got if is_preferred else had > got

    return np.array([row for row in rows.tolist() if stays(row)], dtype=np.int64)


def _regular(subject: Subject, fetched: Fetched) -> Rows:
    """Per session of the calendar, how many regular bars the answer has."""
    sessions, at = subject.sessions, fetched.validated.part
    if subject.chain.base == "1m":
        at = sessions.parts.row[at[sessions.parts.segment[at] == REGULAR]]
    return np.bincount(at, minlength=len(sessions))
