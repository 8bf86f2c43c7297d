"""The tables `bars` and `bar_revisions`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL, Literal

from backfill_pipeline.domain.bars import UNKNOWN_TRADES, Bars
from backfill_pipeline.domain.sessions import REGULAR, SEGMENTS
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime

from .copying import Coded, Column
from .rows import Changes, Key, Table, array_literal, read_rows, replace_rows

Index = npt.NDArray[np.intp] | slice


@dataclass(frozen=True, eq=False)
class StoredBars:
    """Bars with what the table adds: `session` datetime64[D] and `segment` int8 (0 pre, 1 regular, 2 post)."""

    bars: Bars
    session: npt.NDArray[np.datetime64]
    segment: npt.NDArray[np.int8]

    def between(self, window: Window) -> StoredBars:
        """Those that start in `window`; the bars must be ascending."""
        low, high = np.searchsorted(self.bars.ts, [window.start, window.end])
        chosen = slice(int(low), int(high))
        return StoredBars(self.bars.take(chosen), self.session[chosen], self.segment[chosen])


def _table(provider: str) -> Table:
    """`same_provider` is compared so that a bar another provider now vouches for is rewritten with its name."""
    return Table(
        "bars",
        (
            ("open", "float8", SQL("open")),
            ("high", "float8", SQL("high")),
            ("low", "float8", SQL("low")),
            ("close", "float8", SQL("close")),
            ("volume", "float8", SQL("volume")),
            ("vwap", "float8", SQL("coalesce(vwap, 'NaN')")),
            ("trades", "int4", SQL("coalesce(trades, -1)")),
            ("final", "bool", SQL("final")),
            ("same_provider", "bool", SQL("provider = {}").format(Literal(provider))),
        ),
    )


def read_bars(conn: Connection, key: Key, *, regular_only: bool = False) -> Bars:
    """The stored bars of `key`, ascending; vwap NaN and trades -1 where unknown."""
    extra = SQL(" AND segment = 'regular'") if regular_only else None
    rows = read_rows(conn, _table(""), key, extra)
    return Bars(*(rows[name] for name in ("ts", "open", "high", "low", "close", "volume", "vwap", "trades", "final")))  # type: ignore[arg-type]  # copy_out gives each the dtype that its kind says


def write_bars(
    conn: Connection, key: Key, new: StoredBars, provider: str, *, now: datetime, keep_revisions: bool
) -> Changes:
    """Make the stored bars of `key` those of `new` (ascending, unique, inside the window), in the open transaction.

    With `keep_revisions` the old values of restated and withdrawn bars go to bar_revisions.
    """
    bars = new.bars
    values = {
        name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume", "vwap", "trades", "final")
    }
    values["same_provider"] = np.ones(len(bars), dtype=bool)

    def columns(index: Index) -> list[tuple[str, Column]]:
        chosen = bars.take(index)
        return [
            ("symbol_id", Column("int4", key.symbol_id)),
            ("timeframe", Column("text", key.timeframe)),
            ("ts", Column("timestamptz", chosen.ts)),
            ("session", Column("date", new.session[index])),
            ("segment", _segments(new.segment[index])),
            ("open", Column("float8", chosen.open)),
            ("high", Column("float8", chosen.high)),
            ("low", Column("float8", chosen.low)),
            ("close", Column("float8", chosen.close)),
            ("volume", Column("float8", chosen.volume)),
            ("vwap", Column("float8", chosen.vwap, np.isnan(chosen.vwap))),
            ("trades", Column("int4", chosen.trades, chosen.trades == UNKNOWN_TRADES)),
            ("final", Column("bool", chosen.final)),
            ("provider", Column("text", provider)),
        ]

    def keep(restated: npt.NDArray[np.int64], withdrawn: npt.NDArray[np.int64]) -> None:
        _keep(conn, key, restated, bars, now)
        _revise(conn, key, withdrawn, "withdrawn", now)

    return replace_rows(conn, _table(provider), key, bars.ts, values, columns, keep if keep_revisions else None)


def _segments(code: npt.NDArray[np.int8]) -> Column:
    if bool((code == REGULAR).all()):
        return Column("text", SEGMENTS[REGULAR])  # one word for all is written without a look at each row
    return Column("text", Coded(SEGMENTS, code))


def _keep(conn: Connection, key: Key, restated: npt.NDArray[np.int64], bars: Bars, now: datetime) -> None:
    """Keep the old row only where a value of the market changed: becoming final is no revision."""
    if not len(restated):
        return
    stored = read_bars(conn, key)
    old = stored.take(np.searchsorted(stored.ts, restated))
    new = bars.take(np.searchsorted(bars.ts, restated))
    differs = np.zeros(len(restated), dtype=bool)
    for name in ("open", "high", "low", "close", "volume", "vwap", "trades"):
        left, right = getattr(old, name), getattr(new, name)
        differs |= (left != right) & ~(np.isnan(left) & np.isnan(right))
    _revise(conn, key, restated[differs], "restated", now)


def _revise(conn: Connection, key: Key, ts: npt.NDArray[np.int64], kind: str, now: datetime) -> None:
    if not len(ts):
        return
    with conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO bar_revisions SELECT b.*, %s, %s FROM bars AS b"
            " WHERE symbol_id = %s AND timeframe = %s AND ts IN (SELECT instant(u) FROM unnest(%s::bigint[]) u)",
            (kind, now, key.symbol_id, key.timeframe, array_literal(ts)),
        )


def nth_regular_after(conn: Connection, symbol_id: int, timeframe: Timeframe, ts: int, n: int) -> int | None:
    """Start of the n-th regular bar after `ts`, None if there are fewer. Microseconds UTC."""
    return _edge(conn, symbol_id, timeframe, ts, n, after=True)


def nth_regular_before(conn: Connection, symbol_id: int, timeframe: Timeframe, ts: int, n: int) -> int | None:
    """Start of the n-th regular bar before `ts`, None if there are fewer. Microseconds UTC."""
    return _edge(conn, symbol_id, timeframe, ts, n, after=False)


def _edge(conn: Connection, symbol_id: int, timeframe: Timeframe, ts: int, n: int, *, after: bool) -> int | None:
    statement = SQL(
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM bars WHERE symbol_id = {} AND timeframe = {}"
        " AND ts {} {} AND segment = 'regular' ORDER BY ts {} OFFSET {} LIMIT 1"
    ).format(
        Literal(symbol_id),
        Literal(timeframe),
        SQL(">" if after else "<"),
        Literal(to_datetime(ts)),
        SQL("ASC" if after else "DESC"),
        Literal(n - 1),
    )
    with conn.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
    return None if row is None else int(row[0])
