"""The table `features`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL

from backfill_pipeline.domain.features import FEATURES

from .copying import Column
from .rows import Changes, Key, Table, read_rows, replace_rows

_NAMES = tuple(feature.name for feature in FEATURES)


def _table(names: Iterable[str]) -> Table:
    return Table("features", tuple((name, "float8", SQL(f"coalesce({name}, 'NaN')")) for name in names))


_TABLE = _table(_NAMES)


def write_features(
    conn: Connection, key: Key, ts: npt.NDArray[np.int64], values: Mapping[str, npt.NDArray[np.float64]]
) -> Changes:
    """Make the stored features of `key` those of `ts` (ascending, inside the window) and `values` (NaN for NULL)."""

    def columns(index: npt.NDArray[np.intp] | slice) -> list[tuple[str, Column]]:
        named = [
            ("symbol_id", Column("int4", key.symbol_id)),
            ("timeframe", Column("text", key.timeframe)),
            ("ts", Column("timestamptz", ts[index])),
        ]
        return named + [(name, Column("float8", values[name][index], np.isnan(values[name][index]))) for name in _NAMES]

    return replace_rows(conn, _TABLE, key, ts, dict(values), columns)


def read_features(
    conn: Connection, key: Key, ts: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """The stored features `names` at the bars `ts` (ascending, inside the window of `key`); NaN where there is none."""
    rows = read_rows(conn, _table(names), key)
    stored = rows["ts"].astype(np.int64, copy=False)
    _, mine, theirs = np.intersect1d(ts, stored, assume_unique=True, return_indices=True)
    values = {name: np.full(len(ts), np.nan) for name in names}
    for name in names:
        values[name][mine] = rows[name][theirs]
    return values
