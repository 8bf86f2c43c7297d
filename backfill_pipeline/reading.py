"""Stored bars and features as pandas frames, with a guard against reading what is not complete.

`from backfill_pipeline import read_bars, read_features`
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from backfill_pipeline.database_urls import canonical_url
from backfill_pipeline.domain.grid import true_ends
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.overrides import without
from backfill_pipeline.domain.sessions import SEGMENTS, Segment, Sessions, horizon, load_sessions
from backfill_pipeline.domain.spans import Span, parse_span
from backfill_pipeline.domain.timeframe import Timeframe, parse_timeframe
from backfill_pipeline.reading_adjustment import adjustment
from backfill_pipeline.reading_arguments import (
    Adjust,
    Basis,
    Day,
    Label,
    OnIncomplete,
    Range,
    Splits,
    check,
    check_basis,
    check_names,
    check_range,
)
from backfill_pipeline.reading_completeness import (
    IncompleteError,
    IncompleteWarning,
    Lacking,
    describe,
    find_incomplete,
)
from backfill_pipeline.reading_spans import build, rows_of, window_of
from backfill_pipeline.settings import load_settings
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.databases import open_market
from backfill_pipeline.storage.frames import Columns, bar_columns, feature_columns
from backfill_pipeline.storage.overrides import closed_days
from backfill_pipeline.storage.symbols import get_instruments

if TYPE_CHECKING:
    import pandas as pd
    from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)


def read_bars(
    symbols: str | Sequence[str],
    timeframe: str,
    start: Day | datetime,
    end: Day | datetime,
    *,
    segment: Segment | Literal["all"] = "regular",
    adjust: Adjust = "none",
    as_of: Day | None = None,
    splits: Splits | None = None,
    tz: str = "UTC",
    label: Label = "start",
    on_incomplete: OnIncomplete = "warn",
    url: str | None = None,
) -> pd.DataFrame:
    """Bars of one or more symbols, in the order asked, each ascending by ts.

    `timeframe`: a stored one, or any number of minutes, hours (up to a day), days, weeks or months: `45m`, `2h`, `1mo`.
    Those are built from stored bars by the same rules: anchored at the start of their segment and cut at its end; weeks
    from Monday, months and years (`12mo`) by session date. A bucket that is not complete is left out.
    `start`, `end`: session dates, both included (`"2024-03-08"`), or two aware datetimes, half-open, of bar starts.
    `segment`: `regular`, `pre`, `post` or `all`. `adjust="splits"`: prices and vwap multiplied, volume divided, so
    that all bars are in the share basis of `as_of` (None: today); weeks are built from adjusted days. The splits are
    the stored ones, unless `splits` gives others, by symbol or for the one symbol asked (with `as_of` None, all of
    them). `adjust="all"`: prices and vwap by the stored dividends, too, each 1 - cash / the close before its ex-date;
    volume is not. `tz`: zone of `ts`. `label="end"`: `ts` is when the bar was over, never later than its segment's
    end; a day ends at its close, a week or month at its last session's.
    `on_incomplete`: what to do when sessions in range that are due are not known to be complete, or dividends had to be
    left out; the warning or error has `windows`: a list of (symbol, first session, last session, missing base bars).
    `url`: another database than the settings'.

    Columns: symbol (category), ts (datetime64[us, tz]), session (datetime64[s]), open, high, low, close, volume, vwap
    (float64, vwap NaN unknown), trades (Int64), final (bool); with `segment="all"` also segment (category).
    Raises UnknownSymbolError, IncompleteError, ValueError for a wrong argument.
    """
    import pandas as pd

    check(adjust, label, on_incomplete, tz)
    span = parse_span(timeframe)
    if segment not in (*SEGMENTS, "all"):
        raise ValueError(f"segment {segment!r} is not known; use one of {' '.join(SEGMENTS)} all")
    wanted, names = check_range(start, end), check_names(symbols)
    basis = check_basis(adjust, as_of, splits, names)
    with _open(url) as conn:
        subjects = _subjects(conn, names)
        _guard(conn, subjects, span, wanted, on_incomplete)
        stretches = [(instrument.symbol_id, window_of(span, wanted, sessions)) for instrument, sessions in subjects]
        columns, parts = bar_columns(conn, stretches, span.source, None if segment == "all" else segment)
        _adjust(conn, subjects, columns, parts, span.source, wanted, basis, on_incomplete)
        columns, parts = build(conn, subjects, columns, parts, span, wanted)
    if segment == "all":
        columns["segment"] = np.empty(len(columns["ts"]), dtype=np.int8)
    for (_, sessions), part in zip(subjects, parts, strict=True):
        own = {name: column[part] for name, column in columns.items()}
        if segment == "all":
            own["segment"][:] = _segments(own, sessions, span)
        _label(own, sessions, span, label)
    table = _frame(names, columns, parts, tz)
    table["session"] = table["session"].astype("datetime64[s]")
    trades = table["trades"].to_numpy()
    table["trades"] = pd.arrays.IntegerArray(trades, trades < 0)
    if segment == "all":
        table["segment"] = pd.Categorical.from_codes(table["segment"].to_numpy(), pd.Index(SEGMENTS))
    return table


def read_features(
    symbols: str | Sequence[str],
    timeframe: str,
    start: Day | datetime,
    end: Day | datetime,
    *,
    adjust: Adjust = "none",
    as_of: Day | None = None,
    splits: Splits | None = None,
    tz: str = "UTC",
    label: Label = "start",
    on_incomplete: OnIncomplete = "warn",
    url: str | None = None,
) -> pd.DataFrame:
    """Features of regular bars; arguments and errors as in `read_bars`.

    Columns: symbol (category), ts (datetime64[us, tz]) and the features of the data dictionary (float64, NaN for
    NULL). With `adjust`, those in price units are rescaled as prices are. Windows know the stored splits; one over a
    split that only `splits` gives, and one over a dividend, still mixes both bases.
    """
    check(adjust, label, on_incomplete, tz)
    frame = parse_timeframe(timeframe)
    span = parse_span(frame)
    wanted, names = check_range(start, end), check_names(symbols)
    basis = check_basis(adjust, as_of, splits, names)
    with _open(url) as conn:
        subjects = _subjects(conn, names)
        _guard(conn, subjects, span, wanted, on_incomplete)
        stretches = [(instrument.symbol_id, window_of(span, wanted, sessions)) for instrument, sessions in subjects]
        columns, parts = feature_columns(conn, stretches, frame)
        _adjust(conn, subjects, columns, parts, frame, wanted, basis, on_incomplete)
    for (_, sessions), part in zip(subjects, parts, strict=True):
        _label({"ts": columns["ts"][part]}, sessions, span, label)
    return _frame(names, columns, parts, tz)


@contextmanager
def _open(url: str | None) -> Iterator[Connection]:
    market = canonical_url(url) if url else open_market(load_settings(Path(".env")))
    with closing(connect(market, application_name="backfill read")) as conn:
        yield conn


def _subjects(conn: Connection, names: Sequence[str]) -> list[tuple[Instrument, Sessions]]:
    last = horizon(datetime.now(UTC).date())
    instruments = get_instruments(conn, names).values()
    calendars = {c: without(load_sessions(c, last), closed_days(conn, c)) for c in {i.calendar for i in instruments}}
    return [(i, calendars[i.calendar]) for i in instruments]


def _guard(
    conn: Connection,
    subjects: Sequence[tuple[Instrument, Sessions]],
    span: Span,
    wanted: Range,
    on_incomplete: OnIncomplete,
) -> None:
    """Warn or raise, once for all symbols, for sessions in range that are due and not known to be complete."""
    if on_incomplete == "ignore":
        return
    now = datetime.now(UTC)
    each = [find_incomplete(conn, of, s, span, rows_of(span, wanted, s), now) for of, s in subjects]
    found = [one for one in each if one is not None]
    if found:
        _tell(describe(found), on_incomplete, [stretch for one in found for stretch in one.stretches])


def _tell(text: str, on_incomplete: OnIncomplete, windows: Sequence[Lacking] = ()) -> None:
    if on_incomplete == "raise":
        raise IncompleteError(text, windows)
    if on_incomplete == "warn":
        warnings.warn(IncompleteWarning(text, windows), stacklevel=4)  # the line that called read_bars


def _segments(columns: Columns, sessions: Sessions, span: Span) -> npt.NDArray[np.int8]:
    ts = columns["ts"].astype(np.int64)
    if not span.is_intraday:
        return np.full(len(ts), SEGMENTS.index("regular"), dtype=np.int8)
    return sessions.parts.segment[sessions.parts.locate(ts)]


def _adjust(
    conn: Connection,
    subjects: Sequence[tuple[Instrument, Sessions]],
    columns: Columns,
    parts: Sequence[slice],
    timeframe: Timeframe,
    wanted: Range,
    basis: Basis,
    on_incomplete: OnIncomplete,
) -> None:
    """Put adjusted values where the columns keep each symbol's rows."""
    if basis.adjust == "none":
        return
    for (instrument, sessions), part in zip(subjects, parts, strict=True):
        given = basis.splits.get(instrument.symbol)
        made = adjustment(
            conn, instrument, sessions, wanted.first, given=given, dividends=basis.adjust == "all", as_of=basis.as_of
        )
        if made.left_out:
            _tell(made.left_out, on_incomplete)
        own = {name: column[part] for name, column in columns.items()}
        for name, values in made.apply(conn, instrument, own, sessions, timeframe).items():
            own[name][:] = values


def _label(own: Columns, sessions: Sessions, span: Span, label: Label) -> None:
    if label == "start":
        return
    ts = own["ts"].astype(np.int64)
    own["ts"][:] = (
        true_ends(ts, sessions, span.source)
        if span.is_stored
        else span.ends(ts, own["session"].astype("datetime64[D]"), sessions)
    )


def _frame(names: Sequence[str], columns: Columns, parts: Sequence[slice], tz: str) -> pd.DataFrame:
    """One frame of all symbols' columns; `ts` from microseconds to `tz`."""
    import pandas as pd

    code = np.repeat(np.arange(len(names)), [part.stop - part.start for part in parts])
    table: dict[str, object] = {"symbol": pd.Categorical.from_codes(code, pd.Index(names)), **columns}
    stamps = columns["ts"].view("datetime64[us]")
    table["ts"] = pd.DatetimeIndex(stamps, tz="UTC").tz_convert(tz)
    return pd.DataFrame(table, copy=False)
