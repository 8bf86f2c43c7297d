"""Which wanted sessions are still to be asked for."""

from __future__ import annotations

from datetime import date

import numpy as np

from backfill_pipeline.domain.completeness import is_covered, is_listed
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.storage.closures import assumed_closed
from backfill_pipeline.storage.coverage import valid_coverage, wanted_rows
from backfill_pipeline.storage.gaps import due_gaps
from backfill_pipeline.storage.status import lacking_nothing

from .warehouse import Subject, Warehouse


def begun_rows(warehouse: Warehouse, subject: Subject, first: date = FIRST_DAY, last: date = date.max) -> Rows:
    """Wanted and servable sessions of [first, last] whose first segment opened before now, ascending places."""
    sessions = subject.sessions
    begun = int(np.searchsorted(sessions.pre_open, to_micros(warehouse.now())))  # at the very opening there is nothing
    rows = sessions.rows_between(first, last)
    rows = slice(rows.start, max(rows.start, min(rows.stop, begun)))
    return wanted_rows(warehouse.conn, subject.instrument, subject.chain.base, sessions, rows)


def expected_rows(warehouse: Warehouse, subject: Subject, begun: Rows) -> Rows:
    """Those of the sessions `begun` that the instrument was listed in and that are not taken as closed."""
    begun = begun[is_listed(subject.sessions, subject.instrument)[begun]]
    if not len(begun):
        return begun
    closed = np.array(assumed_closed(warehouse.conn, subject.instrument.calendar), dtype="datetime64[D]")
    return begun[~np.isin(subject.sessions.session[begun], closed)] if len(closed) else begun


def open_rows(warehouse: Warehouse, subject: Subject, begun: Rows, *, again: bool) -> Rows:
    """Those of the sessions `begun` to ask for: expected, and not covered by a still valid answer or with a gap whose
    next attempt has come. `again`: one known to lack bars, or never looked at, is open whatever the coverage says, for
    a run is somebody's decision to try again.
    """
    if not len(begun):
        return begun
    conn, symbol_id, base, sessions = warehouse.conn, subject.instrument.symbol_id, subject.chain.base, subject.sessions
    begun = expected_rows(warehouse, subject, begun)
    covered = valid_coverage(conn, symbol_id, base, warehouse.now())
    good = is_covered(sessions, begun, covered, warehouse.now())
    if again and good.any():
        days = sessions.session[begun]
        whole = lacking_nothing(conn, symbol_id, base, days[0].astype(object), days[-1].astype(object))
        good &= np.isin(days, np.array(whole, dtype="datetime64[D]"))
    elif good.any():
        gaps = np.array(due_gaps(conn, symbol_id, base, warehouse.now()), dtype=np.int64)
        good &= ~np.isin(begun, sessions.row_of(gaps))
    return begun[~good]
