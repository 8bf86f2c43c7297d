"""Runs of Polygon's provider against the stand-in, and what must be true of the tables after any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np

from backfill_pipeline.domain.bars import Bars, make_bars
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline_tests.providers.polygons import COLUMNS, same
from backfill_pipeline_tests.standin import Market
from backfill_pipeline_tests.steps.warehouses import Clock, query


@dataclass
class Told:
    """What a person sees of a run: the outcomes of partitions, and the error that ended it."""

    outcomes: list[PartitionOutcome] = field(default_factory=list)
    error: ProviderError | None = None

    @property
    def states(self) -> set[str]:
        return {outcome.state for outcome in self.outcomes}

    @property
    def lines(self) -> list[str]:
        """Each once."""
        said = [outcome.message for outcome in self.outcomes if outcome.message]
        return list(dict.fromkeys(said if self.error is None else [*said, str(self.error)]))


def run(warehouse: Warehouse, provider: Provider, tasks: Sequence[Task], now: datetime) -> Told:
    """A run of `tasks` by `provider` at `now`."""
    told = Told()
    try:
        for _, outcome in run_tasks(Warehouse(warehouse.conn, Router([provider]), Clock(now)), tasks, Work()):
            told.outcomes.append(outcome)
    except ProviderError as error:
        told.error = error
    return told


def untrue(warehouse: Warehouse, market: Market) -> list[str]:
    """What the tables claim against the market's truth; empty where every bar and every claim of coverage is right.

    A stored base bar is the market's, to the last digit. A session that is answered for ever has all of the market's
    bars; one that is to be asked again may lack what was refused, and where `session_status` counts any as missing,
    more. Of one that is not answered, no bar is final.
    """
    found = []
    for symbol, base, day, answered, for_ever, missing, refused in query(warehouse, _SESSIONS):
        stored, final = _stored(warehouse, symbol, base, day)
        right = _right(market, str(symbol), str(base), day)
        place = np.searchsorted(right.ts, stored.ts)
        lacking = len(right) - len(stored)
        if (place == len(right)).any() or not same(right.take(place), stored):
            found.append(f"{symbol} {base} {day}: bars that the market never had")
        elif answered and lacking and (for_ever or not (missing or lacking <= refused)):  # type: ignore[operator]  # a count
            found.append(f"{symbol} {base} {day}: answered, and {lacking} bars are absent without a word")
        elif not answered and final.any():
            found.append(f"{symbol} {base} {day}: not answered, and {final.sum()} bars are final")
    return found


# Wanted sessions: whether they are answered, and for ever; how many bars are known to be missing, and were refused.
_SESSIONS = """
WITH answer AS (
    SELECT symbol_id, timeframe, range_agg(time_window) AS ever,
           range_agg(time_window) FILTER (WHERE valid_until = 'infinity') AS for_ever
    FROM coverage WHERE settled GROUP BY 1, 2
)
SELECT y.symbol, w.timeframe::text, x.session,
       coalesce(a.ever @> tstzrange(x.day_start, x.post_close), false),
       coalesce(a.for_ever @> tstzrange(x.day_start, x.post_close), false),
       coalesce(s.missing, 0),
       (SELECT count(*) FROM quarantine AS q WHERE (q.symbol_id, q.timeframe) = (w.symbol_id, w.timeframe)
        AND q.ts >= x.day_start AND q.ts < x.day_end)
FROM wanted AS w JOIN symbols AS y USING (symbol_id)
JOIN sessions AS x ON x.calendar = y.calendar AND w.time_window @> x.day_start
LEFT JOIN answer AS a USING (symbol_id, timeframe)
LEFT JOIN session_status AS s ON (s.symbol_id, s.timeframe, s.session) = (w.symbol_id, w.timeframe, x.session)
"""

_BARS = """
SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, coalesce(vwap, 'NaN'),
       coalesce(trades, -1), final
FROM bars JOIN symbols USING (symbol_id) WHERE symbol = %s AND timeframe = %s AND session = %s ORDER BY ts
"""


def _stored(warehouse: Warehouse, symbol: object, base: object, day: object) -> tuple[Bars, Any]:
    """The base bars of a session, and which of them are final."""
    rows = query(warehouse, _BARS, symbol, base, day)
    columns: Any = list(zip(*rows, strict=True)) or [()] * (len(COLUMNS) + 1)
    return make_bars(*columns[:-1]), np.array(columns[-1], dtype=bool)


def _right(market: Market, symbol: str, base: str, day: Any) -> Bars:
    session: date = day
    if base == "1d":
        return market.days(symbol, session, session)
    return market.minutes(symbol, market.sessions(symbol).days_window(session, session))
