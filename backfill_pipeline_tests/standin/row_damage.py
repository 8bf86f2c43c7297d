"""Damage to single bars, whatever the provider calls their fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .encoding import go_number
from .faults import Fault
from .replies import Call, Reply, as_json

_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Fields:
    """Where a provider's row keeps a bar. `second`: its unit of time per second."""

    time: Any
    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any
    second: int


_POLYGON = Fields("t", "o", "h", "l", "c", "v", 1000)
_TRADIER = Fields("timestamp", "open", "high", "low", "close", "volume", 1)
_BINANCE = Fields(0, 1, 2, 3, 4, 5, 1000)
Rows = list[Any]


def damaged_rows(fault: Fault, call: Call, reply: Reply, body: Any) -> Reply | None:
    """The answer with its bars damaged; None where it has none, or none that the fault can damage."""
    found = _bars_of(call, body)
    if found is None:
        return None
    rows, fields = found
    if fault.name == "exponent_numbers":
        return replace(reply, body=_with_exponents(reply.body, fields))
    changed = _DAMAGES[fault.name](rows, fields, fault)
    if changed is None:
        return None
    rows[:] = changed
    if isinstance(body, dict) and "resultsCount" in body:
        body |= {"resultsCount": len(rows), "count": len(rows)}
    return replace(reply, body=as_json(200, body).body)


def _bars_of(call: Call, body: Any) -> tuple[Rows, Fields] | None:
    if call.family == "binance":
        return (body, _BINANCE) if isinstance(body, list) and body else None
    if call.family == "polygon":
        rows = body.get("results") if call.path.startswith("/v2/aggs/") else None
        return (rows, _POLYGON) if rows else None
    series = body.get("series")
    if not isinstance(series, dict) or not series.get("data"):
        return None
    if isinstance(series["data"], dict):
        series["data"] = [series["data"]]
    return series["data"], _TRADIER


def _number(row: Any, name: Any) -> float:
    return float(row[name])


def _with(row: Any, fields: Fields, **values: float | None) -> Any:
    """A copy of the row with new values by our own names, as text where the provider writes text."""
    new = dict(row) if isinstance(row, dict) else list(row)
    for name, value in values.items():
        place = getattr(fields, name)
        new[place] = str(value) if isinstance(new[place], str) and value is not None else value
    return new


def _chosen(rows: Rows, fault: Fault) -> int:
    """The bar to damage: option `row`, else the middle one."""
    return int(fault.options.get("row", len(rows) // 2)) % len(rows)


def _on_one(change: Callable[[Any, Fields], Any]) -> Callable[[Rows, Fields, Fault], Rows | None]:
    def damage(rows: Rows, fields: Fields, fault: Fault) -> Rows | None:
        place = _chosen(rows, fault)
        return [*rows[:place], change(rows[place], fields), *rows[place + 1 :]]

    return damage


def _duplicate(*, conflicting: bool) -> Callable[[Rows, Fields, Fault], Rows | None]:
    def damage(rows: Rows, fields: Fields, fault: Fault) -> Rows | None:
        place = _chosen(rows, fault)
        twin = rows[place]
        if conflicting:
            twin = _with(twin, fields, volume=_number(twin, fields.volume) * 2)
        return [*rows[: place + 1], twin, *rows[place + 1 :]]

    return damage


def _outside(rows: Rows, fields: Fields, fault: Fault) -> Rows | None:
    """A bar of a week before the answer's first and one of a week after its last."""
    week = 7 * _DAY_SECONDS * fields.second
    return [
        _with(rows[0], fields, time=rows[0][fields.time] - week),
        *rows,
        _with(rows[-1], fields, time=rows[-1][fields.time] + week),
    ]


def _without_vw_n(rows: Rows, fields: Fields, fault: Fault) -> Rows | None:
    if fields is _BINANCE:
        return None
    names = ("vw", "n", "vwap")
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def _unfinished(rows: Rows, fields: Fields, fault: Fault) -> Rows | None:
    """The last minute as it was seen early on: half of its volume, its close time still to come."""
    if fields is not _BINANCE:
        return None
    last = _with(rows[-1], fields, volume=_number(rows[-1], fields.volume) / 2)
    last[6] += 10 * 365 * _DAY_SECONDS * 1000
    return [*rows[:-1], last]


def _with_exponents(text: bytes, fields: Fields) -> bytes:
    """The same volumes, written 1.12117471e+08."""
    if fields is _BINANCE:
        return text
    pattern = re.compile(rf'"{fields.volume}":(-?[0-9.eE+-]+)')

    def exponent(match: re.Match[str]) -> str:
        value = float(match[1])
        digits = go_number(value) if abs(value) >= 1e6 else f"{value:.17e}"
        mantissa, _, power = digits.partition("e")
        short = mantissa if abs(value) >= 1e6 else _shortest(value, power)
        return f'"{fields.volume}":{short}e{power}'

    return pattern.sub(exponent, text.decode()).encode()


def _shortest(value: float, power: str) -> str:
    """The fewest digits before `power` that read back as the value."""
    for digits in range(18):
        mantissa = f"{value:.{digits}e}".partition("e")[0]
        if float(f"{mantissa}e{power}") == value:
            return mantissa
    return f"{value:.17e}".partition("e")[0]


_DAMAGES: dict[str, Callable[[Rows, Fields, Fault], Rows | None]] = {
    "duplicate_equal": _duplicate(conflicting=False),
    "duplicate_conflicting": _duplicate(conflicting=True),
    "outside_window": _outside,
    "unsorted": lambda rows, _fields, _fault: (
        [*rows[len(rows) // 2 :], *rows[: len(rows) // 2]] if len(rows) > 1 else None
    ),
    "off_grid": _on_one(lambda row, fields: _with(row, fields, time=row[fields.time] + 17 * fields.second)),
    "missing_vw_n": _without_vw_n,
    "fractional_volume": lambda rows, fields, _fault: [
        _with(row, fields, volume=_number(row, fields.volume) // 1 + 0.123456) for row in rows
    ],
    "nan_price": _on_one(lambda row, fields: _with(row, fields, close=float("nan"))),
    "null_price": _on_one(lambda row, fields: _with(row, fields, close=None)),
    "negative_price": _on_one(lambda row, fields: _with(row, fields, low=-_number(row, fields.low))),
    "inconsistent_price": _on_one(
        lambda row, fields: _with(row, fields, high=min(_number(row, fields.open), _number(row, fields.close)) * 0.99)
    ),
    "binance_unfinished": _unfinished,
}
