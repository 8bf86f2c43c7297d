"""One connection to Dagster's database kept by each process, shared by its three storages.

Dagster's own storages open one for every question: 110 in a small run, of some 3 ms each beside the server and of ten
times that over TLS to another machine.
"""

import functools
import os
from collections.abc import Mapping
from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import PostgresRunStorage, PostgresScheduleStorage
from dagster_postgres.utils import pg_url_from_config, set_pg_statement_timeout
from sqlalchemy import Engine, create_engine, event

from backfill_pipeline.database_urls import sqlalchemy_url


@functools.cache
def _engine(url: str, statement_timeout: int = 0, pool_recycle: int = -1, max_overflow: int = -1) -> Engine:
    # As Dagster's own, but for the pool. It keeps one connection, opens more where threads ask at once, and asks
    # the server for a sign of life before each use: after a restart of the database nobody meets the old one.
    pool = {"pool_size": 1, "pool_pre_ping": True, "pool_recycle": pool_recycle, "max_overflow": max_overflow}
    engine = create_engine(url, isolation_level="AUTOCOMMIT", **pool)
    if statement_timeout:
        event.listen(engine, "connect", lambda conn, _: set_pg_statement_timeout(conn, statement_timeout))
    os.register_at_fork(after_in_child=functools.partial(engine.dispose, close=False))
    return engine


class Pooled:
    """A storage of dagster-postgres that asks over its process's connection. First among a class's bases."""

    postgres_url: str

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        url = sqlalchemy_url(postgres_url)
        super().__init__(url, should_autocreate_tables, inst_data)  # type: ignore[call-arg]  # object, to mypy
        self._engine = _engine(url)

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """The webserver's limits; dagster-postgres would keep a connection for each storage again."""
        self._engine.dispose()
        self._engine = _engine(self.postgres_url, statement_timeout, pool_recycle, max_overflow)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )


class PooledRunStorage(Pooled, PostgresRunStorage):
    """Runs, tags, backfills, heartbeats."""


class PooledScheduleStorage(Pooled, PostgresScheduleStorage):
    """Schedules, sensors and their ticks."""
