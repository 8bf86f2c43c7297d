"""Folders of flat files as a synced bucket has them, and what is known to be in them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.providers.base import MarketRequest
from backfill_pipeline_tests.providers.polygons import XNYS
from backfill_pipeline_tests.standin import Market, write_flat_files

FIRST, LAST = date(2026, 7, 29), date(2026, 8, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(6)]
SESSIONS = [day for day in DAYS if day.weekday() < 5]
# Names that a parser would take for nothing, a truth, a number; and beginnings of one another.
ODD = ("1e5", "A", "AA", "AAPL", "BRK.B", "CpL.CL", "NA", "NAN", "NULL", "TRUE", "None", "inf", "é")
TIMEFRAMES: tuple[Base, ...] = ("1m", "1d")
MARKET = Market(symbols=ODD)


def write_odd(folder: Path) -> Path:
    write_flat_files(folder, MARKET, ODD, DAYS)
    return folder


def file_of(folder: Path, day: date, timeframe: Base = "1m") -> Path:
    kind = "minute" if timeframe == "1m" else "day"
    return folder / f"us_stocks_sip/{kind}_aggs_v1/{day:%Y/%m}/{day}.csv.gz"


def stock(symbol: str) -> Instrument:
    return Instrument(1, symbol, "stock", "XNYS")


def known(symbol: str, timeframe: Base, days: Sequence[date] = SESSIONS) -> Bars:
    """The truth as files can tell it: they have no vwap."""
    window = XNYS.days_window(days[0], days[-1])
    bars = MARKET.minutes(symbol, window) if timeframe == "1m" else MARKET.days(symbol, days[0], days[-1])
    return replace(bars, vwap=np.full(len(bars), np.nan))


def whole_market(timeframe: Base, day: date, *tickers: str) -> MarketRequest:
    return MarketRequest("us_stocks_sip", timeframe, day, frozenset(tickers), XNYS)


def window_start(day: date, *, hours: int = 0) -> str:
    """As a file writes it, nanoseconds."""
    return str((XNYS.days_window(day, day).start + hours * 3_600_000_000) * 1000)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(change(text).encode()))
