"""Which sessions to ask for together, so that as few requests as possible bring them. Pure; nothing is asked here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .sessions import Sessions
from .timeframe import Base
from .windows import MINUTE

Rows = npt.NDArray[np.int64]

# Sessions differ: a page is planned for a tenth more bars than a symbol's sessions were seen to hold.
_RESERVE = 1.1


def rows_per_session(sessions: Sessions, timeframe: Base, seen: float | None = None) -> float:
    """Bars that a session is planned with: at most all its trading minutes, less where fewer were `seen`."""
    if timeframe == "1d":
        return 1.0
    parts = sessions.parts
    most = float(np.bincount(parts.row, parts.end - parts.start).max()) / MINUTE
    return most if seen is None else max(1.0, min(most, _RESERVE * seen))


def spans(rows: Rows, per_session: float, page: int) -> list[Rows]:
    """`rows` (ascending places of sessions) cut into requests of at most `page` bars, the newest sessions first.

    A request spans everything between its first and last session, so holes between them count as asked.
    """
    length = max(1, int(page // per_session))
    found: list[Rows] = []
    stop = len(rows)
    while stop:
        start = int(np.searchsorted(rows, rows[stop - 1] - length + 1))
        found.append(rows[start:stop])
        stop = start
    return found


def days_for_the_market(needs: Sequence[Rows], requests: Sequence[int]) -> Rows:
    """The sessions to ask the whole market for, so that requests are fewest in all; the rest goes symbol by symbol.

    `needs`: by symbol, the sessions it lacks; `requests`: by symbol, what it costs to ask for it alone (at least 1). A
    symbol whose sessions are all among the market's is done with them. Symbols that need few sessions are tried first.
    """
    order = sorted((i for i in range(len(needs)) if len(needs[i])), key=lambda i: len(needs[i]))
    alone = sum(requests[i] for i in order)
    days: set[int] = set()
    best, chosen = alone, 0
    for taken, i in enumerate(order, start=1):
        days.update(needs[i].tolist())
        alone -= requests[i]
        if len(days) + alone < best:
            best, chosen = len(days) + alone, taken
    if not chosen:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.concatenate([needs[i] for i in order[:chosen]]))
