"""Property: any page size, cutting into runs, order of completion or sequence of faults that ends well gives equal
databases, for minutes and for days, one by one and by the market.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.connection import connect
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import FAULT_NAMES, Market, StandIn
from backfill_pipeline_tests.standin.faults import TRADIER_PAGE_FAULTS, TRADIER_STATUS_FAULTS
from backfill_pipeline_tests.steps.polygon_runs import run, untrue
from backfill_pipeline_tests.steps.warehouses import Clock, empty, listed, opened, task
from backfill_pipeline_tests.tables import differences, tables

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
TOMORROW = NOW + timedelta(days=1)
ROUNDS = 7
PATIENCE = Patience(backoff=0.0001, connect=2.0, silence=0.2, whole=5.0)
NAMES = ("AAPL", "MSFT", "SPY")
# Less than a month old: an empty or refused answer about older days would be searched for the plan's edge.
DAYS = {INTRADAY: (date(2026, 7, 28), date(2026, 7, 31)), DAILY: (date(2026, 7, 8), date(2026, 7, 31))}
FAULTS = sorted(
    FAULT_NAMES
    - {*TRADIER_PAGE_FAULTS, *TRADIER_STATUS_FAULTS, "binance_unfinished"}
    # Not faults but the provider's word, until it restates it; a second's wait; a status of Binance.
    - {"missing_vw_n", "fractional_volume", "429_retry_after", "418"}
    # What is empty twice, the rest of a page's session too, is believed: one spelling, once a round.
    - {"empty_null", "empty_list"}
)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    market = Market(symbols=NAMES, bare_share=0.1)
    market.split("AAPL", date(2026, 8, 3), 1, 2)  # so that adjusted bars are others
    with StandIn(market, now=NOW) as running:
        yield running


@contextmanager
def jitter(standin: StandIn, chance: Random) -> Iterator[None]:
    """Answers come after 0 to 15 ms, each after another time, so that they overtake each other."""
    over = threading.Event()

    def shake() -> None:
        while not over.wait(0.002):
            standin.set(latency_seconds=chance.choice((0.0, 0.0, chance.uniform(0, 0.015))))

    thread = threading.Thread(target=shake)
    thread.start()
    yield
    over.set()
    thread.join()
    standin.set(latency_seconds=0.0)


def pieces(chance: Random, chain: Chain) -> list[tuple[date, date]]:
    """The chain's days, cut anywhere."""
    first, last = DAYS[chain]
    inner = [first + timedelta(days=n) for n in range(1, (last - first).days + 1)]
    starts = [first, *sorted(chance.sample(inner, chance.randint(0, 3)))]
    return [
        (start, end - timedelta(days=1))
        for start, end in zip(starts, [*starts[1:], last + timedelta(days=1)], strict=True)
    ]


def cut_into_runs(warehouse: Warehouse, chance: Random, chain: Chain) -> list[list[Task]]:
    """All symbols' days as runs of one or more tasks, none with two of the same symbol, in any order."""
    waiting = [
        task(warehouse, listed(warehouse, name), chain, *piece) for name in NAMES for piece in pieces(chance, chain)
    ]
    chance.shuffle(waiting)
    runs: list[list[Task]] = []
    for one in waiting:
        free = [r for r in runs if all(other.instrument != one.instrument for other in r)]
        if free and chance.random() < 0.6:
            chance.choice(free).append(one)
        else:
            runs.append([one])
    return runs


def go_through(url: str, standin: StandIn, runs: Sequence[Sequence[Task]], page_rows: int) -> None:
    """The runs one after the other, on a connection of their own."""
    with closing(connect(url)) as conn:
        warehouse = Warehouse(conn, Router([provider(standin)]), Clock(NOW))
        for tasks in runs:
            run(warehouse, provider(standin, patience=PATIENCE, page_rows=page_rows), tasks, NOW)


@pytest.mark.parametrize("chain", [INTRADAY, DAILY], ids=["minutes", "days"])
def test_any_pages_cuts_orders_and_faults_that_end_well_give_equal_databases(
    database_url: str, standin: StandIn, chain: Chain
) -> None:
    met: set[str] = set()
    with opened(database_url, provider(standin), NOW) as warehouse:
        whole = [task(warehouse, listed(warehouse, name), chain, *DAYS[chain]) for name in NAMES]
        assert run(warehouse, provider(standin), whole, TOMORROW).states == {"complete"}
        assert untrue(warehouse, standin.market) == []
        clean = tables(warehouse.conn)
        for seed in range(ROUNDS):
            chance = Random(f"{chain.name} {seed}")
            empty(warehouse)
            standin.reset()
            page_rows = int((300 if chain is INTRADAY else 3) * 10 ** chance.uniform(0, 2.2))
            struck = chance.sample(FAULTS, 6) if seed else []  # the first round is calm
            # A server whose pages are smaller than asked and break off unsaid cannot be told from one that has no more.
            limit = None if "full_page_without_next_url" in struck else chance.choice((None, max(2, page_rows // 2)))
            standin.set(page_limit=limit)
            for name in struck:
                if name == "empty_absent":
                    standin.fault(chance.choice(("empty_absent", "empty_null", "empty_list")), nth=chance.randint(1, 4))
                else:
                    standin.fault(name, probability=0.4, times=chance.randint(1, 3), seed=seed)
            runs = cut_into_runs(warehouse, chance, chain)
            with jitter(standin, Random(seed)), ThreadPoolExecutor(2) as pool:
                middle = chance.randint(0, len(runs))
                for done in [
                    pool.submit(go_through, database_url, standin, part, page_rows)
                    for part in (runs[:middle], runs[middle:])
                ]:
                    done.result()
            told = f"round {seed}: pages of {page_rows} (server: {limit}), {len(runs)} runs, {', '.join(struck)}"
            assert untrue(warehouse, standin.market) == [], told
            met |= {seen.fault for seen in standin.requests}
            standin.clear_faults()
            again = [task(warehouse, listed(warehouse, name), chain, *DAYS[chain]) for name in NAMES]
            calm = run(warehouse, provider(standin, page_rows=page_rows), again, TOMORROW)
            assert (calm.states, calm.error) == ({"complete"}, None), told
            assert differences(tables(warehouse.conn), clean) == [], told
            assert untrue(warehouse, standin.market) == [], told
    assert len(met) > 15, f"too few faults struck: {met}"
