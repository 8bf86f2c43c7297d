"""Tradier: unadjusted minutes of US stocks, of today and the last days.

A request asks for all hours (`session_filter=all`), which Tradier keeps for 10 days; regular hours alone it keeps for
20, but a session without its pre- and post-market would be half an answer. Its days are split-adjusted and not asked.
Replies are read in tradier_decode.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import numpy as np
from pydantic import SecretStr

from backfill_pipeline.domain.bars import Bars, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE, Window, to_datetime, to_micros

from .base import Answer, Lifetime, Request, Served, Settle
from .budget import Budget, Priority
from .errors import NeverServed, OddRefusal, ServerTrouble
from .http import MOST_WAIT, Http, Patience, Reply
from .polygon_pages import describe, session_at
from .tradier_decode import NEW_YORK, TooBig, TooDeep, quota_wait, read_minutes, refuse

# How long minutes of all hours are kept, as documented; where a server keeps them otherwise it says so.
DEPTH = timedelta(days=10)
# Ten days and today hold at most nine sessions, of 960 minutes each: one request.
_SESSIONS = 9
PAGE_ROWS = _SESSIONS * 960
# Shorter ranges than this many minutes cannot be too big for a server.
_SHORTEST = 60
_CALENDARS = frozenset({"XNYS"})


def requests_per_minute(base_url: str) -> int:
    """A little under what is documented (120, sandbox 60): its minute is the clock's, and no clock is exact."""
    return 55 if "//sandbox." in base_url else 110


def _utc_now() -> datetime:
    return datetime.now(UTC)


class TradierProvider:
    """One token at one address, which ends in `/v1`. Threads may share it."""

    name = "tradier"
    settle = Settle("close", timedelta(minutes=15))
    live = True

    def __init__(
        self,
        token: SecretStr,
        base_url: str,
        *,
        budget: Budget,
        priority: Priority = "backfill",
        patience: Patience | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._http = Http(self.name, base_url, token, budget, priority=priority, patience=patience, refuse=self._refuse)
        self._priority = priority
        self._now = now

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        """From what is documented; asks nothing."""
        reason = _unserved(instrument, timeframe, sessions)
        if reason:
            return Served(None, reason)
        first = self._now().astimezone(NEW_YORK).date() - DEPTH
        start, end = sessions.days_window(first, first).start, int(sessions.day_end[-1])
        if start >= end:
            return Served(None, f"tradier keeps minutes from {first}, and the calendar ends before")
        return Served(Window(start, end), f"from {first} (tradier keeps {DEPTH.days} days of minutes of all hours)")

    def page_rows(self, timeframe: Base) -> int | None:  # noqa: ARG002  (only minutes are served)
        return PAGE_ROWS

    def expected_wait(self, requests: int) -> float:
        return self._http.budget.expected_wait(self._priority, requests)

    def lifetime(self, symbol: str) -> Lifetime | None:  # noqa: ARG002  (it tells of none)
        return None

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        """See Provider. What is older than the server keeps stays unanswered, with a note."""
        reason = _unserved(request.instrument, request.timeframe, request.sessions)
        if reason:
            raise NeverServed(reason)
        settled = self._settled_until(request.sessions, now)
        todo, cut = _stretches(request, request.window.start), False
        while todo:
            window = todo.pop(0)
            try:
                bars = self._minutes(request, window)
            except TooBig as error:
                todo[:0] = _halves(request, window, error)
            except TooDeep as error:
                older = error.boundary > window.start
                if cut:
                    raise error if older else OddRefusal(str(error)) from None
                cut, todo = True, _stretches(request, max(window.start, error.boundary))
                if older:
                    yield Answer(no_bars(), (), _since(request, error.boundary))
            else:
                yield _answer(request, window, bars, settled)

    def _settled_until(self, sessions: Sessions, now: datetime) -> int:
        """The end of the last day whose answer may be believed at `now`; microseconds UTC."""
        row = int(np.searchsorted(self.settle.due_at(sessions), to_micros(now), side="right"))
        return int(sessions.day_end[row - 1]) if row else 0

    def _minutes(self, request: Request, window: Window) -> Bars:
        # New York's wall clock, both ends included. No session lies in the hour that the clocks repeat.
        start, end = (f"{to_datetime(at).astimezone(NEW_YORK):%Y-%m-%d %H:%M}" for at in (window.start, window.end - 1))
        query = {"symbol": request.instrument.symbol, "interval": "1min", "start": start, "end": end}
        target = f"/markets/timesales?{urlencode({**query, 'session_filter': 'all'})}"
        return self._http.get(target, read_minutes, what=describe(request, window))

    def _refuse(self, reply: Reply) -> None:
        if wait := quota_wait(reply):
            self._http.budget.hold(min(wait, MOST_WAIT))
        refuse(reply)


def _unserved(instrument: Instrument, timeframe: Base, sessions: Sessions) -> str:
    """Why it has nothing of an instrument; empty where it has."""
    if timeframe == "1d":
        return "tradier has no unadjusted days: its daily history is split-adjusted"
    if instrument.asset_class == "crypto" or ":" in instrument.symbol:
        return f"tradier has no {instrument.asset_class} called {instrument.symbol}"
    if sessions.calendar not in _CALENDARS:
        return f"tradier has US stocks only; {instrument.symbol} trades on {sessions.calendar}"
    return ""


def _stretches(request: Request, start: int) -> list[Window]:
    """From `start` on, the request's window in pieces of nine sessions."""
    sessions, end, found = request.sessions, request.window.end, []
    while start < end:
        stop = session_at(request, start) + _SESSIONS
        found.append(Window(start, min(end, int(sessions.day_start[stop])) if stop < len(sessions) else end))
        start = found[-1].end
    return found


def _halves(request: Request, window: Window, error: TooBig) -> list[Window]:
    """Cut between sessions, and within one at a minute. ServerTrouble where nothing is left to cut."""
    rows = request.sessions.rows(window)
    if rows.stop - rows.start > 1:
        middle = int(request.sessions.day_start[(rows.start + rows.stop) // 2])
    elif window.end - window.start > _SHORTEST * MINUTE:
        middle = (window.start + window.end) // 2 // MINUTE * MINUTE
    else:
        raise ServerTrouble(f"{error}; not even an hour of it passes")
    return [Window(window.start, middle), Window(middle, window.end)]


def _since(request: Request, boundary: int) -> str:
    since = f"{to_datetime(boundary).astimezone(NEW_YORK):%Y-%m-%d %H:%M}"
    return f"tradier serves minutes of {request.instrument.symbol} from {since} New York time"


def _answer(request: Request, window: Window, bars: Bars, settled: int) -> Answer:
    """`answered`: of days that are not settled only what lies before their last bar, which may be unfinished."""
    ts = bars.ts
    # A stray bar of another stretch of this request would stand against the true one, which comes with its own window.
    stray = ((ts < window.start) | (ts >= window.end)) & (ts >= request.window.start) & (ts < request.window.end)
    bars = bars.take(~stray) if stray.any() else bars
    inside = ts[(ts >= window.start) & (ts < window.end)]
    last = window.end if window.end <= settled else max(settled, int(inside.max()) if len(inside) else 0)
    return Answer(bars, (Window(window.start, last),) if last > window.start else ())
