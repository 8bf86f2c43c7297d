"""Answers that would withdraw much of a final session are not believed about it. The caller holds the symbol's lock."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from backfill_pipeline.domain.validate import Refusal, as_row
from backfill_pipeline.storage.quarantine import WOULD_WITHDRAW, quarantine, set_aside
from backfill_pipeline.storage.revisions import final_bars, withdrawn_final
from backfill_pipeline.storage.rows import Key

from .fetching import Fetched, pieces, session_window
from .ingest import Ingested, Note, ingest
from .warehouse import Subject, Warehouse

logger = logging.getLogger(__name__)

# The share of a final session's bars that an answer may withdraw.
_MOST_WITHDRAWN = 0.02


def ingest_guarded(
    warehouse: Warehouse, subject: Subject, answers: Sequence[Fetched], notes: list[Note]
) -> Iterator[Ingested]:
    """Store answers, less what they say of final sessions that would lose more than 2 % of their bars.

    Such a session stays as it is, its status included, and counts as not answered, so it is asked for again. What the
    answer has of it goes to the quarantine, and a line to `notes` and the log.
    """
    conn, symbol_id, base = warehouse.conn, subject.instrument.symbol_id, subject.chain.base
    for fetched in answers:
        key = Key(symbol_id, base, fetched.window)
        # Storing it tells what it withdraws: to look first would cost every answer a read of its window.
        with conn.cursor() as cursor:
            cursor.execute("SAVEPOINT answer")
            one = ingest(warehouse, subject, fetched)
            gone = withdrawn_final(conn, key, fetched.fetched_at) if one.changes.withdrawn else {}
            if gone:
                cursor.execute("ROLLBACK TO SAVEPOINT answer")
            cursor.execute("RELEASE SAVEPOINT answer")
        if not gone:
            yield one
            continue
        stored = final_bars(conn, key, list(gone))
        refused = {day: count for day, count in gone.items() if count / stored[day] > _MOST_WITHDRAWN}
        days = np.array(sorted(refused), dtype="datetime64[D]")
        rows = np.searchsorted(subject.sessions.session, days).tolist()
        for row, day in zip(rows, sorted(refused), strict=True):
            reason = f"{WOULD_WITHDRAW} {refused[day]} of {stored[day]} bars of a final session"
            notes.append((row, row, _set_aside(warehouse, subject, fetched, row, reason)))
        if refused:
            quarantine(conn, symbol_id, base, fetched.provider, fetched.validated.refused, fetched.fetched_at)
        for piece in pieces(subject, fetched, np.setdiff1d(fetched.rows, rows)):
            yield ingest(warehouse, subject, piece)


def _set_aside(warehouse: Warehouse, subject: Subject, fetched: Fetched, row: int, reason: str) -> str:
    """Keep what the answer has of a session; the line that says so."""
    base, symbol_id, symbol = subject.chain.base, subject.instrument.symbol_id, subject.instrument.symbol
    window = session_window(subject, fetched, row, row)
    bars = fetched.validated.bars.between(window.start, window.end)
    rows = [Refusal(int(ts), as_row(bars, i), reason) for i, ts in enumerate(bars.ts.tolist())]
    set_aside(warehouse.conn, symbol_id, base, fetched.provider, window, rows, fetched.fetched_at)
    day, quoted = subject.sessions.session[row], symbol.replace("'", "''")
    line = (
        f"{symbol} {day} {base}: {fetched.provider} {reason}; they stay, and its rows are in the quarantine. To believe"
        f" it, run again after: SELECT reopen('{quoted}', '{base}', '{day}', '{day}')"
    )
    logger.warning(line)
    return line
