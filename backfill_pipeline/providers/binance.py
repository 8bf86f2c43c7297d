"""Binance: minutes and days of crypto pairs such as BTCUSDT, without a key.

A bar of volume 0 and no trades is how Binance says that nobody traded: it is passed on, for validation to count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TypeVar
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import LENGTH, Base
from backfill_pipeline.domain.windows import Window, subtract, to_datetime, to_micros

from .base import Answer, Lifetime, Request, Served, Settle
from .binance_decode import read_klines, refuse
from .budget import Budget, Priority
from .errors import NeverServed
from .http import Http, Patience, Reply
from .polygon_pages import describe

T = TypeVar("T")

# Binance's greatest `limit`.
PAGE_ROWS = 1000
# The exchange opened; no pair has older bars.
FIRST_DAY = date(2017, 7, 14)
# What an address may use up in a clock minute; a page of klines weighs 2. Over it comes a 429, and then a ban.
WEIGHT_PER_MINUTE = 6000
_CAREFUL = 0.9
# The characters that Binance allows in a symbol: the `:` of X:BTCUSD, which is another instrument, is none of them.
_PAIR = re.compile(r"[A-Z0-9._-]{1,20}")


class BinanceProvider:
    """One address. Threads may share it. `page_rows`: the `limit` of a request, for tests of paging."""

    name = "binance"
    settle = Settle("close", timedelta(minutes=2))
    live = True

    def __init__(
        self,
        base_url: str,
        *,
        budget: Budget,
        priority: Priority = "backfill",
        patience: Patience | None = None,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._http = Http(self.name, base_url, None, budget, priority=priority, patience=patience, refuse=self._refuse)
        self._priority = priority
        self._page_rows = page_rows

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        symbol = instrument.symbol
        if instrument.asset_class != "crypto" or not _PAIR.fullmatch(symbol):
            return Served(None, f"binance has no {instrument.asset_class} called {symbol}; its pairs are like BTCUSDT")
        if sessions.calendar != "24/7":
            return Served(None, f"binance has days of the calendar 24/7 only; {symbol} is on {sessions.calendar}")
        window = Window(sessions.days_window(FIRST_DAY, FIRST_DAY).start, int(sessions.day_end[-1]))
        return Served(window, f"binance serves {timeframe} bars from {FIRST_DAY} on")

    def page_rows(self, timeframe: Base) -> int | None:  # noqa: ARG002  (the same for minutes and days)
        return self._page_rows

    def expected_wait(self, requests: int) -> float:
        return self._http.budget.expected_wait(self._priority, requests)

    def lifetime(self, symbol: str) -> Lifetime | None:
        """The day of a pair's first bar; None where there is none. Raises ProviderError."""
        if not _PAIR.fullmatch(symbol):
            return None
        target = _target(symbol, "1d", startTime=0, limit=1)
        try:
            bars, _ = self._http.get(target, read_klines, what=f"lifetime of {symbol}", tries=2)
        except NeverServed:
            return None
        return Lifetime(to_datetime(int(bars.ts[0])).date(), None) if len(bars) else None

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        """See Provider. Bars that are not over at `now` are provisional: they come, and are not answered."""
        served = self.served(request.instrument, request.timeframe, request.sessions)
        if served.window is None:
            raise NeverServed(served.reason)
        length, start = LENGTH[request.timeframe], request.window.start
        while start < request.window.end:
            page = Window(start, min(start + self._page_rows * length, request.window.end))
            target = _target(
                request.instrument.symbol,
                request.timeframe,
                startTime=-(-page.start // 1000),
                endTime=(page.end - 1) // 1000,  # both ends are included
                limit=self._page_rows,
            )
            bars, over = self._http.get(target, read_klines, what=describe(request, page))
            inside = (bars.ts >= page.start) & (bars.ts < page.end)
            # Heard to the last bar, and past it once a page brings none: so no limit of a server's own leaves a hole.
            start = page.end
            if inside.any():
                start = min(page.end, (int(bars.ts[inside].max()) // length + 1) * length)
            yield _answer(request, Window(page.start, start), bars, over, to_micros(now))

    def _refuse(self, reply: Reply) -> None:
        """Raises what a refusal stands for. Near the limit of the clock minute nobody asks until the next one."""
        used = reply.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdecimal() and int(used) >= _CAREFUL * WEIGHT_PER_MINUTE:
            self._http.budget.hold(60 - time.time() % 60)
        refuse(reply)


def _target(symbol: str, interval: Base, **query: int) -> str:
    return f"/api/v3/klines?{urlencode({'symbol': symbol, 'interval': interval, **query})}"


def _answer(request: Request, heard: Window, bars: Bars, over: npt.NDArray[np.int64], now: int) -> Answer:
    """`heard` less the bar that is under way at `now`, and less rows that say they end later."""
    # A stray bar of another stretch of this request would stand against the true one, which comes with its own page.
    # Strays outside of the whole request are left in for validation to refuse.
    stray = ((bars.ts < heard.start) | (bars.ts >= heard.end)) & _within(bars.ts, request.window)
    bars, over = (bars.take(~stray), over[~stray]) if stray.any() else (bars, over)
    length = LENGTH[request.timeframe]
    unfinished = [Window(at, at + length) for at in bars.ts[(over > now) | (over == 0)].tolist()]
    under_way = now - now % length
    if heard.end > under_way:
        unfinished.append(Window(under_way, heard.end))
    return Answer(bars, tuple(subtract([heard], unfinished)))


def _within(ts: npt.NDArray[np.int64], window: Window) -> npt.NDArray[np.bool_]:
    return (ts >= window.start) & (ts < window.end)
