"""Bars from a file that somebody owns, stored as a provider's answer is. First all of it is read and judged; only then
is anything written, symbol by symbol. Killed in between, the same import goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from backfill_pipeline.domain.bars import Bars, make_bars
from backfill_pipeline.domain.imported import Edge, unmoved_split, wrong_hours
from backfill_pipeline.domain.sessions import REGULAR, Sessions
from backfill_pipeline.domain.validate import Validated, validate
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline.providers.bar_file_times import Clock, Times
from backfill_pipeline.providers.bar_files import BarFile, BarFileError, Batch
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.events import read_splits
from backfill_pipeline.storage.imports import record_import
from backfill_pipeline.storage.status import read_status
from backfill_pipeline.storage.symbols import get_instruments, symbol_lock

from .basis_check import mismatch
from .fetching import Fetched, consecutive, days_window, pieces
from .import_request import ImportRequest
from .import_spool import Spool
from .requests import RequestError
from .task import note_served
from .warehouse import Subject, Warehouse
from .window import Work, write_answers


@dataclass
class Found:
    """Of one symbol: what is stored, or would be. `refused`: rows by reason, for the quarantine. `outside`: rows out of
    session, left out. `kept`: sessions by the provider that has them. `incomplete`: sessions stored that lack bars.
    `notes`: what people should know.
    """

    symbol: str
    rows: int = 0
    sessions: int = 0
    bars: int = 0
    first: date | None = None
    last: date | None = None
    refused: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    incomplete: int = 0
    notes: list[str] = field(default_factory=list)


def read_file(warehouse: Warehouse, request: ImportRequest, folder: Path) -> Spool:
    """All rows of the file, in `folder`. Raises RequestError, UnknownSymbolError."""

    @cache
    def sessions(symbol: str) -> Sessions:
        return _subject(warehouse, request, symbol).sessions

    spool = Spool(folder, request.base, sessions)
    clock = Clock(str(request.path), request.tz, request.unit, days=request.base == "1d")
    try:
        file = BarFile(request.path, request.columns)
        _check_symbols(request, file)
        for batch in file.batches():
            _spool(request, spool, batch, clock.read(batch.stamps))
    except BarFileError as error:
        raise RequestError(str(error)) from None
    except OSError as error:
        raise RequestError(f"{folder} cannot hold the rows: {error.strerror}; set TMPDIR to a larger folder") from None
    if not spool.rows:
        raise RequestError(f"{request.path} holds no rows; nothing of it is stored")
    return spool


def _check_symbols(request: ImportRequest, file: BarFile) -> None:
    if request.symbol is None and "symbol" not in file.columns:
        raise RequestError(f"{request.path} has no column of symbols; say whose bars they are: --symbol AAPL")
    if request.symbol is not None and "symbol" in file.columns:
        column = file.columns["symbol"]
        raise RequestError(f"{request.path} has a column of symbols, {column!r}; leave --symbol out")


def _spool(request: ImportRequest, spool: Spool, batch: Batch, times: Times) -> None:
    if batch.timeframes is not None:
        others = [text for text in pc.unique(batch.timeframes).to_pylist() if text != request.base]
        if others:
            raise RequestError(f"{request.path} holds bars of {others[0]}, and not of {request.base} alone")
    whole = make_bars(times.micros, **batch.values, trades=batch.trades)
    codes, names = np.zeros(len(whole), dtype=np.int64), [str(request.symbol)]
    if batch.symbols is not None:
        coded = batch.symbols.dictionary_encode()
        codes, names = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
    for code, symbol in enumerate(names):
        bars = whole if len(names) == 1 else whole.take(codes == code)
        spool.add(symbol, _placed(request, bars, times, spool.sessions(symbol)))


def _placed(request: ImportRequest, bars: Bars, times: Times, sessions: Sessions) -> Bars:
    """With starts in UTC."""
    ts = bars.ts
    if times.is_date:
        ts = sessions.midnights(ts.astype("datetime64[us]").astype("datetime64[D]"))
    if request.is_end:
        ts = ts - MINUTE
    return make_bars(ts, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.vwap, bars.trades)


def survey(warehouse: Warehouse, request: ImportRequest, spool: Spool) -> list[Found]:
    """What storing it would do, by symbol; nothing is. Raises RequestError where the file is not what was said."""
    return [_survey(warehouse, request, spool, symbol) for symbol in spool.symbols]


def _survey(warehouse: Warehouse, request: ImportRequest, spool: Spool, symbol: str) -> Found:
    subject, found, edges = _subject(warehouse, request, symbol), Found(symbol), list[Edge]()
    with warehouse.conn:
        splits = read_splits(warehouse.conn, subject.instrument.symbol_id)
        for bars in spool.chunks(symbol):
            _refuse_hours(request, subject, bars, found)
            for fetched in _answers(warehouse, request, subject, bars, found):
                line = mismatch(warehouse, subject, fetched, splits)
                _refuse_adjusted(request, symbol, line)
                edges += _edges(subject, fetched.validated)
        _refuse_adjusted(request, symbol, unmoved_split(edges, splits))
    off_grid = sum(count for reason, count in found.refused.items() if "not the start of a day" in reason)
    if (not found.bars and not found.kept) or 2 * (found.outside + off_grid) > found.rows:
        raise RequestError(f"{request.path}: {_misfit(found)}")
    return found


def _misfit(found: Found) -> str:
    why = [f"{count:,} rows: {reason}" for reason, count in found.refused.most_common(2)]
    said = "; ".join([f"{found.outside:,} of {found.rows:,} rows are out of session", *why])
    return f"bars of {found.symbol} do not fit its sessions: {said}; nothing of it is stored. Correct --tz, or the file"


def _refuse_hours(request: ImportRequest, subject: Subject, bars: Bars, found: Found) -> None:
    if request.base == "1d" or (wrong := wrong_hours(bars.ts, subject.sessions)) is None:
        return
    hours, minutes = divmod(abs(wrong.shift) // MINUTE, 60)
    raise RequestError(
        f"{request.path}: the zone looks wrong: bars of {found.symbol} would fit the sessions of"
        f" {subject.sessions.calendar} better {hours}:{minutes:02} {'later' if wrong.shift > 0 else 'earlier'}"
        f" ({wrong.better / (2 * wrong.bars):.0%} instead of {wrong.inside / (2 * wrong.bars):.0%}); nothing of it is"
        " stored. Correct --tz, or the file"
    )


def _refuse_adjusted(request: ImportRequest, symbol: str, line: str | None) -> None:
    if line is not None:
        raise RequestError(f"{request.path}: {symbol} looks adjusted: {line}; nothing of it is stored")


def _edges(subject: Subject, validated: Validated) -> list[Edge]:
    bars, at, sessions = validated.bars, validated.part, subject.sessions
    if subject.chain.base == "1m":
        regular = np.flatnonzero(sessions.parts.segment[at] == REGULAR)
        bars, at = bars.take(regular), sessions.parts.row[at[regular]]
    if not len(bars):
        return []
    first = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
    last = np.append(first[1:], len(bars)) - 1
    days = sessions.session[at[first]].astype(object).tolist()
    return [Edge(*edge) for edge in zip(days, bars.open[first].tolist(), bars.close[last].tolist(), strict=True)]


def _subject(warehouse: Warehouse, request: ImportRequest, symbol: str) -> Subject:
    with warehouse.conn:
        instrument = get_instruments(warehouse.conn, [symbol])[symbol]
    subject = warehouse.subject(instrument, request.chain)
    warehouse.conn.commit()
    return subject


def _answers(
    warehouse: Warehouse, request: ImportRequest, subject: Subject, bars: Bars, found: Found
) -> Iterator[Fetched]:
    """The rows (ascending) as answers about the sessions that are to be stored; counted in `found`."""
    sessions, now = subject.sessions, warehouse.now()
    rows = np.unique(sessions.row_of(bars.ts))
    rows = rows[(rows >= 0) & (sessions.pre_open[rows] < to_micros(now))]
    found.rows += len(bars)
    stray = len(bars)
    for run in consecutive(rows):
        window = days_window(subject, run, now)
        mine = bars.between(window.start, window.end)
        stray -= len(mine)
        validated = validate(mine, request.base, window, sessions)
        found.refused.update(refusal.reason for refusal in validated.refused)
        found.outside += validated.outside
        fetched = Fetched(
            request.provider, window, run, validated, (window,), len(mine), now, (), by_hand=request.replace
        )
        kept = _kept(warehouse, request, subject, run, found)
        traded = np.unique(subject.rows_of(validated.bars.ts))
        for piece in pieces(subject, fetched, np.setdiff1d(traded, kept)):
            days = sessions.session[piece.rows].astype(object)
            found.sessions, found.bars = found.sessions + len(days), found.bars + len(piece.validated.bars)
            found.first, found.last = min(found.first or days[0], days[0]), days[-1]
            yield piece
    found.outside += stray


def _kept(warehouse: Warehouse, request: ImportRequest, subject: Subject, rows: np.ndarray, found: Found) -> list[int]:
    """Those of the sessions `rows` that another provider has bars of, and keeps."""
    if request.replace:
        return []
    days = subject.sessions.session[rows].astype(object).tolist()
    known = read_status(warehouse.conn, subject.instrument.symbol_id, request.base, days[0], days[-1])
    kept = []
    for row, day in zip(rows.tolist(), days, strict=True):
        status = known.get(day)
        if status is None or status.provider in (None, request.provider):
            continue
        if status.stored or (status.sums is not None and status.sums.bars):
            kept.append(row)
            found.kept[str(status.provider)] += 1
    return kept


def store(warehouse: Warehouse, request: ImportRequest, spool: Spool, work: Work) -> list[Found]:
    """Store what `survey` found no fault with, and all that follows from it; what was done, by symbol."""
    return [_store(warehouse, request, spool, symbol, work) for symbol in spool.symbols]


def _store(warehouse: Warehouse, request: ImportRequest, spool: Spool, symbol: str, work: Work) -> Found:
    subject, found = _subject(warehouse, request, symbol), Found(symbol)
    conn, symbol_id = warehouse.conn, subject.instrument.symbol_id
    with symbol_lock(conn, symbol_id, request.base):
        note_served(warehouse, subject)
        for bars in spool.chunks(symbol):
            with conn:
                answers = list(_answers(warehouse, request, subject, bars, found))
                _want(warehouse, request, subject, answers)
            if answers:
                found.notes += [text for _, _, text in write_answers(warehouse, subject, answers, work)]
        if found.first is not None and found.last is not None:
            with conn:
                stored = read_status(conn, symbol_id, request.base, found.first, found.last)
            mine = [status for status in stored.values() if status.provider == request.provider]
            found.incomplete = sum(not status.complete for status in mine)
    return found


def _want(warehouse: Warehouse, request: ImportRequest, subject: Subject, answers: Sequence[Fetched]) -> None:
    """What is imported is wanted, with the nights and closed days after it, and can be had."""
    symbol_id, sessions = subject.instrument.symbol_id, subject.sessions
    for fetched in answers:
        first, last = fetched.rows[[0, -1]].tolist()
        after = sessions.day_start[last + 1] if last + 1 < len(sessions) else sessions.day_end[last]
        window = Window(int(sessions.day_start[first]), int(after))
        want(warehouse.conn, symbol_id, request.base, window)
        record_import(warehouse.conn, symbol_id, request.base, request.provider, window)
