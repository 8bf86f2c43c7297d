"""Stored bars into Parquet files, one for each symbol, timeframe and year."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import numpy as np

from backfill_pipeline.domain.grid import is_intraday
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Timeframe, parse_timeframe
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.parquet import Piece, Written, span_of, write_piece
from backfill_pipeline.storage.symbols import get_instruments

from .requests import RequestError, parse_date
from .warehouse import Warehouse


@dataclass(frozen=True)
class ExportRequest:
    """`first`, `last`: session dates, both included; None: from the first stored one, to the last."""

    folder: Path
    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    first: date | None
    last: date | None
    features: bool


def parse_export(
    folder: Path,
    symbols: Sequence[str],
    timeframes: Sequence[str],
    start: str | None,
    end: str | None,
    *,
    features: bool,
) -> ExportRequest:
    """Check and normalise. Raises RequestError."""
    try:
        frames = tuple(dict.fromkeys(parse_timeframe(text) for text in timeframes))
    except ValueError as error:
        raise RequestError(str(error)) from None
    first = None if start is None else parse_date("start", start)
    last = None if end is None else parse_date("end", end)
    if first is not None and last is not None and first > last:
        raise RequestError(f"start {first} is after end {last}; swap them")
    if not frames or not symbols:
        raise RequestError(f"no {'symbols' if frames else 'timeframes'} given")
    return ExportRequest(folder, tuple(dict.fromkeys(symbols)), frames, first, last, features)


def path_of(folder: Path, symbol: str, timeframe: Timeframe, year: int) -> Path:
    """Safe for any symbol: what a path could not hold is written as %2F and the like."""
    return folder / f"timeframe={timeframe}" / f"symbol={quote(symbol, safe='')}" / f"{year}.parquet"


def export(warehouse: Warehouse, request: ExportRequest) -> Iterator[tuple[Path, Written]]:
    """Write what differs, a file at a time; each file and what became of it. Killed, the same export goes on.

    Raises UnknownSymbolError, RequestError where a file cannot be written.
    """
    with warehouse.conn:
        instruments = get_instruments(warehouse.conn, request.symbols)
    for instrument in instruments.values():
        sessions = warehouse.sessions(instrument.calendar)
        for timeframe in request.timeframes:
            for year, piece in _pieces(warehouse, instrument, sessions, timeframe, request):
                path = path_of(request.folder, instrument.symbol, timeframe, year)
                try:
                    written = write_piece(warehouse.conn, piece, path)
                except OSError as error:
                    raise RequestError(f"{path} cannot be written: {error.strerror or error}") from None
                if written.rows:
                    yield path, written


def _pieces(
    warehouse: Warehouse, instrument: Instrument, sessions: Sessions, timeframe: Timeframe, request: ExportRequest
) -> Iterator[tuple[int, Piece]]:
    with warehouse.conn:
        years = span_of(warehouse.conn, instrument.symbol_id, timeframe)
    for year in range(years[0], years[1] + 1) if years is not None else ():
        first = max(date(year, 1, 1), request.first or date.min)
        last = min(date(year, 12, 31), request.last or date.max)
        if first <= last:
            windows = _windows(sessions, first, last, by_month=is_intraday(timeframe))
            yield year, Piece(instrument.symbol_id, instrument.symbol, timeframe, windows, request.features)


def _windows(sessions: Sessions, first: date, last: date, *, by_month: bool) -> tuple[Window, ...]:
    """Whole, or month by month: a month of minutes with extended hours is 20,000 rows in memory."""
    if not by_month:
        return (sessions.days_window(first, last),)
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    months = days.astype("datetime64[M]")
    cuts = np.split(days, np.flatnonzero(months[1:] != months[:-1]) + 1)
    return tuple(sessions.days_window(cut[0].astype(object), cut[-1].astype(object)) for cut in cuts)
