"""What Tradier's replies say: rows of minutes, or which ProviderError. No requests here.

Tradier speaks plain text, JSON, or its gateway's JSON (`fault`), with whatever status: words come before the status.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import orjson

from backfill_pipeline.domain.bars import UNKNOWN_TRADES, Bars, make_bars, no_bars
from backfill_pipeline.domain.windows import MINUTE, SECOND, to_micros

from .errors import (
    BeyondPlan,
    NeverServed,
    OddRefusal,
    ProviderError,
    ProviderStopped,
    RateLimited,
    ServerTrouble,
)
from .http import Reply, server_wait

NEW_YORK = ZoneInfo("America/New_York")

_BOUNDARY = re.compile(r"must be on or after (\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d)?)?)")
_QUOTA = re.compile(r"(?i)\s*quota violation")
_EPOCH_MS = re.compile(r"(\d{13})\W*$")
# Seconds of the year 9999: no later date can be stored or shown.
_LAST_SECOND = 253_402_214_400


class TooDeep(BeyondPlan):
    """`boundary`: the first whole minute that may be asked for, microseconds UTC."""

    def __init__(self, line: str, boundary: int) -> None:
        super().__init__(line)
        self.boundary = boundary


class TooBig(NeverServed):
    """The answer is larger than the gateway passes on: halve the range."""


def quota_wait(reply: Reply) -> float:
    """Seconds until the time (epoch ms) that a `Quota Violation` ends in, by the server's clock; 0 for any other."""
    text = reply.words()
    expiry = _EPOCH_MS.search(text)
    if not _QUOTA.match(text) or expiry is None:
        return 0.0
    known = {"X-Ratelimit-Available": "0", "X-Ratelimit-Expiry": expiry[1], "Date": reply.headers.get("Date", "")}
    return server_wait(known)


def refuse(reply: Reply) -> None:
    """Raise the ProviderError that a reply stands for in Tradier's words; statuses that speak for themselves pass."""
    where, status, text = reply.where, reply.status, reply.words()
    if _QUOTA.match(text):
        raise RateLimited(f"{where}: too many requests: does something else use the token?")
    if b'"fault"' in reply.body[:200]:
        raise _fault(reply)
    if status == 401 or text.lower().startswith("invalid access token"):
        raise _wrong_token(where, text)
    if status == 400:
        raise _refused(where, text)
    if status == 404:
        raise OddRefusal(f"{where}: nothing is there (404): does TRADIER_BASE_URL end in /v1?")
    if 400 < status < 500 and status not in (408, 429):
        raise NeverServed(f"{where}: refused ({status}): {text or 'no reason given'}")


def _fault(reply: Reply) -> ProviderError:
    """The gateway's own error."""
    try:
        fault = orjson.loads(reply.body)["fault"]
        told = (fault.get("faultstring", ""), (fault.get("detail") or {}).get("errorcode", ""))
        text, code = (" ".join(str(words).split())[:200] for words in told)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServerTrouble(f"{reply.where}: the server's JSON is broken or ends early ({reply.status})")
    if "TooBigBody" in code:
        return TooBig(f"{reply.where}: the answer is too big for the server ({code})")
    if "quota" in code.lower():
        return RateLimited(f"{reply.where}: too many requests: does something else use the token?")
    if code.startswith(("keymanagement.", "oauth.")) or "access token" in text.lower():
        return _wrong_token(reply.where, text)
    return ServerTrouble(f"{reply.where}: the server has trouble ({reply.status}): {text}")


def _wrong_token(where: str, text: str) -> ProviderStopped:
    return ProviderStopped(f"{where}: the token is not accepted: {text or 'no reason given'}; correct TRADIER_TOKEN")


def _refused(where: str, text: str) -> ProviderError:
    found = _BOUNDARY.search(text)
    try:
        boundary = datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        boundary = None
    if boundary is None:
        return OddRefusal(f"{where}: the request was called invalid: {text}")
    micros = to_micros(boundary.replace(tzinfo=NEW_YORK))
    return TooDeep(f"{where}: older than is served: {text}", -(-micros // MINUTE) * MINUTE)


def read_minutes(reply: Reply) -> Bars:
    """The rows of a timesales reply as they came. Raises ProviderError.

    Nothing is `series` null, "null" or absent, or `data` null; a single row comes as itself and not in a list.
    """
    body = reply.json()
    if not isinstance(body, dict):
        raise ServerTrouble(f"{reply.where}: the reply is no JSON object ({reply.status})")
    if body.get("unmatched_symbols"):
        raise NeverServed(f"{reply.where}: tradier does not know this symbol")
    if body and "series" not in body:
        raise ServerTrouble(f"{reply.where}: the reply has no `series` but {reply.words()!r}")
    series = body.get("series")
    rows = series.get("data") if isinstance(series, dict) else series
    if rows is None or rows == "null":
        return no_bars()
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not isinstance(series, dict):
        raise ServerTrouble(f"{reply.where}: the reply has no list of rows but {reply.words()!r}")
    return decode_rows(rows)


def decode_rows(rows: Sequence[Any]) -> Bars:
    """Rows `{timestamp open high low close volume vwap}`: `timestamp` is the bar's start in epoch seconds.

    `time` (without a zone) and `price` (the middle of high and low) are never used. What is no number becomes NaN, a
    time that is none 0. No vwap or one of 0 is unknown, and so are trades. A volume of 0 says that nobody traded: with
    prices it is a filler, without prices the row is left out.
    """
    seconds, opens, highs, lows, closes, volumes, vwaps = (_column(rows, name) for name in _NAMES)
    timely = (seconds > 0) & (seconds < _LAST_SECOND)
    ts = (np.where(timely, seconds, 0.0) * SECOND).astype(np.int64)
    trades = np.where(volumes == 0, 0, UNKNOWN_TRADES)
    bars = make_bars(ts, opens, highs, lows, closes, volumes, np.where(vwaps == 0, np.nan, vwaps), trades)
    unpriced = np.isnan(opens) & np.isnan(highs) & np.isnan(lows) & np.isnan(closes)
    nothing = timely & unpriced & ((volumes == 0) | np.isnan(volumes))
    return bars.take(~nothing) if nothing.any() else bars


_NAMES = ("timestamp", "open", "high", "low", "close", "volume", "vwap")


def _column(rows: Sequence[Any], name: str) -> npt.NDArray[np.float64]:
    values = (_number(row.get(name)) if isinstance(row, dict) else np.nan for row in rows)
    return np.fromiter(values, dtype=np.float64, count=len(rows))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:  # an integer beyond any float
        return float("inf")
