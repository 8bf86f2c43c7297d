"""Seeded made-up bars of any symbol and range, for tests and benchmarks. Never real: they are called `synthetic`.

Each session is drawn from a generator of its own, seeded by (seed, symbol, session), so any cutting of a range
into requests gives the same bars. Prices walk within the session and start near a slowly moving level.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate, make_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import REGULAR, Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE, Window, intersect, to_micros

from .base import Answer, Lifetime, Request, Served, Settle

# A piece of this many sessions holds some 60,000 extended-hours minutes: about 5 MB.
_PIECE = 64


class SyntheticProvider:
    """`withheld`: stretches, by symbol, that it pretends not to have. `extended`: pre- and post-market too."""

    name = "synthetic"
    settle = Settle("close", timedelta(minutes=15))
    live = False

    def __init__(
        self, *, seed: int = 1, extended: bool = False, withheld: dict[str, Sequence[Window]] | None = None
    ) -> None:
        self._seed = seed
        self._extended = extended
        self._withheld = withheld or {}

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:  # noqa: ARG002  (it makes up any instrument)
        window = Window(int(sessions.day_start[0]), int(sessions.day_end[-1]))
        return Served(window, "synthetic bars of any session")

    def serves_today(self, instrument: Instrument) -> bool:  # noqa: ARG002  (it makes up any instrument)
        return True

    def page_rows(self, timeframe: Base) -> int | None:  # noqa: ARG002  (no requests)
        return None

    def expected_wait(self, requests: int) -> float:  # noqa: ARG002  (none waits)
        return 0.0

    def lifetime(self, symbol: str) -> Lifetime | None:  # noqa: ARG002  (none has an end)
        return None

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        sessions = request.sessions
        known = Window(int(sessions.day_start[0]), _known_until(request, to_micros(now)))
        for window in intersect([request.window], [known]):
            # From the session whose day holds the window's start, or the next one.
            low = int(np.searchsorted(sessions.day_end, window.start, side="right"))
            stop = sessions.rows(window).stop
            edges = [window.start, *sessions.day_start[low + _PIECE : stop : _PIECE].tolist(), window.end]
            for start, end in pairwise(edges):
                rows = range(low, min(low + _PIECE, stop))
                bars = concatenate([self._session(request, row) for row in rows])
                piece = Window(start, end)
                yield Answer(self._keep(request, bars, piece), (piece,))
                low += _PIECE

    def _keep(self, request: Request, bars: Bars, piece: Window) -> Bars:
        kept = (bars.ts >= piece.start) & (bars.ts < piece.end)
        for hole in self._withheld.get(request.instrument.symbol, ()):
            kept &= ~((bars.ts >= hole.start) & (bars.ts < hole.end))
        return bars.take(kept)

    def _session(self, request: Request, row: int) -> Bars:
        sessions, symbol = request.sessions, request.instrument.symbol
        parts = sessions.parts
        mine = _parts_of(sessions, row)
        if not self._extended:
            mine = mine[parts.segment[mine] == REGULAR]
        ts = np.concatenate([np.arange(parts.start[p], parts.end[p], MINUTE, dtype=np.int64) for p in mine])
        day: date = sessions.session[row].astype(object)
        minutes = _walk(ts, self._seed, symbol, day)
        return minutes if request.timeframe == "1m" else _day(minutes, int(sessions.day_start[row]))


def _known_until(request: Request, now: int) -> int:
    """Where knowledge ends: no minute that is under way at `now`, and no day that is."""
    if request.timeframe == "1m":
        return now - now % MINUTE
    sessions = request.sessions
    open_row = int(np.searchsorted(sessions.post_close, now, side="right"))
    return now if open_row == len(sessions) else min(now, int(sessions.day_start[open_row]))


def _parts_of(sessions: Sessions, row: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    low, high = np.searchsorted(sessions.parts.row, [row, row + 1])
    return np.arange(low, high)


def _walk(ts: np.ndarray[tuple[int], np.dtype[np.int64]], seed: int, symbol: str, day: date) -> Bars:
    """One session's minutes: a random walk in the log of the price, volumes that swell at both ends."""
    name = zlib.crc32(symbol.encode())
    random = np.random.default_rng([seed, name, day.toordinal()])
    n = len(ts)
    level = 20 + name % 400 + 5 * np.sin(day.toordinal() / 90 + name % 7)
    path = np.log(level) + np.cumsum(random.normal(0, 6e-4, n + 1))
    opens, closes = np.round(np.exp(path[:-1]), 4), np.round(np.exp(path[1:]), 4)
    highs = np.round(np.maximum(opens, closes) * (1 + np.abs(random.normal(0, 3e-4, n))), 4)
    lows = np.round(np.minimum(opens, closes) * (1 - np.abs(random.normal(0, 3e-4, n))), 4)
    swell = 0.5 + 2 * (np.linspace(-1, 1, n) ** 4)
    volumes = np.round(1 + random.gamma(1.6, 20_000, n) * swell, 2)
    trades = 1 + random.poisson(volumes / 90)
    vwaps = np.round((highs + lows + closes) / 3, 4)
    return make_bars(ts, opens, highs, lows, closes, volumes, vwaps, trades)


def _day(minutes: Bars, start: int) -> Bars:
    turnover = float(minutes.vwap @ minutes.volume)
    volume = float(minutes.volume.sum())
    return make_bars(
        [start],
        [minutes.open[0]],
        [minutes.high.max()],
        [minutes.low.min()],
        [minutes.close[-1]],
        [volume],
        [turnover / volume],
        [int(minutes.trades.sum())],
    )
