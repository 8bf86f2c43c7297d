"""Binance's klines: arrays of text, minutes of volume 0 where nobody traded, a last row that is not over."""

from __future__ import annotations

from typing import Any

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate, make_bars
from backfill_pipeline.domain.windows import DAY, MINUTE, Window

from .bars import merged
from .market import Market
from .replies import Call, RefusedError, Reply, as_json

KLINES = "/api/v3/klines"
WEIGHT = 2
_LENGTHS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}


def klines(call: Call, market: Market) -> Reply:
    query, symbol = call.query, call.query.get("symbol", "")
    length = _LENGTHS.get(query.get("interval", ""), 0) * MINUTE
    if not length:
        raise RefusedError(as_json(400, {"code": -1120, "msg": "Invalid interval."}))
    if not symbol.endswith("USDT") or symbol in market.events.unknown:
        raise RefusedError(as_json(400, {"code": -1121, "msg": "Invalid symbol."}))
    try:
        limit = min(int(query.get("limit", "500")), 1000)
        asked_start, asked_end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
    except ValueError:
        text = "Illegal characters found in a parameter."
        raise RefusedError(as_json(400, {"code": -1100, "msg": text})) from None
    now = call.options.micros_now()
    # Rows whose openTime lies in [startTime, endTime]; the newest ones where no start is given.
    end = min(now, now if asked_end is None else asked_end * 1000 + 1)
    start = end - limit * length if asked_start is None else asked_start * 1000
    start += -start % length
    end = min(end, start + limit * length)
    end += -end % length
    bars = _minutes(market, symbol, start, end, now)
    bars = merged(bars, bars.ts // length * length) if length > MINUTE else bars
    return as_json(200, [_row(bars, place, length) for place in range(len(bars))][:limit])


def _minutes(market: Market, symbol: str, start: int, end: int, now: int) -> Bars:
    """With fillers for silent minutes, up to and with the minute that is under way."""
    end = min(end, now - now % MINUTE + MINUTE)
    if end <= start:
        return make_bars([], [], [], [], [], [])
    window = Window(start, end)
    bars = market.minutes(symbol, window)
    silent = [
        np.arange(max(quiet.start, start), min(quiet.end, end), MINUTE, dtype=np.int64)
        for quiet in market.silenced.get(symbol, ())
    ]
    missing = np.setdiff1d(np.concatenate([np.zeros(0, dtype=np.int64), *silent]), bars.ts)
    if not len(missing):
        return bars
    before = np.maximum(np.searchsorted(bars.ts, missing) - 1, 0)
    price = bars.close[before] if len(bars) else np.ones(len(missing))
    none = np.zeros(len(missing))
    return concatenate([bars, make_bars(missing, price, price, price, price, none, price, none)]).sorted()


def _row(bars: Bars, place: int, length: int) -> list[Any]:
    ts = int(bars.ts[place])
    prices = [f"{getattr(bars, name)[place]:.8f}" for name in ("open", "high", "low", "close", "volume")]
    vwap, volume = float(np.nan_to_num(bars.vwap[place])), float(bars.volume[place])
    trades = max(int(bars.trades[place]), 0)
    close_time = (ts + length) // 1000 - 1
    quote = f"{vwap * volume:.8f}"
    return [ts // 1000, *prices, close_time, quote, trades, f"{volume / 2:.8f}", f"{vwap * volume / 2:.8f}", "0"]


assert _LENGTHS["1d"] * MINUTE == DAY
