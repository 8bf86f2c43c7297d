"""However runs are cut and ordered, over symbols, chains and dates, verdicts and all that follows are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from backfill_pipeline.domain.timeframe import CHAINS, DAILY, INTRADAY
from backfill_pipeline.domain.windows import MINUTE, Window, subtract, to_micros
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.polygon_runs import run
from backfill_pipeline_tests.steps.warehouses import empty, ny, query
from backfill_pipeline_tests.steps.withholding import Kind, Withholding, database
from backfill_pipeline_tests.tables import Tables, differences, tables

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
EARLY, LATE = date(2024, 11, 20), date(2024, 12, 3)
PIECES = [(EARLY, date(2024, 11, 24)), (date(2024, 11, 25), date(2024, 11, 28)), (date(2024, 11, 29), LATE)]
# Each session's date, with the weekend or the holiday after it.
STARTS = [*(date(2024, 11, day) for day in (20, 21, 22, 25, 26, 27, 29)), date(2024, 12, 2), LATE]
DATES = list(zip(STARTS, [*(start - timedelta(days=1) for start in STARTS[1:]), LATE], strict=True))
LOST, QUIET = date(2024, 11, 22), date(2024, 11, 27)
DAY = 24 * 60 * MINUTE
FEW = tuple(
    Kind(symbol, EARLY, LATE, **columns)
    for symbol, columns in {
        **{f"L{i}": {"auction": 0.08, "lost": 0.3} for i in range(6)},
        "LONELY": {"daily": False, "lost": 0.2, "shortest": 5},
        "NOISY": {"noise": 0.003, "auction": 0.1},
        "OFTEN": {"trades": 0.9, "noise": 0.002},
        "RARE": {"trades": 48 / 390},
        "SPARSE": {"trades": 0.3, "daily": False},
    }.items()
)


def shuffled(market: Withholding, warehouse: Warehouse) -> Iterator[list[Task]]:
    """Each symbol's chains cut in three, in any order."""
    pieces = [(symbol, chain, *span) for symbol in market.kinds for chain in CHAINS for span in PIECES]
    Random(1).shuffle(pieces)
    for symbol, chain, first, last in pieces:
        yield market.tasks(warehouse, [symbol], [chain], first=first, last=last)


ORDERS: dict[str, Callable[[Withholding, Warehouse], Iterator[list[Task]]]] = {
    "symbol by symbol": lambda m, w: (m.tasks(w, [symbol]) for symbol in m.kinds),
    "symbols backwards": lambda m, w: (m.tasks(w, [symbol]) for symbol in reversed(m.kinds)),
    "days first": lambda m, w: (m.tasks(w, chains=[chain]) for chain in (DAILY, INTRADAY)),
    "minutes first": lambda m, w: (m.tasks(w, chains=[chain]) for chain in (INTRADAY, DAILY)),
    "a run per session, newest first": lambda m, w: (m.tasks(w, first=a, last=b) for a, b in reversed(DATES)),
    "three runs, oldest first": lambda m, w: (m.tasks(w, first=first, last=last) for first, last in PIECES),
    "any": shuffled,
}


@pytest.fixture(scope="module")
def few() -> Iterator[StandIn]:
    """Two weeks with a holiday and a half day. On one morning nobody's minutes are to be had, on another nobody
    trades.
    """
    market = Withholding(FEW)
    assert market.draw(1) > 50
    spared = Window(
        to_micros(ny(QUIET, 0)) - DAY, to_micros(ny(QUIET, 0)) + 3 * DAY
    )  # to be seen beside usual mornings
    market.lost_days = {(symbol, day) for symbol, day in market.lost_days if day != QUIET}
    for kind in FEW:
        market.withheld[kind.symbol] = subtract(market.withheld[kind.symbol], [spared])
        market.withhold(kind.symbol, ny(LOST, 10), ny(LOST, 10, 30))
        market.silence(kind.symbol, ny(QUIET, 11), ny(QUIET, 11, 20))
    with StandIn(market, now=NOW) as running:
        yield running


@pytest.fixture(scope="module")
def warehouse(server: EmbeddedServer, few: StandIn) -> Iterator[Warehouse]:
    with database(server, few, NOW) as made:
        yield made


@pytest.fixture(scope="module")
def at_once(warehouse: Warehouse, few: StandIn) -> Tables:
    empty(warehouse)
    assert isinstance(few.market, Withholding)
    assert run(warehouse, provider(few), few.market.tasks(warehouse), NOW).error is None
    words = query(warehouse, "SELECT DISTINCT evidence ->> 'by' FROM gaps WHERE resolved_at IS NULL")
    assert {word for (word,) in words} >= {"volume", "habit", "other symbols", "whole session"}
    assert query(warehouse, "SELECT DISTINCT session FROM session_status WHERE explained ? 'halt'") == [(QUIET,)]
    return tables(warehouse.conn)


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_runs_does_not_show(warehouse: Warehouse, few: StandIn, at_once: Tables, order: str) -> None:
    empty(warehouse)
    market = few.market
    assert isinstance(market, Withholding)
    for symbol in market.kinds:
        market.instrument(warehouse, symbol)
    for tasks in ORDERS[order](market, warehouse):
        assert run(warehouse, provider(few), tasks, NOW).error is None
    assert differences(tables(warehouse.conn), at_once) == []
