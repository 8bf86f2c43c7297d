"""Making the stored rows of a stretch equal to given ones, writing only what is new or different.

The caller holds the symbol's lock, so between reading and writing nobody else changes the stretch: no ON CONFLICT, and
new rows go straight into the table (three times faster than any merge).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL, Composable, Identifier, Literal

from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime

from .copying import Column, Kind, copy_in, copy_out

Micros = npt.NDArray[np.int64]
Values = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Table:
    """A table keyed by (symbol_id, timeframe, ts). `compared`: the value columns, as read: (name, kind, SQL)."""

    name: str
    compared: tuple[tuple[str, Kind, Composable], ...]


@dataclass(frozen=True, eq=False)
class Key:
    """One symbol and timeframe of a table, over one stretch of bar starts."""

    symbol_id: int
    timeframe: Timeframe
    window: Window


@dataclass(frozen=True)
class Changes:
    """Rows written and removed. `first`, `last`: microseconds UTC of the earliest and latest of them; None for none."""

    inserted: int = 0
    changed: int = 0
    withdrawn: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def written(self) -> int:
        return self.inserted + self.changed

    def __bool__(self) -> bool:
        return self.first is not None

    def __add__(self, other: Changes) -> Changes:
        starts = [moment for moment in (self.first, other.first) if moment is not None]
        ends = [moment for moment in (self.last, other.last) if moment is not None]
        return Changes(
            self.inserted + other.inserted,
            self.changed + other.changed,
            self.withdrawn + other.withdrawn,
            min(starts, default=None),
            max(ends, default=None),
        )


def _condition(key: Key) -> Composable:
    return SQL("symbol_id = {} AND timeframe = {} AND ts >= {} AND ts < {}").format(
        Literal(key.symbol_id),
        Literal(key.timeframe),
        Literal(to_datetime(key.window.start)),
        Literal(to_datetime(key.window.end)),
    )


def read_rows(
    conn: Connection, table: Table, key: Key, extra: Composable | None = None
) -> dict[str, npt.NDArray[np.generic]]:
    """`ts` and the compared columns of the stored rows, ascending. NULL comes as NaN, or -1 where the table says so."""
    columns = SQL(", ").join([SQL("ts"), *(expression for _, _, expression in table.compared)])
    query = SQL("SELECT {} FROM {} WHERE {}{} ORDER BY ts").format(
        columns, Identifier(table.name), _condition(key), extra or SQL("")
    )
    kinds: list[tuple[str, Kind]] = [("ts", "timestamptz")]
    kinds += [(name, kind) for name, kind, _ in table.compared]
    return copy_out(conn, query, kinds)


def replace_rows(
    conn: Connection,
    table: Table,
    key: Key,
    ts: Micros,
    values: Values,
    columns: Callable[[npt.NDArray[np.intp] | slice], Sequence[tuple[str, Column]]],
    before_removal: Callable[[Micros, Micros], None] | None = None,
) -> Changes:
    """Make the stored rows of `key` those of `ts` (ascending, unique, inside the window) and `values`.

    `values`: the compared columns, NaN for NULL. `columns(index)`: the columns to write for those rows, `symbol_id`,
    `timeframe` and `ts` included. `before_removal(restated, withdrawn)`: called with the ts of rows about to go.
    """
    if not _any_stored(conn, table, key):
        return _insert(conn, table, ts, columns, slice(None), Changes())
    stored = read_rows(conn, table, key)
    stored_ts = stored["ts"].astype(np.int64, copy=False)
    place = np.searchsorted(stored_ts, ts)
    known = np.zeros(len(ts), dtype=bool)
    inside = place < len(stored_ts)
    known[inside] = stored_ts[place[inside]] == ts[inside]
    differs = np.zeros(len(ts), dtype=bool)
    differs[known] = _differs(values, stored, np.flatnonzero(known), place[known])
    gone = np.ones(len(stored_ts), dtype=bool)
    gone[place[known]] = False
    restated, withdrawn = ts[differs], stored_ts[gone]
    if len(restated) or len(withdrawn):
        if before_removal is not None:
            before_removal(restated, withdrawn)
        _delete(conn, table, key, np.concatenate([restated, withdrawn]))
    removed = _changes_of(np.concatenate([restated, withdrawn]), changed=len(restated), withdrawn=len(withdrawn))
    write = np.flatnonzero(~known | differs)
    return _insert(conn, table, ts, columns, write, removed)


def _differs(
    values: Values, stored: Values, mine: npt.NDArray[np.intp], theirs: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    differs = np.zeros(len(mine), dtype=bool)
    for name, new in values.items():
        left, right = new[mine], stored[name][theirs]
        unequal = left != right
        if left.dtype.kind == "f":
            unequal &= ~((left != left) & (right != right))
        differs |= unequal
    return differs


def _any_stored(conn: Connection, table: Table, key: Key) -> bool:
    with conn.cursor() as cursor:
        cursor.execute(SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(Identifier(table.name), _condition(key)))
        row = cursor.fetchone()
    return bool(row and row[0])


def _delete(conn: Connection, table: Table, key: Key, ts: Micros) -> None:
    with conn.cursor() as cursor:
        statement = SQL(
            "DELETE FROM {} WHERE symbol_id = {} AND timeframe = {}"
            " AND ts IN (SELECT instant(u) FROM unnest(%s::bigint[]) AS u)"
        ).format(Identifier(table.name), Literal(key.symbol_id), Literal(key.timeframe))
        cursor.execute(statement, (array_literal(ts),))


def array_literal(values: Micros) -> str:
    """`{1,2,…}`: PostgreSQL's text form of an integer array, a fifth of the cost of adapting a list."""
    return "{" + ",".join(map(str, values.tolist())) + "}"


def _insert(
    conn: Connection,
    table: Table,
    ts: Micros,
    columns: Callable[[npt.NDArray[np.intp] | slice], Sequence[tuple[str, Column]]],
    index: npt.NDArray[np.intp] | slice,
    removed: Changes,
) -> Changes:
    written = ts[index]
    if not len(written):
        return removed
    named = columns(index)
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        Identifier(table.name), SQL(", ").join(Identifier(name) for name, _ in named)
    )
    copy_in(conn, statement, [column for _, column in named], len(written))
    return removed + _changes_of(written, inserted=len(written) - removed.changed)


def _changes_of(ts: Micros, *, inserted: int = 0, changed: int = 0, withdrawn: int = 0) -> Changes:
    if not len(ts):
        return Changes()
    return Changes(inserted, changed, withdrawn, int(ts.min()), int(ts.max()))
