"""A backfill to be killed or raced: what a child process or a thread runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime

from backfill_pipeline.domain.sessions import horizon, load_sessions
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.connection import connect
from backfill_pipeline_tests.steps.warehouses import Clock, backfill, listed

NOW = datetime(2024, 9, 1, tzinfo=UTC)

load_sessions("XNYS", horizon(NOW.date()))  # half a second that forked children need not spend


def run(url: str, parts: Sequence[tuple[Chain, date, date]]) -> None:
    """Backfill the parts one after the other, with a connection that waits for no lock longer than half a minute."""
    with closing(connect(url)) as conn:
        with conn, conn.cursor() as cursor:
            cursor.execute("SET lock_timeout = '30s'; SET statement_timeout = '40s'")
        warehouse = Warehouse(conn, Router([SyntheticProvider()]), Clock(NOW))
        abc = listed(warehouse)
        for chain, first, last in parts:
            backfill(warehouse, abc, chain, first, last)
