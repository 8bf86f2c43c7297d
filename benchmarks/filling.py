"""A warehouse of many symbols: two years of one from the provider to features, and its rows again under other names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.sql import SQL, Composed, Identifier

from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import INTRADAY, Chain
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.symbols import add_symbol, get_instruments

FIRST, LAST = date(2024, 1, 2), date(2026, 1, 2)
NOW = datetime(2026, 2, 20, tzinfo=UTC)
# Up to here as backfills write, a symbol after the other; from here on as nights do, a day of all symbols at a time.
NIGHTS_FROM = date(2025, 1, 1)


def warehouse_of(conn: Connection, now: datetime = NOW) -> Warehouse:
    return Warehouse(conn, Router([SyntheticProvider()]), lambda: now)


def fill(conn: Connection, symbols: int, chains: Sequence[Chain] = (INTRADAY,), *, features_from: date = FIRST) -> None:
    """S000 and on, complete and vacuumed, but for features before `features_from`, which only S000 has. To be called
    again for more: those that are there stay as they are.
    """
    names = [f"S{number:03d}" for number in range(symbols)]
    with conn, conn.cursor() as cursor:
        cursor.execute("SELECT symbol FROM symbols")
        there = {row[0] for row in cursor.fetchall()}
        for name in names:
            if name not in there:
                add_symbol(conn, name, "stock", "XNYS")
        first, *others = get_instruments(conn, names).values()
    if not there:
        _run(conn, first, chains)
    _copy(conn, first, [other.symbol_id for other in others if other.symbol not in there], features_from)
    conn.autocommit = True
    conn.cursor().execute("VACUUM ANALYZE")
    conn.autocommit = False


def _run(conn: Connection, instrument: Instrument, chains: Sequence[Chain]) -> None:
    periods = tuple(periods_between(FIRST, LAST, "day"))
    warehouse = warehouse_of(conn, NOW - timedelta(days=1))
    for _ in run_tasks(warehouse, [Task(instrument, chain, periods) for chain in chains], Work()):
        pass


def _copy(conn: Connection, first: Instrument, ids: list[int], features_from: date) -> None:
    with conn, conn.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        for table in ("wanted", "served", "coverage", "session_status"):
            columns = _columns(cursor, table)
            statement = SQL(
                "INSERT INTO {0} (symbol_id, {1}) SELECT i, {1} FROM unnest(%s) AS i, {0} WHERE symbol_id = %s"
            )
            cursor.execute(statement.format(Identifier(table), columns), (ids, first.symbol_id))
    for table, since in (("bars", FIRST), ("features", features_from)):
        with conn, conn.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off; SET LOCAL work_mem = '128MB'")
            _copy_large(cursor, table, first, ids, since)


def _copy_large(cursor: Cursor, table: str, first: Instrument, ids: list[int], since: date) -> None:
    """Without the index, because one built afterwards costs a third."""
    name, key, columns = Identifier(table), Identifier(f"{table}_pkey"), _columns(cursor, table)
    cursor.execute(
        SQL("CREATE TEMP TABLE model ON COMMIT DROP AS SELECT {} FROM {} WHERE symbol_id = %s AND ts >= %s").format(
            columns, name
        ),
        (first.symbol_id, since - timedelta(days=7)),  # the first week's Monday may be before
    )
    cursor.execute("CREATE INDEX ON model (ts); ANALYZE model")
    cursor.execute(SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, key))
    statement = SQL(
        "INSERT INTO {0} (symbol_id, {1}) SELECT i, {1} FROM unnest(%s) AS i CROSS JOIN model"
        " WHERE ts >= %s AND ts < %s ORDER BY i, timeframe, ts"
    ).format(name, columns)
    for part, low, high in _parts(ids):
        cursor.execute(statement, (part, low, high))
    cursor.execute(SQL("ALTER TABLE {} ADD PRIMARY KEY (symbol_id, timeframe, ts)").format(name))


def _parts(ids: list[int]) -> Iterator[tuple[list[int], date, date]]:
    """Which symbols' rows of which days, end excluded, are written together."""
    for symbol_id in ids:
        yield [symbol_id], date.min, NIGHTS_FROM
    for day in range((LAST - NIGHTS_FROM).days + 40):
        yield ids, NIGHTS_FROM + timedelta(days=day), NIGHTS_FROM + timedelta(days=day + 1)


def _columns(cursor: Cursor, table: str) -> Composed:
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'market' AND table_name = %s"
        " AND column_name <> 'symbol_id' ORDER BY ordinal_position",
        (table,),
    )
    return SQL(", ").join(Identifier(row[0]) for row in cursor.fetchall())
