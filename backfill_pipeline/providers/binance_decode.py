"""What Binance's replies say: rows of klines as bars, or which ProviderError. No requests here."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import UNKNOWN_TRADES, Bars, make_bars, no_bars

from .errors import NeverServed, OddRefusal, ProviderStopped, RateLimited, ServerTrouble
from .http import MOST_WAIT, Reply, server_wait

# openTime, open, high, low, close, volume, closeTime, quote volume, trades; what follows is not used.
_CELLS = 9
_UNKNOWN_SYMBOL = -1121
# Milliseconds of the year 9999: no later date can be stored or shown.
_LAST_MS = 253_402_214_400_000
_MOST_COUNT = float(2**62)


def refuse(reply: Reply) -> None:
    """Raises what a reply that is no answer stands for; a 5xx is left to others."""
    status, where = reply.status, reply.where
    if status == 429:
        raise RateLimited(f"{where}: too many requests (429): does something else ask from this address?")
    if status == 418:
        # Who asks while banned is banned for longer, up to three days.
        if server_wait(reply.headers) > MOST_WAIT:
            raise ProviderStopped(f"{where}: this address is banned (418): {_said(reply)}; start again after that")
        raise RateLimited(f"{where}: this address is banned for a moment (418): {_said(reply)}")
    if status == 451:
        raise ProviderStopped(f"{where}: not served from this place (451): {_said(reply)}; use another base URL")
    if status in (401, 403):
        raise ProviderStopped(f"{where}: this address is turned away ({status}): {_said(reply)}")
    if status == 404:
        raise OddRefusal(f"{where}: a 404, which is no answer of Binance's own: is the base URL right?")
    if 400 <= status < 500 and status != 408:
        error = _error(reply)
        if error.get("code") == _UNKNOWN_SYMBOL:
            raise NeverServed(f"{where}: binance has no such pair: {_said(reply)}")
        raise OddRefusal(f"{where}: the request was called invalid ({status}): {_said(reply)}")


def read_klines(reply: Reply) -> tuple[Bars, npt.NDArray[np.int64]]:
    """The bars of a reply as they came, and when each is over, microseconds UTC (0: its row does not say)."""
    rows = reply.json()
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) < _CELLS for row in rows):
        raise ServerTrouble(f"{reply.where}: the reply holds something else than klines: {reply.words()!r}")
    if not rows:
        return no_bars(), np.zeros(0, dtype=np.int64)
    table = np.array([[_number(cell) for cell in row[:_CELLS]] for row in rows]).T
    opened, opens, highs, lows, closes, volumes, closed, quotes, counts = table
    with np.errstate(all="ignore"):  # volume 0, or nonsense that validation refuses
        vwaps = np.where(volumes > 0, quotes / volumes, np.nan)
    trades = np.where(np.abs(counts) < _MOST_COUNT, counts, UNKNOWN_TRADES).astype(np.int64)
    # The close time is the last millisecond of the bar.
    return make_bars(_micros(opened), opens, highs, lows, closes, volumes, vwaps, trades), _micros(closed + 1)


def _micros(ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """0 for what is no time. Whole milliseconds are exact in float64."""
    return (np.where((ms > 0) & (ms < _LAST_MS), ms, 0.0) * 1000).astype(np.int64)


def _number(cell: object) -> float:
    """NaN for what is none; prices and volumes come as text."""
    if isinstance(cell, bool) or not isinstance(cell, (str, int, float)):
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        return float("nan")
    except OverflowError:  # an integer beyond any float
        return float("inf")


def _error(reply: Reply) -> dict[str, Any]:
    """`{"code": -1121, "msg": "Invalid symbol."}`; empty for anything else, such as a firewall's page."""
    try:
        body = reply.json()
    except ServerTrouble:
        return {}
    return body if isinstance(body, dict) else {}


def _said(reply: Reply) -> str:
    return " ".join(str(_error(reply).get("msg") or reply.words() or "no reason given").split())[:200].rstrip(".")
