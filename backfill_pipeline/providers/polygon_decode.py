"""What Polygon's (now Massive's) replies say: pages of bars, or which ProviderError. No requests here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import UNKNOWN_TRADES, Bars, make_bars, no_bars

from .errors import (
    BeyondPlan,
    NeverServed,
    NotBelieved,
    NotYet,
    OddRefusal,
    ProviderError,
    ProviderStopped,
    ServerTrouble,
)
from .http import Reply

Float = npt.NDArray[np.float64]

# Milliseconds of the year 9999: no later date can be stored or shown.
_LAST_MS = 253_402_214_400_000
_MOST_COUNT = float(2**62)


@dataclass(frozen=True)
class Page:
    """`base_rows`: base aggregates, the unit of `limit`. `next_target`: path and query of the next page, or None."""

    bars: Bars
    base_rows: int
    next_target: str | None
    tickers: tuple[str, ...] = ()


def read_page(reply: Reply, ticker: str | None) -> Page:
    """A page of aggregates of `ticker` (None: grouped, with a ticker per row). Raises ProviderError."""
    body = _object(reply)
    if reply.status != 200 or body.get("status") in ("ERROR", "NOT_AUTHORIZED", "NOT_FOUND"):
        raise error_of(reply, body)
    if ticker is not None and body.get("ticker", ticker) != ticker:
        raise NotBelieved(f"{reply.where}: the reply is about {body['ticker']!r}; nothing of it is stored")
    if body.get("adjusted") is True:
        raise NotBelieved(f"{reply.where}: unadjusted bars were asked and adjusted ones came; nothing of it is stored")
    rows = body.get("results")
    rows = [] if rows is None else rows
    if not isinstance(rows, list):
        raise ServerTrouble(f"{reply.where}: `results` is no list")
    told, following = body.get("resultsCount"), next_target(body.get("next_url"))
    # A page may be empty and lead to the next; any other that holds less than it says was cut short.
    if isinstance(told, int) and told > len(rows) and (rows or following is None):
        raise ServerTrouble(f"{reply.where}: the reply counts {told} bars and holds {len(rows)}")
    counts = [count for count in (body.get("queryCount"), len(rows)) if isinstance(count, int)]
    return Page(
        decode_rows(rows, suspicious=b"true" in reply.body),
        max(counts),
        following,
        tuple(str(row["T"]) if isinstance(row, dict) and "T" in row else "" for row in rows) if ticker is None else (),
    )


def read_object(reply: Reply) -> dict[str, Any]:
    """Any other reply that went well. Raises ProviderError."""
    body = _object(reply)
    if reply.status != 200:
        raise error_of(reply, body)
    return body


def _object(reply: Reply) -> dict[str, Any]:
    # These two speak whatever their body is.
    if reply.status in (401, 404) and reply.body.lstrip()[:1] != b"{":
        raise error_of(reply, {})
    body = reply.json()
    if not isinstance(body, dict):
        raise ServerTrouble(f"{reply.where}: the reply is no JSON object ({reply.status})")
    return body


def error_of(reply: Reply, body: dict[str, Any]) -> ProviderError:
    """The error that a JSON reply stands for; its text is in `error` or `message`."""
    told = body.get("error") or body.get("message") or ""
    text = " ".join(str(told).split())[:200]
    where, status, said = reply.where, reply.status, text.lower()
    if status == 401 or "unknown api key" in said:
        return ProviderStopped(f"{where}: the key is not accepted (401): {text or 'no reason given'}; correct it")
    if "data timeframe" in said:
        return BeyondPlan(f"{where}: older than the plan reaches: {text}")
    if "before end of day" in said:
        return NotYet(f"{where}: {text}")
    if status == 403 or body.get("status") == "NOT_AUTHORIZED":
        return NeverServed(f"{where}: not in the plan: {text}")
    if status == 400:
        return OddRefusal(f"{where}: the request was called invalid: {text}")
    if status == 404 or body.get("status") == "NOT_FOUND":
        if "status" not in body and "request_id" not in body:
            return OddRefusal(f"{where}: a 404 that is not the provider's own: is the base URL right?")
        return NeverServed(f"{where}: no such data: {text}")
    if status == 200:
        return ServerTrouble(f"{where}: an error with status 200: {text}")
    return NeverServed(f"{where}: refused ({status}): {text}")


def next_target(next_url: object) -> str | None:
    """Path and query of a `next_url`, `adjusted=false` said again and a key, should there be one, left out."""
    if not isinstance(next_url, str) or not next_url:
        return None
    parts = urlsplit(next_url)
    query = [
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if pair[0].lower() not in ("adjusted", "apikey", "api_key")
    ]
    return f"{parts.path}?{urlencode([*query, ('adjusted', 'false')])}"


def decode_rows(rows: Sequence[Any], *, suspicious: bool = True) -> Bars:
    """Rows `{o h l c v vw t n}` as they came; what is no number becomes NaN, a vw of 0 or none and no n are unknown.

    `suspicious` False: the rows hold no booleans, which numpy would take for numbers. A `t` that is no time becomes 0.
    """
    if not rows:
        return no_bars()
    try:
        ms, opens, highs, lows, closes, volumes = (_fast(rows, name, suspicious=suspicious) for name in "tohlcv")
    except (KeyError, TypeError, ValueError, OverflowError):
        ms, opens, highs, lows, closes, volumes = (_slow(rows, name) for name in "tohlcv")
    vwaps, counts = (_optional(rows, name, suspicious=suspicious) for name in ("vw", "n"))
    vwaps = np.where(vwaps == 0, np.nan, vwaps)
    known = np.isfinite(counts) & (np.abs(counts) < _MOST_COUNT)
    trades = np.where(known, counts, UNKNOWN_TRADES).astype(np.int64)
    timely = np.isfinite(ms) & (ms > 0) & (ms < _LAST_MS)
    # Whole milliseconds are exact in float64 until the year 287,000; fractions of one are kept for validation to see.
    ts = (np.where(timely, ms, 0.0) * 1000).astype(np.int64)
    return make_bars(ts, opens, highs, lows, closes, volumes, vwaps, trades)


def _fast(rows: Sequence[Any], name: str, *, suspicious: bool) -> Float:
    if suspicious:
        raise ValueError
    return np.fromiter((row[name] for row in rows), dtype=np.float64, count=len(rows))


def _optional(rows: Sequence[Any], name: str, *, suspicious: bool) -> Float:
    try:
        return _fast(rows, name, suspicious=suspicious)
    except (KeyError, TypeError, ValueError, OverflowError):
        return _slow(rows, name)


def _slow(rows: Sequence[Any], name: str) -> Float:
    """For pages with a row that lacks the column or holds no number in it."""
    column = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        value = row.get(name) if isinstance(row, dict) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                column[i] = value
            except OverflowError:  # an integer beyond any float
                column[i] = np.inf
    return column
