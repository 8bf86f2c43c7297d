"""A market of several kinds of symbols, what its provider withholds of them, and what must be found missing then."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from backfill_pipeline.domain.bars import Bars, no_bars
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.domain.windows import MINUTE, Window, to_datetime, union
from backfill_pipeline_tests.standin import Market
from backfill_pipeline_tests.standin.bars import one_bar

# Of stretches, in minutes; 0: the whole session, every segment; -2: two sessions that follow one another.
LENGTHS = (1, 2, 5, 30, 120, 0, -2)


@dataclass(frozen=True)
class Kind:
    """A symbol that trades each regular minute with chance `trades`. The day's volume is that of its minutes and
    `auction` of it, off by `noise` (relative, one standard deviation). `daily`: its days are followed, too. `extended`:
    it trades before and after the market. `lost`: the share of its sessions that are withheld in part; `single`: single
    minutes are among what is withheld.
    """

    symbol: str
    trades: float = 1.0
    auction: float = 0.0
    noise: float = 0.0
    daily: bool = True
    extended: bool = False
    lost: float = 0.4
    single: bool = True

    @property
    def always(self) -> bool:
        return self.trades == 1

    @property
    def chains(self) -> tuple[Chain, ...]:
        return (INTRADAY, DAILY) if self.daily else (INTRADAY,)


class Withholding(Market):
    """The stand-in's market with symbols of these kinds. Days can be withheld, too."""

    def __init__(self, kinds: Sequence[Kind], seed: int) -> None:
        super().__init__(seed, [kind.symbol for kind in kinds])
        self.kinds = {kind.symbol: kind for kind in kinds}
        self.lost_days: set[tuple[str, date]] = set()

    def kind(self, symbol: str) -> Kind:
        """One that is asked for to see how far history reaches, SPY, is like any other."""
        return self.kinds.get(symbol, Kind(symbol))

    def provide_again(self) -> None:
        self.withheld.clear()
        self.lost_days.clear()
        self.forget()

    def draw(self, first: date, last: date) -> int:
        """Withhold stretches of every symbol's sessions from `first` to `last`; their number."""
        for kind in self.kinds.values():
            random = np.random.default_rng([self.seed, zlib.crc32(kind.symbol.encode())])
            windows = union(self._drawn(kind, first, last, random))
            self.withheld[kind.symbol] = windows
        self.forget()
        return sum(map(len, self.withheld.values())) + len(self.lost_days)

    def _drawn(self, kind: Kind, first: date, last: date, random: np.random.Generator) -> Iterator[Window]:
        sessions = self.sessions(kind.symbol)
        rows = sessions.rows_between(first, last)
        for row in range(rows.start, rows.stop):
            if kind.daily and random.random() < 0.06:
                self.lost_days.add((kind.symbol, self.ticker_day(kind.symbol, row)))
            if random.random() >= kind.lost:
                continue
            for _ in range(random.integers(1, 4)):
                length = int(random.choice(LENGTHS[not kind.single :], p=_shares(len(LENGTHS) - (not kind.single))))
                start, end = int(sessions.day_start[row]), int(sessions.day_end[min(row - length // 2, rows.stop - 1)])
                if length > 0:
                    start = int(sessions.open[row])
                    start += MINUTE * int(random.integers(0, max(1, sessions.expected_1m[row] - length + 1)))
                    end = start + length * MINUTE
                yield Window(start, end)

    def lacking(self, symbol: str, first: date, last: date) -> dict[date, list[Window]]:
        """By session, the runs of regular minutes that a client must find absent: lost ones, and silent ones."""
        sessions, found = self.sessions(symbol), {}
        for row in range(*sessions.rows_between(first, last).indices(len(sessions))):
            minutes = set(range(int(sessions.open[row]), int(sessions.close[row]), MINUTE))
            minutes -= set(self.session_minutes(symbol, row).ts.tolist())
            if minutes:
                found[self.ticker_day(symbol, row)] = union(Window(ts, ts + MINUTE) for ts in sorted(minutes))
        return found

    def lost_volume(self, symbol: str, first: date, last: date) -> dict[int, float]:
        """Volume by regular minute that traded and is withheld."""
        sessions, found = self.sessions(symbol), {}
        for row in range(*sessions.rows_between(first, last).indices(len(sessions))):
            traded = self.traded(symbol, row)
            gone = ~np.isin(traded.ts, self.session_minutes(symbol, row).ts)
            regular = (traded.ts >= sessions.open[row]) & (traded.ts < sessions.close[row])
            lost = traded.take(gone & regular)
            found |= dict(zip(lost.ts.tolist(), lost.volume.tolist(), strict=True))
        return found

    def day(self, symbol: str, row: int, *, adjusted: bool = False, until: int | None = None) -> Bars:
        lost = (symbol, self.ticker_day(symbol, row)) in self.lost_days
        return no_bars() if lost else super().day(symbol, row, adjusted=adjusted, until=until)

    def _make(self, symbol: str, row: int) -> Bars:
        kind, bars = self.kind(symbol), super()._make(symbol, row)
        parts = self.sessions(symbol).parts
        regular = parts.segment[parts.locate(bars.ts)] == REGULAR
        chance = np.where(regular, kind.trades, 0.2 * kind.extended)
        return bars.take(self._random(symbol, 2 * row).random(len(bars)) < chance)

    def _make_day(self, symbol: str, row: int, until: int | None) -> Bars:  # noqa: ARG002  (past days only)
        kind, bar = self.kind(symbol), one_bar(self.traded(symbol, row), int(self.sessions(symbol).day_start[row]))
        off = 1 + kind.noise * self._random(symbol, 2 * row + 1).standard_normal()
        return replace(bar, volume=bar.volume * (1 + kind.auction) * off)

    def _random(self, symbol: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(symbol.encode()), number])


def _shares(count: int) -> list[float]:
    """Long stretches are rare."""
    weights = [4.0] * (count - 2) + [1.0, 0.3]
    return [weight / sum(weights) for weight in weights]


def named(windows: Sequence[Window]) -> list[str]:
    return [f"{to_datetime(window.start):%m-%d %H:%M}+{(window.end - window.start) // MINUTE}" for window in windows]
