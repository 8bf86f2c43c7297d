"""Sites: a pipeline on databases of its own with the provider and the clock of a test; its runs and their colours."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline.database_urls import sqlalchemy_url
from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.event_log import BATCH_VARIABLE
from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.defs.partitions import chain_partitions
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base, Chain
from backfill_pipeline.providers.base import Answer, Provider, Request, Served
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.databases import open_databases
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import database

ROOT = Path(__file__).parents[1]
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
TABLES = ("symbols", "wanted", "served", "bars", "features", "session_status", "coverage", "bar_revisions")


class Exchange(SyntheticProvider):
    """Synthetic bars that remember what was asked. `fails`: what a symbol's request raises. `unserved`: symbols."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # passed on as given
        self.withheld = self._withheld
        self.requests: list[Request] = []
        self.fails: dict[str, Exception] = {}
        self.unserved: set[str] = set()

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        if instrument.symbol in self.unserved:
            return Served(None, f"the exchange never had {instrument.symbol}")
        return super().served(instrument, timeframe, sessions)

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        self.requests.append(request)
        if error := self.fails.get(request.instrument.symbol):
            raise error
        yield from super().fetch(request, now)


@dataclass(frozen=True)
class Site:
    """A pipeline on databases of its own, and the Dagster instance that a user of it would have."""

    pipeline: Pipeline
    instance: dg.DagsterInstance
    url: str

    def register(self, *symbols: str, bars: Sequence[str] = ("1m", "1d")) -> None:
        with self.pipeline.open() as warehouse:
            registration = parse_registration(
                symbols, asset_class=None, calendar=None, bars=bars, since=None, today=date(2024, 6, 3)
            )
            register_everywhere(self.instance, warehouse, registration)

    def at(self, now: datetime) -> "Site":
        """The same site at another time."""
        return replace(self, pipeline=replace(self.pipeline, now=lambda: now))

    def cut(self, **settings: object) -> "Site":
        """The same site with other settings."""
        return replace(
            self, pipeline=replace(self.pipeline, settings=self.pipeline.settings.model_copy(update=settings))
        )

    def chain(
        self, job: str, first: str, last: str, only: Sequence[str] | None = None, *, ok: bool = True
    ) -> dg.ExecuteInProcessResult:
        """A run of a chain's job over a range of partition keys."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self.run(job, ok=ok, tags=tags, asset_selection=only and [dg.AssetKey(name) for name in only])

    def run(self, job: str, *, ok: bool = True, **options: object) -> dg.ExecuteInProcessResult:
        definition = build_definitions(self.pipeline).resolve_job_def(job)
        result = definition.execute_in_process(instance=self.instance, raise_on_error=False, **options)  # type: ignore[arg-type]
        assert result.success is ok, failure(result)
        return result

    def colours(self, chain: Chain, asset: str, keys: Sequence[str]) -> dict[str, str]:
        """Key → MATERIALIZED or FAILED of those that have a colour in the UI; from a status cache built anew."""
        asset_key = dg.AssetKey(asset)
        self.instance.event_log_storage.wipe_asset_cached_status(asset_key)
        partitions = chain_partitions(self.pipeline.settings, chain)
        found = self.instance.get_status_by_partition(asset_key, list(keys), partitions) or {}
        return {str(key): status.value for key, status in found.items() if status}

    def every_colour(self, chain: Chain, keys: Sequence[str]) -> dict[str, str]:
        """The colours of the chain's assets, which must all be the same."""
        assets = [f"{kind}_{timeframe}" for kind in ("bars", "features") for timeframe in chain.timeframes]
        colours = {asset: self.colours(chain, asset, keys) for asset in assets}
        first = colours[assets[0]]
        assert all(of_asset == first for of_asset in colours.values()), colours
        return first

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(connect(self.url)) as conn, conn, conn.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def versions(self) -> dict[str, list[tuple[object, ...]]]:
        """Which version of every row there is: equal before and after means that nothing was written."""
        return {
            table: self.query(f"SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM {table}")
            for table in TABLES
        }

    def stored(self, symbol: str) -> dict[str, list[tuple[object, ...]]]:
        """Every bar and feature of a symbol, without what names the row."""
        of = "symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = %s)"
        return {
            table: self.query(
                f"SELECT to_jsonb(t) - 'symbol_id' FROM {table} AS t WHERE {of} ORDER BY t.timeframe, ts", symbol
            )
            for table in ("bars", "features")
        }


@contextmanager
def site(server: EmbeddedServer, home: Path, provider: Provider, now: datetime = NOW) -> Iterator[Site]:
    """A site on fresh databases of the test session's server, dropped in the end."""
    with database(server) as market, database(server, "dagster") as dagster:
        settings = Settings.model_construct(
            home=home,
            provider="synthetic",
            database_url=market,
            dagster_database_url=dagster,
            intraday_start=date(2024, 1, 1),  # a status is computed over all keys
            daily_start=date(2020, 1, 1),
        )
        open_databases(settings)
        shutil.copy(ROOT / "dagster.yaml", home)
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv(BATCH_VARIABLE, raising=False)
            environment.setenv("DAGSTER_DATABASE_URL", sqlalchemy_url(dagster))
            with dg.DagsterInstance.from_config(str(home)) as instance:
                yield Site(Pipeline(settings, provider, lambda: now), instance, market)


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The text a person reads of a failed run; empty for a good one."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            return described or str(data.error)
    return ""


def keys(symbol: str, *days: str) -> list[str]:
    return [f"{day}|{symbol}" for day in days]


def green(*of: str) -> dict[str, str]:
    return dict.fromkeys(of, "MATERIALIZED")


def red(*of: str) -> dict[str, str]:
    return dict.fromkeys(of, "FAILED")


def metadata(
    result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, asset: str
) -> dict[str, dict[str, object]]:
    """Key → metadata of what a run recorded for an asset, each of which must be there once."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
    found: dict[str, dict[str, object]] = {}
    for record in records:
        if record.run_id == result.run_id:
            assert record.partition_key is not None
            assert record.partition_key not in found, f"{record.partition_key} is recorded twice"
            materialization = record.asset_materialization
            assert materialization is not None
            found[str(record.partition_key)] = {name: v.value for name, v in materialization.metadata.items()}
    return found
