"""Polygon.io, now Massive: unadjusted minutes and days of US stocks and crypto, whole pages at a time.

A request window spans as many sessions as fill a page, so that two years of a busy stock's minutes are ten requests.
Replies are read in polygon_decode.py, pages put together in polygon_pages.py, plans learned in polygon_plan.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import numpy as np
from pydantic import SecretStr

from backfill_pipeline.domain.bars import Bars, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window, intersect, to_micros

from .base import Answer, Lifetime, MarketRequest, Request, Served, Settle
from .budget import Budget, LimitMemory, Priority, fingerprint
from .errors import BeyondPlan, NeverServed, NoTrading, NotYet, ServerTrouble
from .http import Http, Patience
from .polygon_decode import read_page
from .polygon_events import PolygonEvents
from .polygon_pages import Chain, Pages, describe, in_path, session_at
from .polygon_plan import Found, Market, Plan, market_of
from .polygon_reference import read_changes, read_lifetime

# The vendor's greatest.
PAGE_ROWS = 50_000
# Answers that break off before a page is full, in one fetch; more mean a server that never finishes.
_MOST_BREAKS = 5
# Absent sessions at the start of an answer that raise the question whether the plan clipped it.
_DOUBTFUL_LEAD = 5


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PolygonProvider:
    """One key at one address. Threads may share it. `page_rows`: the `limit` of a request, for tests of paging."""

    name = "polygon"
    settle = Settle("day", timedelta(minutes=15))
    live = False

    def __init__(
        self,
        key: SecretStr,
        base_url: str,
        *,
        budget: Budget,
        limits: LimitMemory,
        priority: Priority = "backfill",
        patience: Patience | None = None,
        page_rows: int = PAGE_ROWS,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._http = Http(self.name, base_url, key, budget, priority=priority, patience=patience)
        self._priority = priority
        self._pages = Pages(self._http, page_rows)
        self._plan = Plan(limits, self._probe)
        self._now = now
        self.events = PolygonEvents(self._http, limits, fingerprint(key), now=now)

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        """From what was learned of the plan; asks nothing."""
        market = market_of(instrument)
        if market is None:
            return Served(
                None, f"polygon has no {instrument.asset_class} called {instrument.symbol}; crypto is X:BTCUSD"
            )
        window = Window(int(sessions.day_start[0]), int(sessions.day_end[-1]))
        edge = self._plan.earliest(market, self._now())
        if edge is None or _day_start(sessions, edge) <= window.start:
            return Served(window, f"polygon serves {timeframe} bars of {market}")
        return Served(Window(_day_start(sessions, edge), window.end), f"from {edge} (plan)")

    def serves_today(self, instrument: Instrument) -> bool:
        """See HasToday: a plan that ends yesterday says so when it is first asked."""
        market = market_of(instrument)
        return market is not None and not self._plan.ends_yesterday(market, self._now())

    def page_rows(self, timeframe: Base) -> int | None:  # noqa: ARG002  (the same for minutes and days)
        return self._pages.page_rows

    def expected_wait(self, requests: int) -> float:
        return self._http.budget.expected_wait(self._priority, requests)

    def lifetime(self, symbol: str) -> Lifetime | None:
        """Of who has the ticker now; None where the reference says nothing. Raises ProviderError."""
        return read_lifetime(self._http, symbol)

    def ticker_changes(self, instrument_id: str) -> tuple[tuple[date, str], ...]:
        """See NamingProvider."""
        return read_changes(self._http, instrument_id)

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        """See Provider. What is older than the plan, or not out yet, stays unanswered, with a note."""
        market = market_of(request.instrument)
        if market is None:
            raise NeverServed(self.served(request.instrument, request.timeframe, request.sessions).reason)
        settled = settled_until(request, now)
        edge = self._plan.earliest(market, now)
        start, end, breaks = request.window.start, request.window.end, 0
        if self._plan.ends_yesterday(market, now):
            end = min(end, settled)
        while start < end:
            if edge is not None and start < _day_start(request.sessions, edge):
                yield Answer(no_bars(), (), f"polygon serves {request.instrument.symbol} from {edge} (plan)")
                start = _day_start(request.sessions, edge)
                continue
            window = self._pages.next_window(request, start, end)
            try:
                chain = self._pages.chain(request, window)
            except BeyondPlan as error:
                edge = self._search_edge(error, market, request, start, now)
                continue
            except NotYet as error:
                end = self._without_today(error, market, window, settled, now)
                continue
            edge = self._doubt(market, request, window, chain, now) or edge
            yield _answer(request, window, chain, settled, edge)
            start = window.end if chain.heard is None else chain.heard
            breaks += start < window.end and len(chain.bars) < self._pages.page_rows
            if breaks > _MOST_BREAKS:
                raise ServerTrouble(f"polygon: {describe(request, window)}: answers break off again and again")
        if end < request.window.end:
            yield _not_yet(request, asked=end > request.window.start)

    def market(self, instrument: Instrument, timeframe: Base) -> str | None:
        """Days of US stocks come by the day for all of them."""
        return "stocks" if timeframe == "1d" and market_of(instrument) == "stocks" else None

    def fetch_market(self, request: MarketRequest, now: datetime) -> dict[str, Answer]:
        """See MarketProvider. A session on which no stock has a bar is not believed: it may have been a day off."""
        window = request.sessions.days_window(request.day, request.day)
        edge = self._plan.earliest("stocks", now)
        if edge is not None and request.day < edge:
            raise BeyondPlan(f"polygon serves stocks from {edge} (plan)")
        if to_micros(now) < window.end + self.settle.delay // timedelta(microseconds=1):
            raise NotYet(f"polygon: all stocks of {request.day}: a day is out 15 minutes after its end")
        bars = self.fetch_grouped(request.day, request.sessions)
        if not bars:
            raise NoTrading(f"polygon: no stock at all has a bar of {request.day}: was the market closed?")
        return {ticker: Answer(bars.get(ticker, no_bars()), (window,)) for ticker in request.tickers}

    def fetch_grouped(self, day: date, sessions: Sessions) -> dict[str, Bars]:
        """The whole US stock market's unadjusted day: by ticker one bar (more if the server repeats itself), labelled
        by the start of `day` whatever the rows say. Empty on a closed day. Raises ProviderError.
        """
        target = f"/v2/aggs/grouped/locale/us/market/stocks/{day.isoformat()}?adjusted=false"
        page = self._http.get(target, partial(read_page, ticker=None), what=f"all stocks of {day}")
        # Their `t` is 16:00, the end of the day.
        bars = replace(page.bars, ts=np.full(len(page.bars), _day_start(sessions, day), dtype=np.int64))
        rows: dict[str, list[int]] = {}
        for i, ticker in enumerate(page.tickers):
            rows.setdefault(ticker, []).append(i)
        return {
            ticker: bars.take(slice(mine[0], mine[0] + 1) if len(mine) == 1 else np.array(mine, dtype=np.intp))
            for ticker, mine in rows.items()
            if ticker
        }

    def _search_edge(self, error: BeyondPlan, market: Market, request: Request, start: int, now: datetime) -> date:
        """The first day that the plan serves after `start`, which it refused. Raises the refusal if none is found."""
        row = session_at(request, start)
        edge = self._plan.refused(market, request.instrument.symbol, request.sessions, row, now)
        if edge is None or _day_start(request.sessions, edge) <= start:
            raise error
        return edge

    def _without_today(self, error: NotYet, market: Market, window: Window, settled: int, now: datetime) -> int:
        """Where to end instead of in a day that is not over. Raises the refusal if there was no such day."""
        if window.end <= settled:
            raise error
        self._plan.learn_ends_yesterday(market, now)
        return settled

    def _doubt(self, market: Market, request: Request, window: Window, chain: Chain, now: datetime) -> date | None:
        """The plan's edge, if this answer begins so late that the plan may have clipped it, and it has."""
        rows = request.sessions.rows(window)
        ts = chain.bars.ts
        found = request.sessions.row_of(ts[(ts >= window.start) & (ts < window.end)])
        found = found[found >= 0]
        first = int(found.min()) if len(found) else None
        lead = (rows.stop if first is None else first) - rows.start
        if chain.heard is None or lead < min(_DOUBTFUL_LEAD, rows.stop - rows.start) or lead < 1:
            return None
        return self._plan.doubted(market, request.instrument, request.sessions, rows.start, first, now)

    def _probe(self, ticker: str, day: date) -> Found:
        target = f"/v2/aggs/ticker/{in_path(ticker)}/range/1/day/{day}/{day}?adjusted=false&sort=asc&limit=10"
        what = f"how far the plan reaches ({ticker} on {day})"
        try:
            page = self._http.get(target, partial(read_page, ticker=ticker), what=what)
        except BeyondPlan:
            return "refused"
        return "bars" if len(page.bars) else "nothing"


def settled_until(request: Request, now: datetime) -> int:
    """The end of the last day whose answer may be believed at `now`; microseconds UTC."""
    due = PolygonProvider.settle.due_at(request.sessions)
    row = int(np.searchsorted(due, to_micros(now), side="right"))
    return int(request.sessions.day_end[row - 1]) if row else 0


def _answer(request: Request, window: Window, chain: Chain, settled: int, edge: date | None) -> Answer:
    """`answered`: what the pages are complete about, less what the plan clipped, and of days that are not settled
    only what lies before their last bar, for that may be unfinished, and later ones late.
    """
    # A stray bar of another stretch of this request would stand against the true one, which comes with its own window.
    # Strays outside of the whole request are left in for validation to refuse.
    stray = (chain.bars.ts < window.start) | (chain.bars.ts >= window.end)
    stray &= (chain.bars.ts >= request.window.start) & (chain.bars.ts < request.window.end)
    bars = chain.bars.take(~stray) if stray.any() else chain.bars
    if chain.heard is None:
        return Answer(bars, (), f"polygon: {describe(request, window)}: pages that do not end or are in disorder")
    first = window.start if edge is None else max(window.start, _day_start(request.sessions, edge))
    ts = chain.bars.ts[(chain.bars.ts >= window.start) & (chain.bars.ts < window.end)]
    last = chain.heard if chain.heard <= settled else max(settled, int(ts.max()) if len(ts) else 0)
    answered = intersect([window], [Window(first, last)]) if last > first else []
    note = "" if first == window.start else f"polygon serves {request.instrument.symbol} from {edge} (plan)"
    return Answer(bars, tuple(answered), note)


def _not_yet(request: Request, *, asked: bool) -> Answer:
    note = f"polygon: {request.instrument.symbol} {request.timeframe}: this plan has a day 15 minutes after its end"
    if not asked:
        raise NotYet(note)
    return Answer(no_bars(), (), note)


def _day_start(sessions: Sessions, day: date) -> int:
    return sessions.days_window(day, day).start
