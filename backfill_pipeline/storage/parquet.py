"""Stored bars as Parquet files: the columns of `market_data_all`, and features beside them where asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL, Composable, Identifier, Literal

from backfill_pipeline.domain.columns import BARS
from backfill_pipeline.domain.feature_list import FEATURES
from backfill_pipeline.domain.sessions import SEGMENTS
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import Window, to_datetime

from .copying import Kind, copy_out

# In the footer: what of the tables the file holds, and that its prices are as they were traded.
FINGERPRINT, ADJUSTED = b"backfill.fingerprint", b"backfill.adjusted"

_WORD = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "double precision": pa.float64(),
    "integer": pa.int32(),
    "boolean": pa.bool_(),
    "timeframe": _WORD,
    "segment": _WORD,
    "text": _WORD,
}
_PRICES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Piece:
    """What one file holds: bars of a symbol and timeframe that start in the windows, a row group each."""

    symbol_id: int
    symbol: str
    timeframe: Timeframe
    windows: tuple[Window, ...]
    features: bool

    @property
    def hull(self) -> Window:
        return Window(self.windows[0].start, self.windows[-1].end)


@dataclass(frozen=True)
class Written:
    """`rows` of the tables; `fresh` False: the file had them already."""

    rows: int
    fresh: bool


def write_piece(conn: Connection, piece: Piece, path: Path) -> Written:
    """Make the file what the tables are at this moment; one that is so already is left alone, and no rows are no file.

    Whole or not at all: written beside it and renamed. Raises OSError. Ends the open transaction.
    """
    conn.rollback()
    with conn, conn.cursor() as cursor:
        # One snapshot for the fingerprint and the rows it is of.
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows, fingerprint = _fingerprint(conn, piece)
        if not rows:
            path.unlink(missing_ok=True)
            return Written(0, fresh=False)
        if _held(path) == fingerprint:
            return Written(rows, fresh=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        schema = _schema(piece, fingerprint)
        try:
            with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                for table in _tables(conn, piece, schema):
                    writer.write_table(table)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return Written(rows, fresh=True)


def _held(path: Path) -> bytes | None:
    """The fingerprint in a whole file's footer."""
    try:
        metadata = pq.read_metadata(path).metadata
    except (OSError, pa.ArrowException):
        return None
    found: bytes | None = (metadata or {}).get(FINGERPRINT)
    return found


def _fingerprint(conn: Connection, piece: Piece) -> tuple[int, bytes]:
    """How many rows there are, and a hash of each in any order: another value anywhere is another fingerprint."""
    names = [SQL("b.") + Identifier(c.name) for c in BARS if c.name not in ("symbol_id", "timeframe", "segment")]
    hashed = SQL(", ").join([*names, SQL("b.segment::text"), *_features(piece)])
    query = SQL(
        "SELECT count(*), coalesce(bit_xor(hash_record_extended(ROW({}), 0)), 0), coalesce(max(ts)::text, '') {}"
    ).format(hashed, _source(piece, piece.hull))
    with conn.cursor() as cursor:
        cursor.execute(query)
        count, mixed, newest = cursor.fetchall()[0]
    return count, f"{count} {mixed} {newest} {'features' if piece.features else 'bars'}".encode()


def _features(piece: Piece) -> list[Composable]:
    return [SQL("f.") + Identifier(feature.name) for feature in FEATURES] if piece.features else []


def _source(piece: Piece, window: Window) -> Composable:
    join = " LEFT JOIN features AS f USING (symbol_id, timeframe, ts)" if piece.features else ""
    return SQL("FROM bars AS b" + join + " WHERE symbol_id = {} AND timeframe = {} AND ts >= {} AND ts < {}").format(
        Literal(piece.symbol_id),
        Literal(piece.timeframe),
        Literal(to_datetime(window.start)),
        Literal(to_datetime(window.end)),
    )


def _schema(piece: Piece, fingerprint: bytes) -> pa.Schema:
    """Units and meanings go with the fields."""
    fields = [pa.field("symbol", _WORD, nullable=False, metadata={"meaning": "ticker as followed"})]
    for column in BARS[1:]:
        nullable = column.name in ("vwap", "trades")
        fields.append(
            pa.field(column.name, _TYPES[column.type], nullable, {"unit": column.unit, "meaning": column.meaning})
        )
    if piece.features:
        fields += [pa.field(f.name, pa.float64(), metadata={"unit": f.unit, "meaning": f.formula}) for f in FEATURES]
    return pa.schema(fields, {FINGERPRINT: fingerprint, ADJUSTED: b"none"})


def _tables(conn: Connection, piece: Piece, schema: pa.Schema) -> Iterator[pa.Table]:
    providers = _providers(conn, piece)
    kinds: list[tuple[str, Kind]] = [("ts", "timestamptz"), ("session", "date"), ("segment", "int4")]
    kinds += [(name, "float8") for name in (*_PRICES, "vwap")]
    kinds += [("trades", "int4"), ("final", "bool"), ("provider", "int4")]
    chosen: list[Composable] = [
        SQL("ts, session, array_position({}::text[], segment::text) - 1").format(Literal(list(SEGMENTS))),
        *(Identifier(name) for name in _PRICES),
        SQL("coalesce(vwap, 'NaN'), coalesce(trades, -1), final"),
        SQL("array_position({}::text[], provider) - 1").format(Literal(list(providers))),
    ]
    if piece.features:
        kinds += [(feature.name, "float8") for feature in FEATURES]
        chosen += [SQL("coalesce({}, 'NaN')").format(name) for name in _features(piece)]
    for window in piece.windows:
        query = SQL("SELECT {} {} ORDER BY ts").format(SQL(", ").join(chosen), _source(piece, window))
        rows = copy_out(conn, query, kinds)
        if not len(rows["ts"]):
            continue
        words = {"segment": SEGMENTS, "provider": providers}
        yield pa.table([_column(field, rows, words, piece) for field in schema], schema=schema)


def _column(field: pa.Field, rows: dict[str, np.ndarray], words: dict[str, Sequence[str]], piece: Piece) -> pa.Array:
    if field.name in ("symbol", "timeframe"):
        codes = np.zeros(len(rows["ts"]), dtype=np.int32)
        return pa.DictionaryArray.from_arrays(codes, [getattr(piece, field.name)])
    values = rows[field.name]
    if field.name in words:
        return pa.DictionaryArray.from_arrays(values.astype(np.int32), list(words[field.name]))
    if field.name == "ts":
        return pa.array(values.astype(np.int64)).cast(field.type)
    if field.name == "trades":
        return pa.array(values.astype(np.int32), mask=values < 0)
    return pa.array(values, field.type, mask=np.isnan(values) if field.nullable else None)


def _providers(conn: Connection, piece: Piece) -> list[str]:
    with conn.cursor() as cursor:
        cursor.execute(SQL("SELECT DISTINCT provider {} ORDER BY provider").format(_source(piece, piece.hull)))
        return [row[0] for row in cursor.fetchall()]


def span_of(conn: Connection, symbol_id: int, timeframe: Timeframe) -> tuple[int, int] | None:
    """Years of the first and the last stored session; None where nothing is stored."""
    of = SQL("(SELECT session FROM bars WHERE symbol_id = {} AND timeframe = {} ORDER BY ts {} LIMIT 1)")
    ends = [of.format(Literal(symbol_id), Literal(timeframe), SQL(order)) for order in ("ASC", "DESC")]
    with conn.cursor() as cursor:
        cursor.execute(SQL("SELECT {}, {}").format(*ends))
        first, last = cursor.fetchall()[0]
    return None if first is None else (first.year, last.year)
