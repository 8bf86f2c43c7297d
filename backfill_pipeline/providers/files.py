"""Massive's flat files in a local folder: minutes and days of US stocks, unadjusted, without a request.

One gzipped CSV a day with the whole market in it (FOLDER/us_stocks_sip/minute_aggs_v1/2026/07/2026-07-29.csv.gz), as
the vendor's bucket lays them out. How rows are read stands in flat_file_rows.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from backfill_pipeline.domain.bars import Bars, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window

from .base import Answer, Lifetime, MarketRequest, Request, Served, Settle
from .errors import NeverServed, ProviderError, ProviderStopped
from .flat_file_rows import read_rows

MARKET = "us_stocks_sip"
_KIND: dict[Base, str] = {"1m": "minute", "1d": "day"}
_SUFFIX = ".csv.gz"
# A look at the folder is believed for so many seconds: files come once a day.
_LOOK = 60.0


class FilesProvider:
    """`folder`: BACKFILL_FILES. `clock`: seconds, for tests. Threads may share one."""

    name = "files"
    settle = Settle("day", timedelta(hours=11))
    live = False

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._looked: dict[Base, tuple[float, tuple[date, date] | None]] = {}

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        """From the first day file to the last. A folder that cannot be read counts as serving everything, so that a
        run asks for it and says so: a drive that is not mounted must not pass for a provider that has nothing.
        """
        if self.market(instrument, timeframe) is None or sessions.calendar != "XNYS":
            what = f"{instrument.asset_class} called {instrument.symbol} on {sessions.calendar}"
            return Served(None, f"files has US stocks only, and no {what}")
        root = f"{MARKET}/{_KIND[timeframe]}_aggs_v1"
        try:
            days = self._days(timeframe)
        except ProviderStopped as error:
            return Served(Window(int(sessions.day_start[0]), int(sessions.day_end[-1])), str(error))
        if days is None:
            return Served(None, f"files has no day file in {root}")
        return Served(sessions.days_window(*days), f"files has {days[0]} to {days[1]} in {root}")

    def page_rows(self, timeframe: Base) -> int | None:  # noqa: ARG002  (no requests)
        return None

    def expected_wait(self, requests: int) -> float:  # noqa: ARG002  (no requests)
        return 0.0

    def lifetime(self, symbol: str) -> Lifetime | None:  # noqa: ARG002  (files do not say)
        return None

    def market(self, instrument: Instrument, timeframe: Base) -> str | None:  # noqa: ARG002  (minutes and days alike)
        stock = instrument.asset_class != "crypto" and ":" not in instrument.symbol
        return MARKET if stock else None

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:  # noqa: ARG002  (files hold what is over)
        """See Provider: a piece a session. One that has no file stays unanswered, with a note; one whose file is no
        good too, and its error is raised when the others have been answered.
        """
        sessions, symbol = request.sessions, request.instrument.symbol
        if self.market(request.instrument, request.timeframe) is None:
            raise NeverServed(self.served(request.instrument, request.timeframe, sessions).reason)
        first = int(np.searchsorted(sessions.day_end, request.window.start, side="right"))
        stop = sessions.rows(request.window).stop
        # Nights and closed days belong to the session before them.
        edges = [request.window.start, *sessions.day_start[first + 1 : stop].tolist(), request.window.end]
        missing: list[str] = []
        failure: ProviderError | None = None
        for row, (start, end) in zip(range(first, stop), pairwise(edges), strict=False):
            day: date = sessions.session[row].astype(object)
            try:
                found = self._read(request.timeframe, day, frozenset([symbol]), sessions)
            except ProviderStopped:
                raise
            except ProviderError as error:
                failure = failure or error
                continue
            if found is None:
                missing.append(self._name(request.timeframe, day))
            else:
                yield Answer(found.get(symbol, no_bars()), (Window(start, end),))
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            yield Answer(no_bars(), (), f"files: {missing[0]} is missing{more}")
        if failure is not None:
            raise failure

    def fetch_market(self, request: MarketRequest, now: datetime) -> Mapping[str, Answer]:  # noqa: ARG002  (as in fetch)
        """See MarketProvider: the day's file is read once for all tickers."""
        if request.market != MARKET:
            raise NeverServed(f"files has the market {MARKET} only, and not {request.market}")
        found = self._read(request.timeframe, request.day, request.tickers, request.sessions)
        if found is None:
            note = f"files: {self._name(request.timeframe, request.day)} is missing"
            return dict.fromkeys(request.tickers, Answer(no_bars(), (), note))
        answered = (request.sessions.days_window(request.day, request.day),)
        return {ticker: Answer(found.get(ticker, no_bars()), answered) for ticker in request.tickers}

    def _read(self, timeframe: Base, day: date, tickers: frozenset[str], sessions: Sessions) -> dict[str, Bars] | None:
        """The rows of the day's file by ticker; None where there is no file. Raises ProviderError."""
        self._check_folder()
        name = self._name(timeframe, day)
        window = sessions.days_window(day, day)
        try:
            found = read_rows(self._folder / name, f"files: {name}", tickers, window)
        except FileNotFoundError:
            return None
        if timeframe == "1m":
            return found
        return {t: replace(b, ts=np.full(len(b), window.start, dtype=np.int64)) for t, b in found.items()}

    def _name(self, timeframe: Base, day: date) -> str:
        """The path of a day's file, relative to the folder."""
        return f"{MARKET}/{_KIND[timeframe]}_aggs_v1/{day:%Y/%m}/{day.isoformat()}{_SUFFIX}"

    def _check_folder(self) -> None:
        """Raises ProviderStopped where the folder itself is the trouble."""
        try:
            os.scandir(self._folder).close()
        except OSError as error:
            raise _stopped(error) from None

    def _days(self, timeframe: Base) -> tuple[date, date] | None:
        """The first and the last day that has a file; None for none. Raises ProviderStopped."""
        known = self._looked.get(timeframe)
        if known is None or self._clock() - known[0] >= _LOOK:
            self._check_folder()
            try:
                ends = [self._edge(timeframe, newest=newest) for newest in (False, True)]
            except OSError as error:
                raise _stopped(error) from None
            known = self._clock(), None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
            self._looked[timeframe] = known
        return known[1]

    def _edge(self, timeframe: Base, *, newest: bool) -> date | None:
        """The oldest or newest day file: three listings where no folder on the way is empty."""
        root = self._folder / MARKET / f"{_KIND[timeframe]}_aggs_v1"
        for year in _listed(root, newest=newest):
            for month in _listed(year, newest=newest):
                for file in _listed(month, newest=newest):
                    day = _day_of(file.name)
                    if day is not None and file == self._folder / self._name(timeframe, day):
                        return day
        return None


def _listed(folder: Path, *, newest: bool) -> list[Path]:
    """What is in a folder, ascending or descending; nothing where it is no folder. Other OSErrors are raised."""
    try:
        return sorted(folder.iterdir(), reverse=newest)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stopped(error: OSError) -> ProviderStopped:
    return ProviderStopped(f"files: {error.filename}: {error.strerror}; correct BACKFILL_FILES, or what is there")


def _day_of(file: str) -> date | None:
    try:
        return date.fromisoformat(file.removesuffix(_SUFFIX))
    except ValueError:
        return None
