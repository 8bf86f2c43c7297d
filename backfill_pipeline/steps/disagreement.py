"""Where one provider's bars replace another's, as history replaces today's: do the two tell the same story?"""

from __future__ import annotations

import logging

from backfill_pipeline.storage.revisions import disagreements
from backfill_pipeline.storage.rows import Key

from .ingest import Ingested, Note
from .warehouse import Subject, Warehouse

logger = logging.getLogger(__name__)

# A session is told of when so large a share of its regular bars has a close that differs by more than the first,
_CLOSE, _BARS = 0.001, 0.01
# or any by more than this, or its volume (odd lots, late trades) by more than this.
_ANY_CLOSE = 0.02
_VOLUME = 0.05


def disagreement_notes(warehouse: Warehouse, subject: Subject, one: Ingested) -> list[Note]:
    """A line for each session of a stored answer whose bars were another provider's and differ beyond the tolerance, to
    be called in the same transaction; logged. The new bars count, the old ones are in bar_revisions.
    """
    if not one.changes.changed:
        return []
    base, fetched, notes = subject.chain.base, one.fetched, list[Note]()
    key = Key(subject.instrument.symbol_id, base, fetched.window)
    rows = {subject.sessions.session[row].astype(object): row for row in fetched.rows.tolist()}
    for d in disagreements(warehouse.conn, key, fetched.provider, fetched.fetched_at, _CLOSE):
        if d.off / d.bars > _BARS or d.close > _ANY_CLOSE or d.volume > _VOLUME:
            line = (
                f"{subject.instrument.symbol} {base} {d.session}: {d.before} and {fetched.provider} disagree: close by"
                f" up to {100 * d.close:.2g} % in {d.off} of {d.bars} {'minutes' if base == '1m' else 'bars'},"
                f" volume by {100 * d.volume:.2g} %"
            )
            logger.warning(line)
            notes.append((rows[d.session], rows[d.session], line))
    return notes
