"""A look takes what a killed run has left for what it is: less than was wanted, and nothing of it wrong."""

from __future__ import annotations

import multiprocessing
import random
import time
from datetime import date

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.look import look
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.vouching import cut_coverage
from backfill_pipeline_tests.steps.one_run import NOW, run
from backfill_pipeline_tests.steps.warehouses import backfill, empty, listed, opened
from backfill_pipeline_tests.tables import differences, tables

ROUNDS = 4
FIRST, LAST = date(2024, 6, 24), date(2024, 7, 12)  # two half-years, so two transactions of minutes; a holiday
PARTS = ((DAILY, FIRST, LAST), (INTRADAY, FIRST, LAST))
DAY = date(2024, 7, 8)


def test_a_look_after_a_killed_run_finds_nothing_false_and_the_next_run_completes_it(database_url: str) -> None:
    with opened(database_url, SyntheticProvider(), NOW) as warehouse:
        warehouse.sessions("XNYS")
        started = time.monotonic()
        run(database_url, PARTS)
        seconds = time.monotonic() - started
        clean = tables(warehouse.conn)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["backfill_pipeline_tests.steps.one_run"])
        chance = random.Random(3)
        for _ in range(ROUNDS):
            empty(warehouse)
            child = context.Process(target=run, args=(database_url, PARTS))
            child.start()
            child.join(chance.uniform(0.2, 1.2) * seconds)
            child.kill()
            child.join()
            assert look(warehouse).findings == []
            run(database_url, PARTS)
            assert differences(tables(warehouse.conn), clean) == []
            assert look(warehouse).good


def test_a_look_that_was_killed_half_way_is_finished_by_the_next(database_url: str) -> None:
    """After the coverage of a changed session was cut, and before the session was judged anew."""
    with opened(database_url, SyntheticProvider(), NOW) as warehouse:
        run(database_url, PARTS)
        clean = tables(warehouse.conn)
        abc = listed(warehouse)
        _half_a_look(warehouse, abc)
        assert [(one.kind, one.first, one.last) for one in look(warehouse).findings] == [("unvouched", DAY, DAY)]
        backfill(warehouse, abc, INTRADAY, FIRST, LAST)
        assert differences(tables(warehouse.conn), clean) == []
        assert look(warehouse).good


def _half_a_look(warehouse: Warehouse, abc: Instrument) -> None:
    sessions = warehouse.sessions("XNYS")
    with warehouse.conn, warehouse.conn.cursor() as cursor:
        cursor.execute("UPDATE bars SET close = low WHERE timeframe = '1m' AND session = %s", (DAY,))
        cut_coverage(warehouse.conn, abc.symbol_id, "1m", [sessions.days_window(DAY, DAY)])
