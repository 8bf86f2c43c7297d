"""Which URL asks for a window, and all the pages of its answer. No plans, no waiting for days to settle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from urllib.parse import quote, urlencode

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE, Window, to_datetime

from .base import Request
from .errors import NeverServed
from .http import Http
from .polygon_decode import read_page

# A window needs one page, two where a symbol became busier; more mean a server that leads nowhere.
MOST_PAGES = 100
_SPAN: dict[Base, str] = {"1m": "minute", "1d": "day"}


@dataclass(frozen=True, eq=False)
class Chain:
    """The pages of one window. `heard`: until when they are complete (microseconds UTC); None: not even in part."""

    bars: Bars
    heard: int | None


class Pages:
    """Asks window by window and remembers how many rows a symbol's sessions hold."""

    def __init__(self, http: Http, page_rows: int) -> None:
        self.page_rows = page_rows
        self._http = http
        self._per_session: dict[str, float] = {}

    def next_window(self, request: Request, start: int, end: int) -> Window:
        """From `start` over as many sessions as a page holds, by what this symbol's sessions held so far."""
        if request.timeframe == "1d":
            return Window(start, end)
        sessions, parts = request.sessions, request.sessions.parts
        row = session_at(request, start)
        low, high = np.searchsorted(parts.row, [row, row + 1])
        most = max(1, int((parts.end[low:high] - parts.start[low:high]).sum()) // MINUTE)
        held = self._per_session.get(request.instrument.symbol, most)
        # A tenth more than measured, for sessions differ; more than all their minutes they do not hold.
        stop = row + max(1, int(self.page_rows // min(most, 1.1 * held)))
        return Window(start, min(end, int(sessions.day_start[stop])) if stop < len(sessions) else end)

    def chain(self, request: Request, window: Window) -> Chain:
        """All pages of a window. They are complete when the last leads no further and is not full; else up to their
        last bar. Raises ProviderError.
        """
        ticker, what = request.instrument.symbol, describe(request, window)
        target: str | None = self._target(request, window)
        seen: set[str] = set()
        pages: list[Bars] = []
        full, complete = self.page_rows, False
        while target is not None and target not in seen and len(seen) < MOST_PAGES:
            seen.add(target)
            page = self._http.get(target, partial(read_page, ticker=ticker), what=what)
            pages.append(page.bars)
            target = page.next_target
            # That nothing more comes after bars is asked for once more: an empty page may be a fault.
            ended = page.base_rows > 0 or not any(map(len, pages))
            complete = target is None and page.base_rows < full and ended
            if page.base_rows:
                full = min(full, page.base_rows)  # a server may make smaller pages than it was asked for
        bars = concatenate(pages)
        if not complete:
            return Chain(bars, _heard(request, window, bars))
        self._measure(request, window, bars)
        return Chain(bars, window.end)

    def _measure(self, request: Request, window: Window, bars: Bars) -> None:
        """Rows per session that has any. Where none has, the next window is to be four times as long."""
        if request.timeframe == "1d":
            return
        rows = request.sessions.rows(window)
        traded = len(np.unique(request.sessions.row_of(bars.ts)))
        empty = self.page_rows / (4 * max(1, rows.stop - rows.start))
        self._per_session[request.instrument.symbol] = len(bars) / traded if traded else empty

    def _target(self, request: Request, window: Window) -> str:
        if request.timeframe == "1m":
            # Both ends are included, and times off the grid are snapped outward: so on the grid, and the last minute.
            ends = [str(at // MINUTE * MINUTE // 1000) for at in (window.start, window.end - 1)]
        else:
            days, rows = request.sessions.session, request.sessions.rows(window)
            ends = [str(days[rows.start]), str(days[max(rows.start, rows.stop - 1)])]
        query = urlencode({"adjusted": "false", "sort": "asc", "limit": self.page_rows})
        path = f"/v2/aggs/ticker/{in_path(request.instrument.symbol)}/range/1/{_SPAN[request.timeframe]}"
        return f"{path}/{ends[0]}/{ends[1]}?{query}"


def _heard(request: Request, window: Window, bars: Bars) -> int | None:
    """Until when pages that broke off are complete: past their last bar, if they came in order."""
    ts = bars.ts[(bars.ts >= window.start) & (bars.ts < window.end)]
    if not len(ts) or bool((ts[1:] < ts[:-1]).any()):
        return None
    if request.timeframe == "1m":
        return min(int(ts[-1]) + MINUTE, window.end)
    return min(int(request.sessions.day_end[session_at(request, int(ts[-1]))]), window.end)


def session_at(request: Request, at: int) -> int:
    """The row of the session in whose day `at` lies, or of the next one."""
    return int(np.searchsorted(request.sessions.day_end, at, side="right"))


def describe(request: Request, window: Window) -> str:
    """What is asked, for people: symbol, timeframe, UTC days."""
    first, last = to_datetime(window.start), to_datetime(window.end) - timedelta(microseconds=1)
    return f"{request.instrument.symbol} {request.timeframe} {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def in_path(symbol: str) -> str:
    """A symbol as one segment of a path; its colon is left as it is. NeverServed for dots alone, which are a folder."""
    if not symbol.strip("."):
        raise NeverServed(f"polygon: {symbol!r} is no ticker")
    return quote(symbol, safe=":")
