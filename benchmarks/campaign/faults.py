"""Every fault that the stand-in knows, of every provider, in random order and mix during a backfill; then recovery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

from pydantic import SecretStr

from backfill_pipeline.domain.instruments import AssetClass
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.binance import BinanceProvider
from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.tradier import TradierProvider
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.standin.faults import (
    CALL_FAULTS,
    PAGE_FAULTS,
    ROW_FAULTS,
    STATUS_FAULTS,
    TRADIER_PAGE_FAULTS,
    TRADIER_STATUS_FAULTS,
    TRANSPORT_FAULTS,
)
from backfill_pipeline_tests.steps.polygon_runs import run as run_tasks
from backfill_pipeline_tests.steps.polygon_runs import untrue
from backfill_pipeline_tests.steps.test_any_order import jitter
from backfill_pipeline_tests.steps.warehouses import empty, listed, opened, task
from backfill_pipeline_tests.tables import Tables, differences, tables
from benchmarks.database import fresh_database

from .places import Part

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
TOMORROW = NOW + timedelta(days=1)
AT_ONCE = 6  # faults in one mix
QUICK = Patience(tries=3, backoff=0.0001, connect=2.0, silence=0.3, whole=5.0)
CALM = Patience(backoff=0.01)
# The provider's word until it restates it, which it only can while bars are not final.
AS_SENT = {"missing_vw_n", "fractional_volume"}
# An answer without bars, met twice, is believed: one a mix.
EMPTY = {"empty_absent", "empty_null", "empty_list", "tradier_null", "tradier_text_null", "tradier_missing"}
EMPTY |= {"tradier_data_null", "tradier_unmatched"}


@dataclass(frozen=True)
class Way:
    """A backfill that meets faults: of `first` to `last`, by one provider."""

    name: str
    symbols: tuple[str, ...]
    chain: Chain
    first: date
    last: date
    faults: frozenset[str]
    provider: Callable[..., Provider]
    asset_class: AssetClass = "stock"
    calendar: str = "XNYS"

    def tasks(self, warehouse: Warehouse) -> list[Task]:
        """A task each of every symbol."""
        instruments = [listed(warehouse, name, self.asset_class, self.calendar) for name in self.symbols]
        return [task(warehouse, one, self.chain, self.first, self.last) for one in instruments]

    def runs(self, warehouse: Warehouse, chance: Random) -> list[list[Task]]:
        """The same days cut in two anywhere, as runs in any order."""
        runs = []
        for whole in self.tasks(warehouse):
            cut = self.first + timedelta(days=chance.randrange((self.last - self.first).days))
            for first, last in ((self.first, cut), (cut + timedelta(days=1), self.last)):
                runs.append([task(warehouse, whole.instrument, self.chain, first, last)])
        chance.shuffle(runs)
        return runs


def _polygon(standin: StandIn, now: datetime, rows: int, patience: Patience = QUICK) -> Provider:
    return provider(standin, patience=patience, page_rows=rows, now=now)


def _tradier(standin: StandIn, now: datetime, _rows: int, patience: Patience = QUICK) -> Provider:
    return TradierProvider(
        SecretStr(standin.key), standin.tradier_url, budget=NoBudget(), patience=patience, now=lambda: now
    )


def _binance(standin: StandIn, _now: datetime, _rows: int, patience: Patience = QUICK) -> Provider:
    return BinanceProvider(standin.binance_url, budget=NoBudget(), patience=patience)


_STOCKS = ("AAPL", "MSFT", "SPY")
_ANY = {*STATUS_FAULTS, *TRANSPORT_FAULTS} - {"418"}
_POLYGON = frozenset(_ANY | {*CALL_FAULTS, *PAGE_FAULTS, *ROW_FAULTS} - AS_SENT - {"binance_unfinished"})
_TRADIER = frozenset(_ANY | {*TRADIER_STATUS_FAULTS, *TRADIER_PAGE_FAULTS})
_BINANCE = frozenset(_ANY | {"418", "binance_unfinished"})
JULY = date(2026, 7, 28), date(2026, 7, 31)
WAYS = (
    Way("polygon, minutes", _STOCKS, INTRADAY, *JULY, _POLYGON, _polygon),
    Way("polygon, days", _STOCKS, DAILY, date(2026, 7, 8), JULY[1], _POLYGON, _polygon),
    Way("polygon, not final", _STOCKS, INTRADAY, date(2026, 8, 4), date(2026, 8, 5), frozenset(AS_SENT), _polygon),
    Way("tradier", _STOCKS, INTRADAY, date(2026, 8, 3), date(2026, 8, 5), _TRADIER, _tradier),
    Way("binance", ("BTCUSDT",), INTRADAY, *JULY, _BINANCE, _binance, "crypto", "24/7"),
)


def run(rounds: int, seed: int) -> Part:
    part, market = Part("faults"), Market(symbols=_STOCKS, bare_share=0.1)
    market.split("AAPL", date(2026, 8, 3), 1, 2)  # so that adjusted bars are others
    with (
        StandIn(market, now=NOW) as standin,
        fresh_database("faults") as url,
        opened(url, provider(standin), NOW) as warehouse,
    ):
        for way in WAYS:
            _one_way(part, way, standin, warehouse, rounds, seed)
    return part


def _one_way(part: Part, way: Way, standin: StandIn, warehouse: Warehouse, rounds: int, seed: int) -> None:
    empty(warehouse)
    for now in (NOW, TOMORROW):
        standin.set(now=now)
        calm = run_tasks(warehouse, way.provider(standin, now, 50_000, CALM), way.tasks(warehouse), now)
        assert (calm.states, calm.error) == ({"complete"}, None), (way.name, calm.lines)
    clean, met = tables(warehouse.conn), set[str]()
    for number in range(rounds):
        chance = Random(f"{way.name} {seed} {number}")
        # Those that have not struck yet come first.
        waiting = sorted(way.faults, key=lambda name: (name in met, chance.random()))
        mix = [name for place, name in enumerate(waiting) if place < AT_ONCE]
        struck = _mixed(part, way, standin, warehouse, chance, mix, clean, f"{way.name}, mix {number}")
        met |= {*struck} - {""}
        part.counted["faults met"] += len([name for name in struck if name])
        part.counted["requests"] += len(struck)
    part.counted["kinds of faults met"] += len(met)
    part.counted["kinds of faults"] += len(way.faults)


def _mixed(
    part: Part,
    way: Way,
    standin: StandIn,
    warehouse: Warehouse,
    chance: Random,
    mix: Sequence[str],
    clean: Tables,
    what: str,
) -> list[str]:
    """Runs that meet the mix, then calm ones. What each request met."""
    empty(warehouse)
    standin.reset()
    standin.set(now=NOW)
    rows = int((300 if way.chain is INTRADAY else 3) * 10 ** chance.uniform(0, 2.2))
    empties = [name for name in mix if name in EMPTY]
    for name in [name for name in mix if name not in EMPTY]:
        standin.fault(name, probability=0.4, times=chance.randint(1, 3), seed=chance.randrange(1000))
    if empties:
        standin.fault(empties[0], nth=chance.randint(1, 4))
    with jitter(standin, chance):
        for tasks in way.runs(warehouse, chance):
            run_tasks(warehouse, way.provider(standin, NOW, rows), tasks, NOW)
    checked = way.provider is _polygon and not way.faults & AS_SENT
    found = untrue(warehouse, standin.market) if checked else []
    struck = [seen.fault for seen in standin.requests]
    standin.clear_faults()
    standin.set(now=TOMORROW)
    calm = run_tasks(warehouse, way.provider(standin, TOMORROW, rows, CALM), way.tasks(warehouse), TOMORROW)
    if (calm.states, calm.error) != ({"complete"}, None):
        found.append(f"the calm run: {calm.states} {calm.lines}")
    part.note([*found, *differences(tables(warehouse.conn), clean, most=3)], f"{what} of {', '.join(mix)}")
    return struck
