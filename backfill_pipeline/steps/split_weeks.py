"""Weeks with an ex-date inside. The stored bar is built from unadjusted days, so its high, low and volume mix two share
bases; features need it on one, that of the week's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.adjust import Split, apply_factors, basis_sessions, split_factors
from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.resample import weeks
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.storage.bars import read_bars
from backfill_pipeline.storage.rows import Key


def split_mondays(splits: Sequence[Split]) -> list[date]:
    """The Mondays of the weeks that have an ex-date after their Monday, ascending."""
    return sorted({s.ex_date - timedelta(days=s.ex_date.weekday()) for s in splits if s.ex_date.weekday() > 0})


def on_one_basis(conn: Connection, symbol_id: int, weekly: Bars, sessions: Sessions, splits: Sequence[Split]) -> Bars:
    """`weekly` (ascending, as stored), those over an ex-date built anew from days on the basis of the week's end."""
    columns = {name: getattr(weekly, name).copy() for name in ("open", "high", "low", "close", "volume", "vwap")}
    for monday in split_mondays(splits):
        sunday = monday + timedelta(days=6)
        window = sessions.days_window(monday, sunday)
        place = int(np.searchsorted(weekly.ts, window.start))
        if place == len(weekly) or weekly.ts[place] != window.start:
            continue
        days = read_bars(conn, Key(symbol_id, "1d", window))
        factors = split_factors(basis_sessions(days.ts, sessions, "1d"), splits, as_of=sunday)
        made = weeks(Bars(**apply_factors(vars(days), factors)), sessions, np.ones(len(sessions), dtype=bool))
        if len(made):
            for name, values in columns.items():
                values[place] = getattr(made, name)[0]
    return replace(weekly, **columns)
