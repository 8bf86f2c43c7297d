"""The pipeline as a resource: opens the warehouse that steps work in. No Dagster, so that commands start fast."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Protocol

from backfill_pipeline.domain.grain import Grain, period_of
from backfill_pipeline.domain.sessions import UnknownCalendarError
from backfill_pipeline.domain.timeframe import CHAINS, Chain
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.budget import Priority
from backfill_pipeline.providers.configured import chosen_names, configured_router
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.providers.router import Router
from backfill_pipeline.settings import Settings, SettingsError
from backfill_pipeline.steps.budgets import share
from backfill_pipeline.steps.disk import Disk, DiskFullError
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.budget import OwnConnection
from backfill_pipeline.storage.connection import DatabaseError, connect
from backfill_pipeline.storage.databases import open_databases
from backfill_pipeline.storage.lost import LostDatabaseError, was_lost
from backfill_pipeline.storage.migrations import MigrationError
from backfill_pipeline.storage.server import ServerError
from backfill_pipeline.storage.symbols import UnknownSymbolError

# What a person can cause, and reads about in one line, in the UI and in a shell alike.
USER_ERRORS = (
    DatabaseError,
    DiskFullError,
    LostDatabaseError,
    MigrationError,
    ProviderError,
    RequestError,
    ServerError,
    SettingsError,
    UnknownCalendarError,
    UnknownSymbolError,
)

# A server that is restarted, or recovers from a crash, is back within this time, in seconds.
_COMES_BACK = 300.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def first_day(settings: Settings, chain: Chain) -> date:
    return settings.intraday_start if chain.base == "1m" else settings.daily_start


def grain_of(settings: Settings, chain: Chain) -> Grain:
    return settings.intraday_grain if chain.base == "1m" else settings.daily_grain


def _wait_for(settings: Settings) -> None:
    """Until both databases are up: the embedded server is started here. Raises DatabaseError or ServerError."""
    deadline = time.monotonic() + _COMES_BACK
    while True:
        try:
            open_databases(settings)
        except (DatabaseError, ServerError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


class Listener(Protocol):
    """Told what runs in this process do: a shell's progress bar."""

    def outcome(self, chain: Chain, outcome: PartitionOutcome, work: Work) -> None:
        """A partition is settled."""

    def finished(self, work: Work) -> None:
        """The run is through all its tasks, or an error stopped it; called before it fails for what is missing."""


@dataclass(frozen=True)
class Pipeline:
    """Settings, provider and clock of the assets. `provider` None: the one the settings name."""

    settings: Settings
    provider: Provider | None = None
    now: Callable[[], datetime] = utc_now
    listener: Listener | None = None

    @contextmanager
    def open(self, priority: Priority = "backfill") -> Iterator[Warehouse]:
        """A warehouse on the migrated database, started if it is the embedded one. `priority`: of its requests. Raises
        one-line errors; LostDatabaseError when a database that went away meanwhile is back.
        """
        if self.provider is None:
            chosen_names(self.settings)  # a wrong setting is told before a server is started for it
        databases = open_databases(self.settings)
        try:
            with closing(connect(databases.market_url)) as conn, closing(OwnConnection(databases.market_url)) as own:
                router = (
                    configured_router(self.settings, partial(share, own), priority)
                    if self.provider is None
                    else Router([self.provider])
                )
                disk = Disk(databases.home, self.settings.min_free_gb) if databases.embedded else None
                yield Warehouse(conn, router, self.now, self.settings.intraday_grain, self.settings.daily_grain, disk)
        except BaseException as error:  # Dagster's tables are lost with ours, and it wraps what it meets
            if not was_lost(error):
                raise
            _wait_for(self.settings)
            raise LostDatabaseError(
                "the database went away, and is back: what is stored stays, the same again goes on from there"
            ) from error

    @property
    def starts(self) -> dict[str, date]:
        """By chain, the first day that has a partition: the first of its first period."""
        return {
            chain.name: period_of(first_day(self.settings, chain), grain_of(self.settings, chain)).first
            for chain in CHAINS
        }
