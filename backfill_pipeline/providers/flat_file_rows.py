"""Reads the rows of wanted tickers out of one whole-market day file (gzipped CSV). Which file is not decided here.

A minute file has some 2 million rows of 12,000 tickers, 120 MB unzipped. Lines are told apart as bytes, ticker by
ticker, and only those of wanted tickers become numbers: 0.7 s, of which unzipping is 0.4, where parsing everything
takes twice as long and four times the memory. A ticker stays the bytes it is: `NA`, `TRUE` and `1e5` are names.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from backfill_pipeline.domain.bars import UNKNOWN_TRADES, Bars, concatenate, make_bars, no_bars
from backfill_pipeline.domain.windows import Window, to_datetime

from .errors import NotBelieved

_PRICES = ("volume", "open", "close", "high", "low")
_NAMES = ("ticker", *_PRICES, "window_start", "transactions")
HEADER = ",".join(_NAMES)
_CHUNK = 4 << 20
# Consecutive lines of one ticker. Files are sorted by ticker, so a run is mostly all there is of it; if one is not
# sorted, there are more runs. Possessive, so that a long run is never gone back over.
_RUN = re.compile(rb"([^,\n]*+),.*+\n(?:\1,.*+\n)*+")
# Any number of rows: a ticker, five numbers, nanoseconds that an int64 holds, and a count, which may be unknown.
_ROWS = re.compile(rb"(?:[^,\n]*+(?:,-?\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?){5},(?:[1-8]?\d{1,18}),\d{0,15}\r?\n)*+")


def read_rows(path: Path, where: str, tickers: Collection[str], day: Window) -> dict[str, Bars]:
    """By ticker, its rows in the file's order, labelled by their window_start; tickers without a row are left out.

    `where`: the file, for error lines. Raises FileNotFoundError; NotBelieved for a file that cannot be read to its
    end, is none of `day`, or has a wrong header or a cell that is no number.
    """
    wanted = {ticker.encode(): ticker for ticker in tickers}
    found: dict[str, list[Bars]] = {ticker: [] for ticker in tickers}
    chunks = _chunks(path, where)
    header, _, chunk = next(chunks, b"").partition(b"\n")
    told = header.decode("utf-8", "replace").strip()
    if told != HEADER:
        raise NotBelieved(f"{where}: it begins with {told[:80]!r} and not with {HEADER!r}; fetch the file anew")
    if not chunk and not (chunk := next(chunks, b"")):
        raise NotBelieved(f"{where}: the file has no rows; fetch it anew")
    # A file under another day's name has no row of this day; its first row tells.
    _parse([chunk[: chunk.find(b"\n") + 1]], where, day)
    while chunk:
        runs = _runs(chunk, where, wanted)
        bars = _parse([lines for _, lines in runs], where, day)
        end = 0
        for ticker, lines in runs:
            start, end = end, end + lines.count(b"\n")
            found[wanted[ticker]].append(bars.take(slice(start, end)))
        chunk = next(chunks, b"")
    return {ticker: concatenate(pieces) for ticker, pieces in found.items() if pieces}


def _chunks(path: Path, where: str) -> Iterator[bytes]:
    """The unzipped file in pieces that end where a line does."""
    rest = b""
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read(_CHUNK):
                piece = rest + piece
                cut = piece.rfind(b"\n") + 1
                if cut:
                    yield piece[:cut]
                rest = piece[cut:]
    except FileNotFoundError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise NotBelieved(f"{where}: the file is cut short or damaged; fetch it anew") from None
    except OSError as error:
        raise NotBelieved(f"{where}: the file cannot be read: {error.strerror or error}") from None
    if rest:
        yield rest + b"\n"


def _runs(chunk: bytes, where: str, wanted: Collection[bytes]) -> list[tuple[bytes, bytes]]:
    """The wanted tickers of a chunk, each with its lines."""
    runs, end = [], 0
    for run in _RUN.finditer(chunk):
        if run.start() != end:
            break
        end = run.end()
        if run[1] in wanted:
            runs.append((run[1], run[0]))
    if end != len(chunk):
        raise NotBelieved(f"{where}: {_line_at(chunk, end)!r} is no row; fetch the file anew")
    return runs


def _parse(runs: Sequence[bytes], where: str, day: Window) -> Bars:
    """The bars of lines, in their order. Raises NotBelieved as `read_rows` does."""
    import pandas as pd

    if not runs:
        return no_bars()
    lines = b"".join(runs)
    rows = _ROWS.match(lines)
    assert rows is not None  # it matches nothing at all, too
    if rows.end() != len(lines):
        raise NotBelieved(f"{where}: {_line_at(lines, rows.end())!r} is no row of numbers; fetch the file anew")
    table = pd.read_csv(
        BytesIO(lines),
        header=None,
        names=_NAMES,
        usecols=_NAMES[1:],
        # As floats, nanoseconds would lose their last digits.
        dtype={"window_start": "int64"} | dict.fromkeys((*_PRICES, "transactions"), "float64"),
        keep_default_na=False,
        na_values={"transactions": [""]},
        quoting=csv.QUOTE_NONE,
    )
    ts = table["window_start"].to_numpy() // 1000
    strays = ts[(ts < day.start) | (ts >= day.end)]
    if len(strays):
        raise NotBelieved(
            f"{where}: its bar of {to_datetime(int(strays[0])):%Y-%m-%d %H:%MZ} is of another day; fetch the file anew"
        )
    trades = table["transactions"].fillna(UNKNOWN_TRADES).to_numpy()
    volumes, opens, closes, highs, lows = (table[name].to_numpy() for name in _PRICES)
    return make_bars(ts, opens, highs, lows, closes, volumes, None, trades)


def _line_at(lines: bytes, at: int) -> str:
    return lines[at : at + 100].partition(b"\n")[0].decode("utf-8", "replace")
