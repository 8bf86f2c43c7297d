"""A database that goes away in the middle of a run: the step starts again by itself, and the run is a good one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import dagster as dg
import psycopg2
import psycopg2.errors
import pytest

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.storage.connection import DatabaseError
from backfill_pipeline.storage.lost import LostDatabaseError, was_lost
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, site

DAYS = ("2024-03-07", "2024-03-08")


class Cutting(Exchange):
    """Ends every connection to the databases named while it is asked, so many times."""

    def __init__(self, server: EmbeddedServer, times: int) -> None:
        super().__init__()
        self._server, self._times = server, times
        self.databases: list[str] = []

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        if self._times:
            self._times -= 1
            with closing(psycopg2.connect(self._server.url("postgres"))) as conn, conn.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s)", (self.databases,)
                )
        yield from super().fetch(request, now)


def made(server: EmbeddedServer, provider: Cutting, place: Site) -> None:
    market, dagster = place.pipeline.settings.database_url, place.pipeline.settings.dagster_database_url
    assert market is not None
    assert dagster is not None
    provider.databases = [url.split("@/")[1].split("?")[0] for url in (market, dagster)]
    place.register("ABC", bars=["1m"])


def test_a_run_that_loses_its_connections_starts_its_step_again_and_succeeds(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    provider = Cutting(server, times=2)
    with site(server, tmp_path, provider) as place:
        made(server, provider, place)
        result = place.chain("backfill_intraday", *(f"{day}|ABC" for day in DAYS))
        assert len(provider.requests) == 3
        kinds = [event.event_type for event in result.all_events]
        assert kinds.count(dg.DagsterEventType.STEP_RESTARTED) == 2
        assert place.colours(INTRADAY, "features_4h", keys("ABC", *DAYS)) == green(*keys("ABC", *DAYS))
        assert place.query("SELECT status, error_message FROM backfill_jobs") == [("completed", None)]


def test_a_step_does_not_start_again_for_ever(server: EmbeddedServer, tmp_path: Path) -> None:
    provider = Cutting(server, times=100)
    with site(server, tmp_path, provider) as place:
        made(server, provider, place)
        place.chain("backfill_intraday", *(f"{day}|ABC" for day in DAYS), ok=False)
        assert len(provider.requests) == 6


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(psycopg2.OperationalError("server closed the connection unexpectedly"), True, id="hung up"),
        pytest.param(psycopg2.InterfaceError("connection already closed"), True, id="closed before"),
        pytest.param(DatabaseError("PostgreSQL at …: refused"), True, id="cannot be had anew"),
        pytest.param(chained(RuntimeError("too many retries"), psycopg2.OperationalError()), True, id="wrapped"),
        pytest.param(chained(psycopg2.OperationalError(), ValueError()), True, id="itself"),
        pytest.param(psycopg2.errors.UniqueViolation("twice"), False, id="a constraint"),
        pytest.param(ValueError("no"), False, id="something else"),
        pytest.param(LostDatabaseError("told already"), False, id="told already"),
    ],
)
def test_what_a_lost_database_looks_like(error: Exception, expected: bool) -> None:
    assert was_lost(error) is expected


def test_a_query_that_somebody_canceled_lost_no_database(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as conn, conn.cursor() as cursor:
        cursor.execute("SET statement_timeout = 10")
        with pytest.raises(psycopg2.errors.QueryCanceled) as raised:
            cursor.execute("SELECT pg_sleep(5)")
    assert not was_lost(raised.value)
