"""Massive's flat files: one gzipped CSV per day with every ticker in it, as its S3 bucket lays them out."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from backfill_pipeline.domain.bars import Bars

from .encoding import go_number
from .market import Market

Kind = Literal["minute", "day"]
COLUMNS = "ticker,volume,open,close,high,low,window_start,transactions"


def write_flat_files(
    folder: Path,
    market: Market,
    symbols: Iterable[str],
    days: Iterable[date],
    kinds: Sequence[Kind] = ("minute", "day"),
) -> list[Path]:
    """Writes `us_stocks_sip/{minute,day}_aggs_v1/YYYY/MM/YYYY-MM-DD.csv.gz` below `folder`; days without a session
    get no file. Unadjusted; window_start in nanoseconds. Returns the files, the same bytes for the same market.
    """
    tickers, written = sorted(symbols), []
    for day in days:
        found = market.sessions("A").rows_between(day, day)
        for kind in kinds if found.stop > found.start else ():
            lines = [COLUMNS]
            for ticker in tickers:
                row = found.start
                bars = market.session_minutes(ticker, row) if kind == "minute" else market.day(ticker, row)
                lines += _lines(ticker, bars)
            path = folder / "us_stocks_sip" / f"{kind}_aggs_v1" / f"{day:%Y/%m}" / f"{day.isoformat()}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode(), compresslevel=1, mtime=0))
            written.append(path)
    return written


def _lines(ticker: str, bars: Bars) -> list[str]:
    columns = [map(_number, column.tolist()) for column in (bars.volume, bars.open, bars.close, bars.high, bars.low)]
    trades = ["" if count < 0 else str(count) for count in bars.trades.tolist()]
    starts = [str(ts * 1000) for ts in bars.ts.tolist()]
    return [",".join((ticker, *row)) for row in zip(*columns, starts, trades, strict=True)]


def _number(value: float) -> str:
    return go_number(value) if abs(value) < 1e6 else repr(value).removesuffix(".0")
