"""The truth: made-up bars of any symbol, changed by what a test wants to have happened. No HTTP here."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions, horizon, load_sessions
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.base import Request
from backfill_pipeline.providers.synthetic import SyntheticProvider

from .bars import one_bar, rounded, scaled
from .changes import Changes, is_crypto
from .events import Events

_LATER = datetime(2100, 1, 1, tzinfo=UTC)
_KEPT_SESSIONS = 2048  # about 70 kB each with 960 minutes
_KEPT_DAYS = 200_000
Row = tuple[float, float, float, float, float, float, int]


class Market(Changes):
    """See the package's text. Safe to read from many threads; change it between requests."""

    def __init__(
        self,
        seed: int = 1,
        symbols: Iterable[str] = ("AAPL", "MSFT", "SPY"),
        fillers: int = 0,
        bare_share: float = 0.0,
    ) -> None:
        super().__init__(Events())
        self.seed, self.symbols, self.fillers, self.bare_share = seed, tuple(symbols), fillers, bare_share
        self._source = SyntheticProvider(seed=seed, extended=True)
        self._lock = threading.Lock()
        self._traded: OrderedDict[tuple[str, int], Bars] = OrderedDict()
        self._days: OrderedDict[tuple[str, int], Bars] = OrderedDict()

    def forget(self) -> None:
        """Called after every change."""
        super().forget()
        with self._lock:
            self._traded.clear()
            self._days.clear()

    def sessions(self, symbol: str) -> Sessions:
        return load_sessions("24/7" if is_crypto(symbol) else "XNYS", horizon(datetime.now(UTC).date()))

    def minutes(self, symbol: str, window: Window, *, adjusted: bool = False) -> Bars:
        """What the provider has, ascending."""
        rows = self.rows(symbol, window)
        bars = concatenate([self.session_minutes(symbol, row, adjusted=adjusted) for row in rows])
        return bars.between(window.start, window.end)

    def days(self, symbol: str, first: date, last: date, *, adjusted: bool = False) -> Bars:
        """One bar per session from `first` to `last` (both included) that traded, labelled by its day's start."""
        rows = self.sessions(symbol).rows_between(first, last)
        return concatenate([self.day(symbol, row, adjusted=adjusted) for row in range(rows.start, rows.stop)])

    def rows(self, symbol: str, window: Window) -> range:
        """The sessions whose day shares time with the window."""
        sessions = self.sessions(symbol)
        low = int(np.searchsorted(sessions.day_end, window.start, side="right"))
        return range(low, int(np.searchsorted(sessions.day_start, window.end)))

    def session_minutes(self, symbol: str, row: int, *, adjusted: bool = False) -> Bars:
        """A session's minutes without those the provider lost."""
        bars = self.traded(symbol, row)
        holes = self.withheld.get(symbol, ())
        kept = np.ones(len(bars), dtype=bool)
        for hole in holes:
            kept &= ~((bars.ts >= hole.start) & (bars.ts < hole.end))
        bars = bars.take(kept) if holes and not kept.all() else bars
        return scaled(self._bare(symbol, bars), self._adjusting(symbol, row) if adjusted else 1.0)

    def day(self, symbol: str, row: int, *, adjusted: bool = False, until: int | None = None) -> Bars:
        """The provider's bar of a session, or none. `until`: what is known at that time, microseconds UTC."""
        key = (symbol, row)
        with self._lock:
            bar = self._days.get(key) if until is None else None
        if bar is None:
            bar = self._make_day(symbol, row, until)
        if until is None:
            with self._lock:
                self._days[key] = bar
                if len(self._days) > _KEPT_DAYS:
                    self._days.popitem(last=False)
        return scaled(bar, self._adjusting(symbol, row) if adjusted else 1.0)

    def traded(self, symbol: str, row: int) -> Bars:
        """Every minute that traded in a session, whether the provider has it or not."""
        key = (symbol, row)
        with self._lock:
            if key in self._traded:
                self._traded.move_to_end(key)
                return self._traded[key]
        bars = self._make(symbol, row)
        with self._lock:
            self._traded[key] = bars
            if len(self._traded) > _KEPT_SESSIONS:
                self._traded.popitem(last=False)
        return bars

    def grouped(self, day: date, *, adjusted: bool = False) -> dict[str, Row]:
        """The whole stock market's day by ticker; empty on a closed day."""
        rows: dict[str, Row] = {}
        for symbol in self.symbols:
            ticker = symbol if is_crypto(symbol) else self.events.ticker(symbol, day)
            bars = no_bars() if is_crypto(symbol) else self.days(ticker, day, day, adjusted=adjusted)
            if len(bars):
                prices = (bars.open[0], bars.high[0], bars.low[0], bars.close[0], bars.volume[0], bars.vwap[0])
                rows[ticker] = (*(float(price) for price in prices), int(bars.trades[0]))  # type: ignore[assignment]  # six floats
        session = self.sessions("A").rows_between(day, day)
        return rows | self._fillers(day) if session.stop > session.start else {}

    def _day_start(self, symbol: str, day: date) -> int:
        return int(self.sessions(symbol).midnights(np.array([day], dtype="datetime64[D]"))[0])

    def ticker_day(self, symbol: str, row: int) -> date:
        found: date = self.sessions(symbol).session[row].astype(object)
        return found

    def _adjusting(self, symbol: str, row: int) -> float:
        day = self.ticker_day(symbol, row)
        return self.events.adjusts(self.events.instrument(symbol, day) or symbol, day)

    def _make(self, symbol: str, row: int) -> Bars:
        sessions, day = self.sessions(symbol), self.ticker_day(symbol, row)
        instrument = self.events.instrument(symbol, day)
        if instrument is None or symbol in self.events.unknown or not self.events.listed(instrument, day):
            return no_bars()
        window = Window(int(sessions.day_start[row]), int(sessions.day_end[row]))
        kind = "crypto" if is_crypto(symbol) else "stock"
        request = Request(Instrument(1, instrument, kind, sessions.calendar), "1m", window, sessions)  # type: ignore[arg-type]  # both are asset classes
        bars = concatenate([answer.bars for answer in self._source.fetch(request, _LATER)])
        factor = self.events.happened_to_prices(instrument, day)
        bars = bars if factor == 1.0 else rounded(scaled(bars, factor))
        for quiet in self.silenced.get(symbol, ()):
            bars = bars.take((bars.ts < quiet.start) | (bars.ts >= quiet.end))
        return _with_changes(bars, self.restated.get(symbol, {}))

    def _make_day(self, symbol: str, row: int, until: int | None) -> Bars:
        sessions, minutes = self.sessions(symbol), self.traded(symbol, row)
        if until is not None:
            minutes = minutes.between(0, until)
        bar = one_bar(minutes, int(sessions.day_start[row]))
        return _with_changes(bar, self.restated_days.get(symbol, {}))

    def _bare(self, symbol: str, bars: Bars) -> Bars:
        """Without vwap and trades in every so-manieth minute, always the same ones."""
        if not self.bare_share or not len(bars):
            return bars
        hashed = (bars.ts // 60_000_000 * 2_654_435_761 + zlib.crc32(symbol.encode())) % 4096
        bare = hashed < self.bare_share * 4096
        return replace(bars, vwap=np.where(bare, np.nan, bars.vwap), trades=np.where(bare, -1, bars.trades))

    def _fillers(self, day: date) -> dict[str, Row]:
        """Made-up tickers that no other answer knows, cheap enough for a whole market of them."""
        random = np.random.default_rng([self.seed, day.toordinal()])
        prices = np.round(np.exp(random.normal(3, 1.2, (self.fillers, 4))) + 0.5, 4)
        high, low = prices.max(axis=1), prices.min(axis=1)
        volume = np.round(random.gamma(1.2, 800_000, self.fillers) + 1, 2)
        columns = (prices[:, 0], high, low, prices[:, 1], volume, np.round((high + low) / 2, 4), 1 + volume // 90)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return {f"ZZ{number:05d}": (*row[:6], int(row[6])) for number, row in enumerate(rows)}

    def previous_close(self, symbol: str, day: date) -> float | None:
        """The raw close of the last session before `day`."""
        bars = self.days(symbol, day - timedelta(days=10), day - timedelta(days=1))
        return float(bars.close[-1]) if len(bars) else None


def _with_changes(bars: Bars, changes: dict[int, dict[str, Any]]) -> Bars:
    for at, columns in changes.items():
        found = np.flatnonzero(bars.ts == at)
        for name, value in columns.items():
            column = getattr(bars, name).copy()
            column[found] = value
            bars = replace(bars, **{name: column})
    return bars
