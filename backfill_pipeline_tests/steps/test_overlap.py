"""Several runs over the same and neighbouring partitions at once end in the tables of one clean run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline_tests.steps.one_run import NOW, run
from backfill_pipeline_tests.steps.warehouses import empty, opened
from backfill_pipeline_tests.tables import differences, tables

ROUNDS = 4  # of each of the three
A, B, C, D = date(2024, 3, 11), date(2024, 3, 18), date(2024, 3, 26), date(2024, 4, 10)

Parts = tuple[tuple[Chain, date, date], ...]


@pytest.mark.parametrize(
    "rivals",
    [
        pytest.param([((INTRADAY, A, D), (DAILY, A, D)), ((DAILY, A, D), (INTRADAY, A, D))], id="the same"),
        pytest.param([((INTRADAY, A, C), (DAILY, A, C)), ((DAILY, B, D), (INTRADAY, B, D))], id="overlapping"),
        pytest.param(
            [((DAILY, B, C),), ((INTRADAY, A, B),), ((INTRADAY, C, D), (DAILY, A, D)), ((INTRADAY, B, C),)],
            id="neighbours",
        ),
    ],
)
def test_runs_at_once_end_in_the_tables_of_one_and_wait_for_no_lock_in_vain(
    database_url: str, rivals: list[Parts]
) -> None:
    with opened(database_url, SyntheticProvider(), NOW) as warehouse:
        run(database_url, ((INTRADAY, A, D), (DAILY, A, D)))
        clean = tables(warehouse.conn)
        for _ in range(ROUNDS):
            empty(warehouse)
            with ThreadPoolExecutor(len(rivals)) as pool:
                for done in [pool.submit(run, database_url, parts) for parts in rivals]:
                    done.result()
            assert differences(tables(warehouse.conn), clean) == []
