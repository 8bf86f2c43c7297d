"""Bars in a file that somebody owns, Parquet or CSV, batch by batch through pyarrow. Times: bar_file_times.py.

What a row says is validated by the caller; here a file is refused that cannot be read as bars at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from backfill_pipeline.domain.bars import UNKNOWN_TRADES

# Names that a column is recognised by, whatever its case. An adjusted close is no close.
NAMES = {
    "ts": ("ts", "timestamp", "time", "date", "datetime", "t", "window_start"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v"),
    "vwap": ("vwap", "vw"),
    "trades": ("trades", "n", "transactions"),
    "symbol": ("symbol", "ticker", "sym"),
    "timeframe": ("timeframe",),
}
_NEEDED = ("ts", "open", "high", "low", "close", "volume")
_PRICES_AND_VOLUME = ("open", "high", "low", "close", "volume", "vwap")

# Rows of a batch, and bytes of one of CSV: some 64,000 rows, a few megabytes of memory.
_BATCH_ROWS = 65_536
_BATCH_BYTES = 1 << 22

Floats = npt.NDArray[np.float64]


class BarFileError(ValueError):
    """A file, or its layout, is not what was said. One line: which file, what, what to do."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows as they stand in the file. `stamps`: as they came. `values`: prices, volume, vwap (float64, NaN unknown).
    `trades`: int64, -1 unknown. `symbols`, `timeframes`: text a row, None where the file has no such column.
    """

    stamps: pa.Array
    values: Mapping[str, Floats]
    trades: npt.NDArray[np.int64]
    symbols: pa.Array | None
    timeframes: pa.Array | None


class BarFile:
    """A file and which of its columns is what. `given`: field → column, as the user said. Raises BarFileError."""

    def __init__(self, path: Path, given: Mapping[str, str]) -> None:
        self.path = path
        with self._told(), path.open("rb") as file:
            head = file.read(4)
        self._is_parquet = head == b"PAR1"
        with self._told():
            names = pq.read_schema(path).names if self._is_parquet else self._header()
        self.columns = self._recognised(names, given)

    def batches(self) -> Iterator[Batch]:
        """All rows, in the file's order. Raises BarFileError where the file is not whole."""
        with self._told():
            for batch in self._raw():
                yield self._batch(batch)

    def _raw(self) -> Iterator[pa.RecordBatch]:
        wanted = list(dict.fromkeys(self.columns.values()))
        if self._is_parquet:
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted)
            return
        types = {self.columns[name]: pa.float64() for name in (*_PRICES_AND_VOLUME, "trades") if name in self.columns}
        types |= {self.columns[name]: pa.string() for name in ("ts", "symbol", "timeframe") if name in self.columns}
        convert = pa_csv.ConvertOptions(column_types=types, include_columns=wanted)
        read = pa_csv.ReadOptions(block_size=_BATCH_BYTES)
        parse = pa_csv.ParseOptions(delimiter=self._delimiter())
        with pa.input_stream(str(self.path), compression="detect") as stream:
            yield from pa_csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)

    def _batch(self, batch: pa.RecordBatch) -> Batch:
        def column(name: str) -> pa.Array | None:
            return batch.column(self.columns[name]) if name in self.columns else None

        def floats(name: str) -> Floats:
            found = column(name)
            if found is None:
                return np.full(len(batch), np.nan)
            made: Floats = found.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
            return made

        counts = floats("trades")
        unknown = np.isnan(counts)
        trades = np.where(unknown, UNKNOWN_TRADES, np.nan_to_num(counts)).astype(np.int64)
        values = {name: floats(name) for name in _PRICES_AND_VOLUME}
        stamps = column("ts")
        if stamps is None or stamps.null_count:
            raise BarFileError(f"{self.path}: column {self.columns['ts']!r} has rows without a time; remove them")
        return Batch(stamps, values, trades, self._texts("symbol", column), self._texts("timeframe", column))

    def _texts(self, name: str, column: Any) -> pa.Array | None:
        found = column(name)
        if found is None:
            return None
        texts = found.cast(pa.string())
        if texts.null_count or pc.any(pc.equal(texts, "")).as_py():
            raise BarFileError(f"{self.path}: column {self.columns[name]!r} has rows without a {name}; fill them in")
        return texts

    def _header(self) -> list[str]:
        if self.path.suffix not in (".gz", ".zst", ".bz2"):  # those know their own end
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 1))
                if file.read() not in (b"\n", b"\r"):
                    raise BarFileError(
                        f"{self.path} ends in mid-line, cut short or not; if it is whole, add a line break"
                    )
        with pa.input_stream(str(self.path), compression="detect") as stream:
            parse = pa_csv.ParseOptions(delimiter=self._delimiter())
            names: list[str] = pa_csv.open_csv(stream, parse_options=parse).schema.names
        return names

    def _delimiter(self) -> str:
        with pa.input_stream(str(self.path), compression="detect") as stream:
            line = stream.read(_BATCH_ROWS).split(b"\n", 1)[0].decode("utf-8", "replace")
        return max(",;\t|", key=line.count)

    def _recognised(self, names: list[str], given: Mapping[str, str]) -> dict[str, str]:
        has = f"it has {', '.join(names[:20])}"
        found = {}
        for field, known in NAMES.items():
            if field in given:
                if names.count(given[field]) != 1:
                    raise BarFileError(f"{self.path} has no column {given[field]!r} for {field}; {has}")
                found[field] = given[field]
                continue
            mine = [name for name in names if name.strip().lower() in known and name not in given.values()]
            if len(mine) > 1:
                raise BarFileError(
                    f"{self.path}: {' and '.join(mine)} may each be {field}; say which: --columns {field}={mine[0]}"
                )
            if mine:
                found[field] = mine[0]
        if lacking := [field for field in _NEEDED if field not in found]:
            raise BarFileError(
                f"{self.path} has no column for {', '.join(lacking)}; {has}; say which: --columns {lacking[0]}=NAME"
            )
        return found

    def _told(self) -> _Told:
        return _Told(self.path)


class _Told:
    """What reading raises, in one line that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError | KeyError | UnicodeDecodeError):
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
            first = said.splitlines()[0] if said else type(error).__name__
            raise BarFileError(
                f"{self._path} cannot be read as bars: {first.rstrip('.')}; nothing of it is stored"
            ) from None
