"""Nights in simulated time, at the level of the steps: clocks that jump, and a desk of 100 symbols with outages."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random

import psycopg2

from backfill_pipeline.domain.windows import DAY
from backfill_pipeline.providers.base import Answer, Provider, Request
from backfill_pipeline.providers.errors import ProviderError, ServerTrouble, Unreachable
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.nightly import nightly_tasks
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.connection import connect
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.nights import STARTS, follow, night
from backfill_pipeline_tests.steps.polygon_runs import untrue
from backfill_pipeline_tests.steps.warehouses import Clock, opened, query
from backfill_pipeline_tests.tables import Tables, differences, tables
from benchmarks.database import fresh_database

from .places import Part

# A Tuesday, and the nights after it; Friday the 19th is a holiday.
SINCE, FIRST, NIGHTS = date(2026, 6, 2), datetime(2026, 6, 3, 6, tzinfo=UTC), 20
SYMBOLS = [f"S{number:03d}" for number in range(100)]
SETTLED = timedelta(days=12)  # longer than anything is corrected or attempted again


class Outages(SyntheticProvider):
    """Fails for symbols that are out, after a part of the answer; for all where `down`. Counts what it refused."""

    def __init__(self) -> None:
        super().__init__()
        self.out: dict[str, ProviderError] = {}
        self.down = False
        self.refused = 0

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        if self.down:
            self.refused += 1
            raise Unreachable("synthetic: nobody answers")
        if request.instrument.symbol in self.out:
            self.refused += 1
            first = request.window
            half = (first.start + first.end) // 2 // DAY * DAY
            if first.start < half:
                cut = Request(request.instrument, request.timeframe, type(first)(first.start, half), request.sessions)
                yield from super().fetch(cut, now)
            raise self.out[request.instrument.symbol]
        yield from super().fetch(request, now)


def nights(rounds: int, seed: int) -> Part:
    """Each night some symbols fail, some nights all do or nobody works; two calm nights later nothing may lack. A night
    is two runs side by side.
    """
    part = Part("nights")
    end = FIRST + timedelta(days=NIGHTS) + SETTLED
    clean = _one_night(SyntheticProvider(), end)
    for number in range(rounds):
        chance, outages = Random(f"nights {seed} {number}"), Outages()
        with fresh_database("nights") as url, opened(url, outages, FIRST) as warehouse:
            follow(warehouse, SYMBOLS, SINCE)
            for day in range(NIGHTS):
                now = FIRST + timedelta(days=day, minutes=chance.uniform(0, 60))
                if chance.random() < 0.1:
                    part.counted["nights without a machine"] += 1
                    continue
                _troubled_night(part, url, now, chance, outages)
            outages.out, outages.down = {}, False
            for now in (end - timedelta(days=1), end):
                _at_once(url, outages, now)
            part.counted["requests refused"] += outages.refused
            part.note(_stuck(warehouse) + differences(tables(warehouse.conn), clean, most=3), f"round {number}")
    return part


def _troubled_night(part: Part, url: str, now: datetime, chance: Random, outages: Outages) -> None:
    outages.down = chance.random() < 0.1
    trouble = ServerTrouble("synthetic: 503"), Unreachable("synthetic: the line is cut")
    outages.out = {name: chance.choice(trouble) for name in SYMBOLS if chance.random() < 0.2}
    part.counted["nights"] += 1
    part.counted["nights without the provider"] += outages.down
    part.counted["symbols cut off, over all nights"] += len(SYMBOLS) if outages.down else len(outages.out)
    _at_once(url, outages, now)


def _at_once(url: str, of: Provider, now: datetime) -> None:
    """One night in runs of half of the symbols each, side by side; a provider that is down ends them."""

    def run(place: int) -> None:
        with closing(connect(url)) as conn, suppress(ProviderError):
            warehouse = Warehouse(conn, Router([of]), Clock(now))
            tasks = nightly_tasks(warehouse, STARTS)
            for _ in run_tasks(warehouse, [one for one in tasks if _half(one) == place], Work()):
                pass

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))


def _half(task: Task) -> int:
    return int(task.instrument.symbol[1:]) % 2


def _one_night(of: Provider, now: datetime) -> Tables:
    with fresh_database("clean") as url, opened(url, of, now) as warehouse:
        follow(warehouse, SYMBOLS, SINCE)
        _at_once(url, of, now)
        return tables(warehouse.conn)


def clock(rounds: int, seed: int) -> Part:
    """Runs at times that jump by days, forth and back, of the machine and of the provider together or apart."""
    part, names = Part("clock"), ["AAA", "BBB"]
    end = FIRST + SETTLED * 2
    with StandIn(now=end) as standin, fresh_database("clocks") as url:
        clean = _by_clocks(url, standin, names, [(end, end)])
        for number in range(rounds):
            chance = Random(f"clock {seed} {number}")
            moments = []
            for _ in range(chance.randint(3, 8)):
                now = FIRST + timedelta(hours=chance.uniform(0, 24 * 14))
                apart = timedelta(hours=chance.choice((0, 0, chance.uniform(-30, 30))))
                part.counted["clocks that differ"] += bool(apart)
                moments.append((now, now + apart))
            part.counted["runs"] += len(moments)
            part.counted["jumps back"] += sum(b[0] < a[0] for a, b in pairwise(moments))
            found = _by_clocks(url, standin, names, [*moments, (end - timedelta(days=1),) * 2, (end, end)])
            part.note(differences(found, clean, most=3), f"round {number}, {[f'{m:%d %H:%M}' for m, _ in moments]}")
    return part


def _by_clocks(url: str, standin: StandIn, names: list[str], moments: list[tuple[datetime, datetime]]) -> Tables:
    """A night at each moment of (the machine, the provider)."""
    with psycopg2.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS market CASCADE")
    conn.close()
    with opened(url, provider(standin), moments[-1][0]) as warehouse:
        follow(warehouse, names, SINCE)
        for here, there in moments:
            standin.set(now=there)
            fresh = connect(url)
            with suppress(ProviderError):
                night(Warehouse(fresh, Router([provider(standin, now=here)]), Clock(here)), here)
            fresh.close()
        assert (wrong := untrue(warehouse, standin.market)) == [], wrong
        return tables(warehouse.conn)


def _stuck(warehouse: Warehouse) -> list[str]:
    """Locks that outlive a night."""
    held = query(warehouse, "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory'")
    return [f"still there: lock {lock}" for lock in held]
