"""Bars as Polygon's JSON, in the numbers that Go's %g writes: 187 for 187.0 and 1.12117471e+08 from a million on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from backfill_pipeline.domain.bars import Bars

_ROW = b'{"v":%b,"vw":%b,"o":%b,"c":%b,"h":%b,"l":%b,"t":%b,"n":%b}'
_GROUPED_ROW = b'{"T":%b,"v":%b,"vw":%b,"o":%b,"c":%b,"h":%b,"l":%b,"t":%b,"n":%b}'


def go_number(value: float) -> str:
    """The shortest text that reads back as `value`, with an exponent below 1e-4 and from 1e6 on, as Go prints."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) - 1 + int(exponent)
    rest = "".join(map(str, digits[1:]))
    mantissa = f"{'-' if sign else ''}{digits[0]}{'.' if rest else ''}{rest}"
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def rows_json(bars: Bars) -> bytes:
    """The rows with commas between them, without brackets. An unknown vwap or count of trades is left out."""
    if not len(bars):
        return b""
    prices = [_numbers(column) for column in (bars.volume, bars.vwap, bars.open, bars.close, bars.high, bars.low)]
    blob = b",".join([_ROW % row for row in zip(*prices, _whole(bars.ts // 1000), _whole(bars.trades), strict=True)])
    return _without_unknown(blob)


def grouped_rows_json(rows: Sequence[tuple[str, Any]], t: int) -> bytes:
    """As `rows_json`, for (ticker, (open, high, low, close, volume, vwap, trades)), all at `t` milliseconds."""
    if not rows:
        return b""
    open_, high, low, close, volume, vwap, trades = np.array([row for _, row in rows], dtype=np.float64).T.copy()
    numbers = [_numbers(np.ascontiguousarray(column)) for column in (volume, vwap, open_, close, high, low)]
    tickers = [orjson.dumps(ticker) for ticker, _ in rows]
    times = [str(t).encode()] * len(rows)
    columns = (tickers, *numbers, times, _whole(trades.astype(np.int64)))
    return _without_unknown(b",".join([_GROUPED_ROW % row for row in zip(*columns, strict=True)]))


def object_json(members: Iterable[tuple[str, Any]], rows: bytes | None) -> bytes:
    """A JSON object of `members`, in which the value Ellipsis stands for the array of `rows`."""
    parts = []
    for name, value in members:
        text = b"[" + (rows or b"") + b"]" if value is ... else orjson.dumps(value)
        parts.append(orjson.dumps(name) + b":" + text)
    return b"{" + b",".join(parts) + b"}"


def _numbers(column: npt.NDArray[np.float64]) -> list[bytes]:
    text = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)
    tokens = (text[1:-1] + b",").replace(b".0,", b",").split(b",")[:-1]
    size = np.abs(column)
    for place in np.flatnonzero((size >= 1e6) | ((size < 1e-4) & (size > 0))):
        tokens[place] = go_number(float(column[place])).encode()
    return tokens


def _whole(column: npt.NDArray[np.int64]) -> list[bytes]:
    text = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",")


def _without_unknown(blob: bytes) -> bytes:
    return blob.replace(b'"vw":null,', b"").replace(b',"n":-1}', b"}")
