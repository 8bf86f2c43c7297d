"""Several real providers at once: flat files in a folder, the others against the stand-in; and runs through them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.binance import BinanceProvider
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.providers.files import FilesProvider
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.providers.tradier import TradierProvider
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.polygon_runs import Told
from backfill_pipeline_tests.steps.warehouses import Clock, opened, query, task

# One more try, soon.
PATIENCE = Patience(tries=2, backoff=0.001, connect=2.0, silence=5.0)

_files_opened: list[str] = []
_hooked: list[bool] = []


@dataclass
class Desk:
    """A warehouse whose providers, and their clock and the stand-in's, a test sets as it goes."""

    conn_of: Warehouse
    standin: StandIn
    folder: Path
    clock: Clock

    def at(self, now: datetime) -> None:
        self.clock.now = now
        self.standin.set(now=now)

    def provider(self, name: str, **settings: Any) -> Provider:
        """A provider as it is configured by that name. `key`, `url`: other than the stand-in's; `budget`: shared."""
        of, budget = self.standin, {"budget": settings.get("budget", NoBudget()), "patience": PATIENCE}
        key = SecretStr(settings.get("key", of.key))
        if name == "files":
            return FilesProvider(self.folder)
        if name == "polygon":
            url = settings.get("url", of.url)
            return PolygonProvider(key, url, limits=OwnMemory(), now=self.clock, **budget)
        if name == "tradier":
            return TradierProvider(key, settings.get("url", of.tradier_url), now=self.clock, **budget)
        if name == "binance":
            return BinanceProvider(of.binance_url, **budget)
        raise AssertionError(name)

    def warehouse(self, *providers: Provider | str) -> Warehouse:
        chosen = [self.provider(one) if isinstance(one, str) else one for one in providers]
        return Warehouse(self.conn_of.conn, Router(chosen), self.clock)

    def run(self, providers: Sequence[Provider | str], tasks: Sequence[Task]) -> Told:
        told = Told()
        try:
            for _, outcome in run_tasks(self.warehouse(*providers), tasks, Work()):
                told.outcomes.append(outcome)
        except ProviderError as error:
            told.error = error
        return told

    def tasks(self, instruments: Sequence[Instrument], chain: Chain, first: date, last: date) -> list[Task]:
        return [task(self.conn_of, instrument, chain, first, last) for instrument in instruments]

    def sources(self, base: str = "1m", symbol: str | None = None) -> dict[date, str]:
        """Session → the providers of its base bars, and of the bars derived from them."""
        rows = query(
            self.conn_of,
            "SELECT session, string_agg(DISTINCT provider, ' ') FROM bars JOIN symbols USING (symbol_id)"
            " WHERE (timeframe = '1d') = (%s = '1d') AND timeframe <> '1w' AND symbol = coalesce(%s, symbol)"
            " GROUP BY session ORDER BY session",
            base,
            symbol,
        )
        return dict(rows)  # type: ignore[arg-type]  # pairs

    def asked(self, family: str) -> list[str]:
        """Paths of the requests that one provider's server got."""
        return [seen.path for seen in self.standin.requests if seen.family == family]

    def damage(self, day: date, kind: str = "minute") -> None:
        path = self.file(day, kind)
        path.write_bytes(path.read_bytes()[:-20])

    def file(self, day: date, kind: str = "minute") -> Path:
        return self.folder / f"us_stocks_sip/{kind}_aggs_v1/{day:%Y/%m}/{day}.csv.gz"


@contextmanager
def desk(url: str, standin: StandIn, folder: Path, now: datetime) -> Iterator[Desk]:
    standin.reset()
    standin.set(now=now, history_years=None, too_old="refused", today="served", not_entitled=("/benzinga/",))
    with opened(url, SyntheticProvider(), now) as warehouse:
        yield Desk(warehouse, standin, folder, Clock(now))


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Names of the day files that this process opens meanwhile, each time, as the interpreter tells it."""
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_note)  # for the life of the process
    _files_opened.clear()
    yield _files_opened
    _files_opened.clear()


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).endswith(".csv.gz") and arguments[1] in ("r", "rb"):
        _files_opened.append(Path(arguments[0]).name.removesuffix(".csv.gz"))


def days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
