"""An answer in adjusted prices is not stored: it would pass every other test. The caller holds the symbol's lock."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from backfill_pipeline.domain.adjust import Split
from backfill_pipeline.domain.basis import basis_mismatch
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.closes import daily_closes
from backfill_pipeline.storage.events import read_splits
from backfill_pipeline.storage.frames import closes_before

from .fetching import Fetched
from .ingest import Note
from .warehouse import Subject, Warehouse

logger = logging.getLogger(__name__)

# Sessions before an answer in which its last known close is looked for.
_BACK = 5


def adjusted(warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched]) -> list[Note]:
    """Why nothing of the answers, which came together, may be stored; empty: they are in the basis of their own days.

    One session on another basis refuses all of them. In the open transaction; logged.
    """
    splits = read_splits(warehouse.conn, subject.instrument.symbol_id)
    for fetched in answers:
        found = mismatch(warehouse, subject, fetched, splits)
        if found is not None:
            line = (
                f"{subject.instrument.symbol} {subject.chain.base}: {found}; nothing of this answer of"
                f" {fetched.provider} is stored, and it is asked for again. Where the known price is the adjusted one,"
                " delete that session's bars first"
            )
            logger.warning(line)
            return [(int(one.rows[0]), int(one.rows[-1]), line) for one in answers]
    return []


def mismatch(warehouse: Warehouse, subject: Subject, fetched: Fetched, splits: Sequence[Split]) -> str | None:
    """None, or why the answer is not in the basis of its own days; in the open transaction."""
    sessions, symbol_id = subject.sessions, subject.instrument.symbol_id
    bars, row = fetched.validated.bars, fetched.validated.part
    if subject.chain.base == "1m":
        place = np.flatnonzero(sessions.parts.segment[row] == REGULAR)
        row = sessions.parts.row[row]
    else:
        place = np.arange(len(bars))
    first = int(fetched.rows[0])
    day = sessions.session[first].astype(object)
    before = None
    if any(split.ex_date > day for split in splits):
        start, end = sessions.day_start[max(0, first - _BACK)], sessions.day_start[first]
        nights = [(day, Window(int(start), int(end)))] if first else []
        before = closes_before(warehouse.conn, symbol_id, nights).get(day)
    elif len(place):
        # Steps tell of later splits only. Closes are enough: 50,000 minutes would take 5 ms.
        place = place[np.append(row[place[1:]] != row[place[:-1]], True)]
    known = daily_closes(warehouse.conn, symbol_id, fetched.window)
    return basis_mismatch(bars.take(place), sessions.session[row[place]], known, before, splits)
