"""A market of several kinds of symbols, what its provider withholds of them, and what must be found absent then."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime

import numpy as np

from backfill_pipeline.domain.bars import Bars, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.domain.windows import MINUTE, Window, union
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests import databases
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.standin.bars import one_bar
from backfill_pipeline_tests.steps.warehouses import listed, opened, task

# Stretches in minutes and their shares. 0: a whole session, every segment; -2: two sessions that follow one another.
LENGTHS = {1: 0.18, 2: 0.18, 5: 0.18, 30: 0.18, 120: 0.18, 0: 0.07, -2: 0.03}
# Sessions of which most have bars: who has none in its last three is looked up, and may be gone.
_LAST = 3


@dataclass(frozen=True)
class Kind:
    """A symbol followed from `first` to `last` that trades each regular minute with chance `trades`.

    The day's volume is that of its minutes and `auction` of it, off by `noise` (relative, one standard deviation).
    `daily`: its days are followed, too. `extended`: it trades before and after the market. `lost`: the share of its
    sessions that are withheld in part. `shortest`: minutes that are withheld in a row at least: where the days' volume
    does not tell, two lost minutes may excuse each other.
    """

    symbol: str
    first: date
    last: date
    trades: float = 1.0
    auction: float = 0.0
    noise: float = 0.0
    daily: bool = True
    extended: bool = False
    lost: float = 0.6
    shortest: int = 1

    @property
    def always(self) -> bool:
        return self.trades == 1

    @property
    def chains(self) -> tuple[Chain, ...]:
        return (INTRADAY, DAILY) if self.daily else (INTRADAY,)


@contextmanager
def database(server: EmbeddedServer, standin: StandIn, now: datetime) -> Iterator[Warehouse]:
    """A warehouse on a database that is dropped afterwards; its provider is the stand-in."""
    with databases.database(server) as url, opened(url, provider(standin), now) as made:
        yield made


class Withholding(Market):
    """The stand-in's market with symbols of these kinds. Days can be withheld, too."""

    def __init__(self, kinds: Sequence[Kind], seed: int = 1) -> None:
        super().__init__(seed, [kind.symbol for kind in kinds])
        self.kinds = {kind.symbol: kind for kind in kinds}
        self.lost_days: set[tuple[str, date]] = set()

    def instrument(self, warehouse: Warehouse, symbol: str) -> Instrument:
        return listed(warehouse, symbol, *(("crypto", "24/7") if symbol.startswith("X:") else ("stock", "XNYS")))

    def tasks(
        self,
        warehouse: Warehouse,
        symbols: Iterable[str] = (),
        chains: Sequence[Chain] = (INTRADAY, DAILY),
        **days: date,
    ) -> list[Task]:
        """Of all kinds or those of `symbols`: all their days, or those from `first` to `last`."""
        found = []
        for kind in (self.kinds[symbol] for symbol in symbols or self.kinds):
            instrument = self.instrument(warehouse, kind.symbol)
            span = {"first": kind.first, "last": kind.last} | days
            found += [task(warehouse, instrument, chain, **span) for chain in chains if chain in kind.chains]
        return found

    def provide_again(self) -> None:
        self.withheld.clear()
        self.lost_days.clear()
        self.forget()

    def draw(self, seed: int) -> int:
        """Withhold stretches of every symbol; their number. Those that touch are one."""
        for kind in self.kinds.values():
            random = np.random.default_rng([seed, zlib.crc32(kind.symbol.encode())])
            self.withheld[kind.symbol] = union(self._drawn(kind, random))
        self.forget()
        return sum(map(len, self.withheld.values())) + len(self.lost_days)

    def _drawn(self, kind: Kind, random: np.random.Generator) -> Iterator[Window]:
        sessions = self.sessions(kind.symbol)
        lengths = [length for length in LENGTHS if length < 1 or length >= kind.shortest]
        shares = np.array([LENGTHS[length] for length in lengths])
        rows = self.rows_of(kind.symbol)
        for row in rows:
            if kind.daily and random.random() < 0.06:
                self.lost_days.add((kind.symbol, self.ticker_day(kind.symbol, row)))
            if random.random() >= kind.lost:
                continue
            for _ in range(random.integers(1, 7)):
                length = int(random.choice(lengths, p=shares / shares.sum()))
                start, end = int(sessions.day_start[row]), int(sessions.day_end[row - length // 2])
                if length > 0:
                    start = int(sessions.open[row]) + MINUTE * int(
                        random.integers(0, sessions.expected_1m[row] - length + 1)
                    )
                    end = start + length * MINUTE
                elif row - length // 2 > rows[-1] - _LAST:
                    continue
                yield Window(start, end)

    def rows_of(self, symbol: str) -> range:
        kind = self.kinds[symbol]
        sessions = self.sessions(symbol)
        return range(*sessions.rows_between(kind.first, kind.last).indices(len(sessions)))

    def absent(self, symbol: str) -> dict[date, list[Window]]:
        """By session, runs of regular minutes of which there is no bar to be had: withheld ones, and silent ones."""
        sessions, found = self.sessions(symbol), {}
        for row in self.rows_of(symbol):
            minutes = set(range(int(sessions.open[row]), int(sessions.close[row]), MINUTE))
            minutes -= set(self.session_minutes(symbol, row).ts.tolist())
            found[self.ticker_day(symbol, row)] = union(Window(ts, ts + MINUTE) for ts in sorted(minutes))
        return found

    def lost(self, symbol: str) -> dict[int, float]:
        """Volume by regular minute that traded and is withheld."""
        sessions, found = self.sessions(symbol), {}
        for row in self.rows_of(symbol):
            traded = self.traded(symbol, row)
            gone = ~np.isin(traded.ts, self.session_minutes(symbol, row).ts)
            gone &= (traded.ts >= sessions.open[row]) & (traded.ts < sessions.close[row])
            found |= dict(zip(traded.ts[gone].tolist(), traded.volume[gone].tolist(), strict=True))
        return found

    def day(self, symbol: str, row: int, *, adjusted: bool = False, until: int | None = None) -> Bars:
        lost = (symbol, self.ticker_day(symbol, row)) in self.lost_days
        return no_bars() if lost else super().day(symbol, row, adjusted=adjusted, until=until)

    def _kind(self, symbol: str) -> Kind:
        """SPY, by which the provider sees how far history reaches, trades like any other."""
        return self.kinds.get(symbol, Kind(symbol, date.min, date.max))

    def _make(self, symbol: str, row: int) -> Bars:
        kind, bars = self._kind(symbol), super()._make(symbol, row)
        parts = self.sessions(symbol).parts
        regular = parts.segment[parts.locate(bars.ts)] == REGULAR
        chance = np.where(regular, kind.trades, 0.2 * kind.extended)
        return bars.take(self._random(symbol, 2 * row).random(len(bars)) < chance)

    def _make_day(self, symbol: str, row: int, until: int | None) -> Bars:
        kind, bar = self._kind(symbol), one_bar(self.traded(symbol, row), int(self.sessions(symbol).day_start[row]))
        off = 1 + kind.noise * self._random(symbol, 2 * row + 1).standard_normal()
        return replace(bar, volume=bar.volume * (1 + kind.auction) * off)

    def _random(self, symbol: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(symbol.encode()), number])
