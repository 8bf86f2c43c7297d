"""A symbol's lock for commands of people, who are told when they have to wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.storage.symbols import lock, try_lock, unlock


@contextmanager
def patient_lock(
    conn: Connection, instrument: Instrument, chain: Chain, waiting: Callable[[str], None]
) -> Iterator[None]:
    """Nobody else works on this symbol and chain meanwhile. `waiting` is told in a line if somebody does at first."""
    if not try_lock(conn, instrument.symbol_id, chain.base):
        waiting(f"waiting for the run that is at {instrument.symbol} {chain.base}")
        lock(conn, instrument.symbol_id, chain.base)
    try:
        yield
    finally:
        unlock(conn, instrument.symbol_id, chain.base)
