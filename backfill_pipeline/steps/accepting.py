"""Gaps that a person accepts: their bars will not come, and the sessions are judged anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from backfill_pipeline.domain.completeness import SessionStatus
from backfill_pipeline.domain.timeframe import Base, chain_of
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.gaps import StoredGap, accept, acceptable, open_gaps
from backfill_pipeline.storage.status import read_status
from backfill_pipeline.storage.symbols import get_instruments

from .patient_lock import patient_lock
from .requests import RequestError
from .warehouse import Warehouse
from .window import Work, judge_again

# More are hardly typed on purpose.
_MOST = 10_000


@dataclass(frozen=True)
class Accepted:
    """What a session is after some of its gaps were accepted. `left`: those that are still open."""

    symbol: str
    timeframe: Base
    status: SessionStatus
    left: tuple[StoredGap, ...]


def parse_ids(texts: Sequence[str]) -> list[int]:
    """Gap ids, and ranges of them such as 17-20; each once, in order. Raises RequestError."""
    ids: dict[int, None] = {}
    for text in ",".join(texts).split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
        if found is None:
            raise RequestError(f"gap {text!r} is not known; write its number as backfill gaps shows it: 17, or 17-20")
        first = int(found[1])
        last = int(found[2] or first)
        if not first <= last < first + _MOST:
            raise RequestError(f"gaps {text} are not a range of at most {_MOST:,} numbers, the lower one first")
        ids |= dict.fromkeys(range(first, last + 1))
    return list(ids)


def accept_gaps(
    warehouse: Warehouse, gap_ids: Sequence[int], because: str, waiting: Callable[[str], None]
) -> Iterator[Accepted]:
    """Accept the gaps, symbol by symbol, and yield what their sessions are now. Raises GapError, before anything is
    accepted where a gap is unknown or closed already. `waiting`: told when a run is at a symbol.
    """
    conn, now = warehouse.conn, warehouse.now()
    with conn:
        gaps = sorted(acceptable(conn, gap_ids), key=_place)
    for (symbol, base), some in groupby(gaps, key=_place):
        mine = list(some)
        with conn:
            instrument = get_instruments(conn, [symbol])[symbol]
        chain = chain_of(base)
        with patient_lock(conn, instrument, chain, waiting):
            with conn:
                for gap in mine:
                    accept(conn, gap.gap_id, because, now)
            subject = warehouse.subject(instrument, chain)
            sessions = subject.sessions
            rows = np.unique(sessions.row_of(np.array([gap.window.start for gap in mine], dtype=np.int64)))
            rows = rows[rows >= 0]  # a day that was closed by hand since has nothing to judge
            judge_again(warehouse, subject, rows, Work())
        for row in rows.tolist():
            day = sessions.session[row].astype(object)
            window = Window(int(sessions.day_start[row]), int(sessions.day_end[row]))
            with conn:
                status = read_status(conn, instrument.symbol_id, base, day, day)[day]
                left = tuple(open_gaps(conn, instrument.symbol_id, base, window))
            yield Accepted(symbol, base, status, left)


def _place(gap: StoredGap) -> tuple[str, Base]:
    return gap.symbol, gap.timeframe
