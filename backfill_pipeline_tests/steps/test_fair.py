"""Who is asked for first: the newest sessions of all symbols, in the registry's order, then older ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from pydantic import SecretStr

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.budget import NoBudget, OwnMemory, Priority
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.symbols import set_priority
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.steps.warehouses import listed, opened, task

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
# 61 sessions of some 960 minutes: two pages of at most 50,000 each.
FIRST, LAST = date(2026, 5, 11), date(2026, 8, 5)
NAMES = ("AAA", "BBB", "CCC", "DDD")


class Slow(NoBudget):
    """Says that turns are a second apart, so that two requests are under way at a time and no more; nobody waits."""

    def expected_wait(self, priority: Priority, requests: int = 1) -> float:
        return float(requests)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=NAMES), now=NOW) as started:
        yield started


def test_who_comes_first_in_the_registry_is_asked_for_first_and_nobodys_past_before_anybodys_news(
    database_url: str, standin: StandIn
) -> None:
    provider = PolygonProvider(SecretStr(standin.key), standin.url, budget=Slow(), limits=OwnMemory(), now=lambda: NOW)
    with opened(database_url, provider, NOW) as warehouse:
        instruments = [listed(warehouse, name) for name in NAMES]
        with warehouse.conn:
            set_priority(warehouse.conn, "DDD", 1)
            set_priority(warehouse.conn, "BBB", 2)
        tasks = [task(warehouse, instrument, INTRADAY, FIRST, LAST) for instrument in instruments]
        assert {outcome.state for _, outcome in run_tasks(warehouse, tasks, Work())} == {"complete"}

    asked = [seen.path.split("/ticker/")[1].split("/") for seen in standin.requests]
    order = [parts[0] for parts in asked]
    assert len(order) == 8
    assert order[0] == "DDD"
    assert set(order[1:3]) == {"BBB", "AAA"}, "two at a time: AAA comes before CCC by its name"
    assert sorted(order[:4]) == sorted(order[4:]) == sorted(NAMES), "the second page of none before the first of all"
    starts = {name: [parts[4] for parts in asked if parts[0] == name] for name in NAMES}
    assert all(first > second for first, second in starts.values()), "the newest first"
