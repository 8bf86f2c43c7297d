"""How far back a key's plan reaches: learned when an answer shows a limit, remembered for a month, for all processes.

A plan that refuses what is too old says so (403); one that clips sends less and says nothing: then a ticker that
always trades is asked. Days are sessions; the edge is searched for where plans have theirs before it is bisected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Literal

import numpy as np

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions

from .budget import LimitMemory
from .errors import ProviderError, ProviderStopped

logger = logging.getLogger(__name__)

Market = Literal["stocks", "crypto"]
Found = Literal["bars", "nothing", "refused"]
Probe = Callable[[str, date], Found]

# After so long a limit is looked for again: plans change.
FRESH = timedelta(days=30)
# Tickers that trade in every session, to tell a clipped answer from a symbol without trades.
REFERENCES: dict[Market, str] = {"stocks": "SPY", "crypto": "X:BTCUSD"}
# Where plans end, in years; and where the archive of stocks begins.
_PLAN_YEARS = (2, 5, 10, 15, 20)
_ARCHIVE_START = date(2003, 9, 10)
# Younger days are in every plan.
_YOUNG = timedelta(days=31)


def market_of(instrument: Instrument) -> Market | None:
    """None: the symbol is not one of this provider's."""
    if instrument.asset_class != "crypto":
        return "stocks" if ":" not in instrument.symbol else None
    return "crypto" if instrument.symbol.startswith("X:") else None


class Plan:
    """`probe`: what the provider has of a ticker on one session."""

    def __init__(self, memory: LimitMemory, probe: Probe) -> None:
        self._memory = memory
        self._probe = probe

    def earliest(self, market: Market, now: datetime) -> date | None:
        """The first day served, as far as it is known. A plan of two years moves on by a day a day."""
        known = self._fresh(f"{market} earliest", now)
        if known is None or known[0] is None:
            return None
        day, learned_at = known[0], known[1]
        return day if day <= _ARCHIVE_START else day + (now.date() - learned_at.date())

    def ends_yesterday(self, market: Market, now: datetime) -> bool:
        """Whether the plan is known to refuse a day that is not over."""
        return self._fresh(f"{market} end of day", now) is not None

    def learn_ends_yesterday(self, market: Market, now: datetime) -> None:
        self._memory.remember(f"{market} end of day", now.date(), now)

    def refused(self, market: Market, ticker: str, sessions: Sessions, row: int, now: datetime) -> date | None:
        """The session `row` was refused as too old: search for the first that is not, and remember it.

        A plan's usual edge is taken without asking once the session before it is refused: the next request tells.
        """
        edge = self._search(sessions, row, None, now, lambda day: self._probe(ticker, day) != "refused", trusting=True)
        if edge is not None:
            self._learn(market, edge, now)
        return edge

    def doubted(
        self, market: Market, instrument: Instrument, sessions: Sessions, row: int, first_row: int | None, now: datetime
    ) -> date | None:
        """Bars were asked from session `row` on and begin at `first_row` (None: there are none). The first day served
        if that is the plan's doing; None if it is not, or cannot be known.
        """
        day: date = sessions.session[row].astype(object)
        reached = self._fresh(f"{market} reaches", now)
        if now.date() - day < _YOUNG or (reached is not None and reached[0] is not None and reached[0] <= day):
            return None
        reference = REFERENCES[market]
        try:
            edge = self._search(sessions, row - 1, first_row, now, lambda day: self._probe(reference, day) == "bars")
            if edge == day:
                self._memory.remember(f"{market} reaches", day, now)
                return None
            first: date | None = None if first_row is None else sessions.session[first_row].astype(object)
            # Only a reference that exists proves anything by what it lacks.
            if edge is not None and edge == first and self._probe(reference, first) != "bars":
                edge = None
        except ProviderStopped:
            raise
        except ProviderError as error:
            logger.warning(f"{error}; how far the plan reaches is not known")
            return None
        listed = instrument.first_date is not None and instrument.first_date <= day
        if edge is None and listed:
            edge = first  # nothing but the symbol itself to go by
        if edge is not None:
            self._learn(market, edge, now)
        return edge

    def _learn(self, market: Market, edge: date, now: datetime) -> None:
        logger.info(f"polygon: the plan serves {market} from {edge} on")
        self._memory.remember(f"{market} earliest", edge, now)

    def _fresh(self, name: str, now: datetime) -> tuple[date | None, datetime] | None:
        known = self._memory.recall(name)
        return known if known is not None and now - known[1] < FRESH else None

    def _search(
        self,
        sessions: Sessions,
        bad: int,
        known: int | None,
        now: datetime,
        served: Callable[[date], bool],
        *,
        trusting: bool = False,
    ) -> date | None:
        """The first served session after `bad`, which is not; None if not even a young one is. `known`: one that is."""
        newest = int(np.searchsorted(sessions.session, np.datetime64(now.date() - _YOUNG, "D")))
        good = beyond = newest + 1
        if known is not None and known <= newest:
            good = known
        edges = _usual_edges(sessions, now)
        # Beside the likeliest edge, the very beginning, whether anything is served at all, then beside the other edges.
        likeliest = edges[0] if good == beyond else good
        begin = [] if trusting else [bad + 1]
        pivots = [likeliest - 1, *begin, edges[0], newest, *(row - 1 for row in edges), *edges]
        while good - bad > 1 and not (trusting and bad + 1 in edges):
            row = next((row for row in pivots if bad < row < good), (bad + good) // 2)
            if served(sessions.session[row].astype(object)):
                good = row
            else:
                bad = row
        found = bad + 1
        return None if found >= beyond else sessions.session[found].astype(object)


def _usual_edges(sessions: Sessions, now: datetime) -> list[int]:
    """Rows of the first sessions of the usual plans, the shortest first, and of the archive."""
    days = [*(_years_before(now.date(), years) for years in _PLAN_YEARS), _ARCHIVE_START]
    return [int(row) for row in np.searchsorted(sessions.session, np.array(days, dtype="datetime64[D]"))]


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)
