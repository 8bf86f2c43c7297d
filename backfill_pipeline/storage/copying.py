"""PostgreSQL's binary COPY stream, to and from numpy columns, without a Python object per value.

A row is an int16 field count, then per field an int32 length and the big-endian value; NULL has length -1 and no value.
Source: PostgreSQL's documentation of COPY, "Binary Format".
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import Composable

Kind = Literal["int4", "float8", "bool", "timestamptz", "date", "text"]
Array = npt.NDArray[np.generic]
WireRows = np.ndarray[tuple[int], np.dtype[np.void]]

# PostgreSQL counts from 2000-01-01; numpy and this project from 1970-01-01.
_EPOCH_MICROS = 946_684_800_000_000
_EPOCH_DAYS = 10_957

_FORMAT = {"int4": ">i4", "float8": ">f8", "bool": "u1", "timestamptz": ">i8", "date": ">i4"}
_NATIVE = {"int4": np.int64, "float8": np.float64, "bool": np.bool_, "timestamptz": np.int64, "date": np.int64}
_SHIFT = {"timestamptz": _EPOCH_MICROS, "date": _EPOCH_DAYS}
_HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
_TRAILER = b"\xff\xff"

# Small, so that the server works on one chunk while the next is built: 4,096 bars are half a megabyte.
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Coded:
    """Text by number: the value of row i is `words[code[i]]`. No word is empty."""

    words: tuple[str, ...]
    code: npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Column:
    """One column to write. `values`: an array, or one value for all rows. `null`: bool array, True where NULL.

    timestamptz: int64 microseconds since 1970 UTC; date: datetime64[D]; text and enums: one non-empty str, or Coded.
    """

    kind: Kind
    values: Array | Coded | int | float | bool | str
    null: npt.NDArray[np.bool_] | None = None


class RowStream(io.RawIOBase):
    """A readable COPY stream of `columns`, `rows` long, encoded chunk by chunk as it is read."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        self._columns = [_prepared(column) for column in columns]
        self._rows = rows
        self._position = 0
        self._pending: bytes = _HEADER
        self._done = False
        fields: list[tuple[str, str]] = [("n", ">i2")]
        for i, column in enumerate(self._columns):
            fields += [(f"l{i}", ">i4"), (f"v{i}", column.format)]
        self._dtype = np.dtype(fields)
        self._chunk = np.zeros(min(_CHUNK, max(rows, 1)), dtype=self._dtype)
        self._chunk["n"] = len(self._columns)
        for i, column in enumerate(self._columns):
            self._chunk[f"l{i}"] = column.width
            if column.constant is not None:
                self._chunk[f"v{i}"] = column.constant

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; everything for a negative size; b"" at the end."""
        pieces: list[bytes] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted > 0:
            if not self._pending and not self._encode():
                break
            piece, self._pending = self._pending[:wanted], self._pending[wanted:]
            pieces.append(piece)
            wanted -= len(piece)
            if size >= 0:
                break  # a short read is a read: the chunk's own size is the right one
        return b"".join(pieces)

    def _encode(self) -> bool:
        if self._done:
            return False
        low, high = self._position, min(self._position + _CHUNK, self._rows)
        if low >= high:
            self._pending, self._done = _TRAILER, True
            return True
        chunk = self._chunk[: high - low]
        ragged = False
        for i, column in enumerate(self._columns):
            ragged |= column.fill(chunk, i, low, high)
        self._pending = _squeezed(chunk, self._columns) if ragged else chunk.tobytes()
        self._position = high
        return True


class _Prepared:
    """A column in wire form: numpy format, full width, and how to fill its field of a chunk."""

    def __init__(
        self,
        wire: str,
        width: int,
        values: Array | None,
        constant: object,
        lengths: npt.NDArray[np.int32] | None,
    ) -> None:
        self.format = wire
        self.width = width
        self.constant = constant
        self._values = values
        self.lengths = lengths

    def fill(self, chunk: np.ndarray[tuple[int], np.dtype[np.void]], i: int, low: int, high: int) -> bool:
        """Write rows low..high; True if any of their values is narrower than the field."""
        if self._values is not None:
            chunk[f"v{i}"] = self._values[low:high]
        if self.lengths is None:
            return False
        lengths = self.lengths[low:high]
        chunk[f"l{i}"] = lengths
        return bool((lengths != self.width).any())


def _prepared(column: Column) -> _Prepared:
    values, null = column.values, column.null
    if isinstance(values, str | Coded):
        return _prepared_text(values)
    wire = _FORMAT[column.kind]
    width = np.dtype(wire).itemsize
    lengths = None
    if null is not None and bool(null.any()):
        lengths = np.where(null, -1, width).astype(np.int32)
    if not isinstance(values, np.ndarray):
        return _Prepared(wire, width, None, values, lengths)
    if column.kind == "timestamptz":
        values = values - _EPOCH_MICROS
    elif column.kind == "date":
        values = values.astype("datetime64[D]").astype(np.int64) - _EPOCH_DAYS
    return _Prepared(wire, width, values, None, lengths)


def _prepared_text(values: Coded | str) -> _Prepared:
    if isinstance(values, str):
        constant = values.encode()
        return _Prepared(f"S{len(constant)}", len(constant), None, constant, None)
    words = np.array([word.encode() for word in values.words], dtype=bytes)
    lengths = np.array([len(word.encode()) for word in values.words], dtype=np.int32)
    width = words.dtype.itemsize
    ragged = bool((lengths != width).any())
    return _Prepared(f"S{width}", width, words[values.code], None, lengths[values.code] if ragged else None)


def _squeezed(chunk: np.ndarray[tuple[int], np.dtype[np.void]], columns: Sequence[_Prepared]) -> bytes:
    """The chunk's bytes without those that narrower values and NULLs leave over."""
    flat = np.frombuffer(chunk.tobytes(), dtype=np.uint8).reshape(len(chunk), chunk.dtype.itemsize)
    keep = np.ones(flat.shape, dtype=bool)
    for i, column in enumerate(columns):
        if column.lengths is None:
            continue
        offset = chunk.dtype.fields[f"v{i}"][1]  # type: ignore[index]  # a structured dtype has fields
        size = chunk.dtype[f"v{i}"].itemsize
        lengths = np.maximum(chunk[f"l{i}"].astype(np.int64), 0)
        keep[:, offset : offset + size] = np.arange(size)[None, :] < lengths[:, None]
    return flat[keep].tobytes()


def copy_in(conn: Connection, statement: Composable, columns: Sequence[Column], rows: int) -> None:
    """Run `COPY … FROM STDIN (FORMAT binary)` with the columns as its stream."""
    if rows:
        with conn.cursor() as cursor:
            cursor.copy_expert(statement, RowStream(columns, rows), size=1 << 20)


def copy_out(
    conn: Connection, query: Composable, kinds: Sequence[tuple[str, Kind]]
) -> dict[str, npt.NDArray[np.generic]]:
    """The rows of `query` as native numpy columns, named and typed by `kinds`; see NativeColumns for their dtypes.

    The query must yield no NULL (coalesce to NaN or -1) and no text.
    """
    found = NativeColumns(kinds)
    found.append(wire_rows(conn, query, kinds))
    return found.columns()


def wire_rows(conn: Connection, query: Composable, kinds: Sequence[tuple[str, Kind]]) -> WireRows:
    """The rows of `query` as they came, a field a column; for NativeColumns."""
    from psycopg2.sql import SQL

    buffer = io.BytesIO()
    with conn.cursor() as cursor:
        cursor.copy_expert(SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query), buffer)
    fields: list[tuple[str, str]] = [("#", ">i2")]
    for name, kind in kinds:
        fields += [(f"#{name}", ">i4"), (name, _FORMAT[kind])]
    dtype = np.dtype(fields)
    payload = memoryview(buffer.getbuffer())[len(_HEADER) : -len(_TRAILER)]
    count, rest = divmod(len(payload), dtype.itemsize)
    table = np.frombuffer(payload, dtype=dtype, count=count)
    # Every row starts with its field count, so a NULL anywhere shows in the rows after it.
    assert rest == 0, "the query yields NULLs or text"
    assert bool((table["#"] == len(kinds)).all()), "the query yields NULLs or text"
    return table


class NativeColumns:
    """Columns in this machine's own form, filled piece by piece and each value written once.

    timestamptz: int64 microseconds since 1970 UTC; date: datetime64[D]; float8: float64; int4: int64; bool: bool.
    """

    def __init__(self, kinds: Sequence[tuple[str, Kind]], pieces: int = 1) -> None:
        """`pieces`: how many are to come. Room is made for so many of the first one's size; what is not filled is
        never touched, and so never costs memory.
        """
        self._kinds = kinds
        self._pieces = pieces
        self._rows = 0
        self._room: dict[str, Array] = {}

    def append(self, table: WireRows) -> slice:
        """Add rows; where they went."""
        part = slice(self._rows, self._rows + len(table))
        self._make_room(part.stop)
        for name, kind in self._kinds:
            target = self._room[name][part]
            if kind in _SHIFT:
                np.add(table[name], _SHIFT[kind], out=target, casting="unsafe")
            else:
                target[:] = table[name]
        self._rows = part.stop
        return part

    def columns(self) -> dict[str, Array]:
        self._make_room(0)
        filled = {name: self._room[name][: self._rows] for name, _ in self._kinds}
        return {
            name: filled[name].view("datetime64[D]") if kind == "date" else filled[name] for name, kind in self._kinds
        }

    def _make_room(self, rows: int) -> None:
        if self._room and rows <= len(self._room[self._kinds[0][0]]):
            return
        size = max(rows * self._pieces, 2 * self._rows) if not self._room else max(rows, 2 * self._rows)
        for name, kind in self._kinds:
            larger: Array = np.empty(size, dtype=_NATIVE[kind])
            if self._rows:
                larger[: self._rows] = self._room[name][: self._rows]
            self._room[name] = larger
