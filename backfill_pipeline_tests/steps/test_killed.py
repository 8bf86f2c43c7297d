"""Killed at any moment, the next run ends in the tables of one clean run."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime

import psycopg2
import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.connection import connect
from backfill_pipeline_tests.steps.one_run import NOW, run
from backfill_pipeline_tests.steps.warehouses import Clock, backfill, empty, listed, opened
from backfill_pipeline_tests.tables import Tables, differences, tables

ROUNDS = 10
FIRST, LAST = date(2024, 5, 13), date(2024, 8, 9)  # two half-years, so two transactions of minutes
LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)
PARTS = ((INTRADAY, FIRST, LAST), (DAILY, FIRST, LAST))


def _clean(url: str) -> tuple[Tables, float]:
    """The tables of one clean run, and how long it took in seconds."""
    with opened(url, SyntheticProvider(), NOW) as warehouse:
        warehouse.sessions("XNYS")
        started = time.monotonic()
        run(url, PARTS)
        took = time.monotonic() - started
        return tables(warehouse.conn), took


def test_a_run_killed_at_any_moment_is_healed_by_the_next(database_url: str) -> None:
    clean, seconds = _clean(database_url)
    assert len(clean["bars"]) > 30_000
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["backfill_pipeline_tests.steps.one_run"])
    chance = random.Random(1)
    left_behind = set()
    for _ in range(ROUNDS):
        with opened(database_url, SyntheticProvider(), NOW) as warehouse:
            empty(warehouse)
            child = context.Process(target=run, args=(database_url, PARTS))
            child.start()
            child.join(chance.uniform(0, seconds))
            child.kill()
            child.join()
            left_behind.add(sum(len(rows) for rows in tables(warehouse.conn).values()))
            run(database_url, PARTS)
            assert differences(tables(warehouse.conn), clean) == []
    assert len(left_behind) > 1  # not always before the first commit


class _Cut(SyntheticProvider):
    """Ends a backend while it is being asked."""

    victim: int

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        _terminate(self._url, self.victim)
        return super().fetch(request, now)


def _terminate(url: str, pid: int) -> None:
    with closing(connect(url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))


def test_a_backend_that_ends_during_a_request_leaves_no_lock_behind(database_url: str) -> None:
    provider = _Cut(database_url)
    with opened(database_url, provider, NOW) as warehouse:
        abc = listed(warehouse)
        provider.victim = warehouse.conn.info.backend_pid
        with pytest.raises(LOST):
            backfill(warehouse, abc, DAILY, FIRST, LAST)
    with opened(database_url, SyntheticProvider(), NOW) as warehouse:
        outcomes = backfill(warehouse, abc, DAILY, FIRST, LAST)
        assert {outcome.state for outcome in outcomes.values()} == {"complete"}


def test_a_backend_that_ends_in_the_middle_is_healed_by_the_next_run(database_url: str) -> None:
    clean, seconds = _clean(database_url)
    chance = random.Random(2)
    broken = 0
    for _ in range(3):
        with opened(database_url, SyntheticProvider(), NOW) as warehouse:
            empty(warehouse)
            abc = listed(warehouse)
            doomed = connect(database_url)
            pid = doomed.info.backend_pid
            timer = threading.Timer(chance.uniform(0.1, 0.6) * seconds, _terminate, (database_url, pid))
            timer.start()
            try:
                for part in PARTS:
                    backfill(Warehouse(doomed, Router([SyntheticProvider()]), Clock(NOW)), abc, *part)
            except LOST:
                broken += 1
            timer.join()
            doomed.close()
            run(database_url, PARTS)
            assert differences(tables(warehouse.conn), clean) == []
    assert broken
