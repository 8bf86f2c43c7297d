"""Reading any timeframe: which stored bars it takes, and building its bars from them. Frames: reading.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.bars import Bars, Micros
from backfill_pipeline.domain.completeness import SessionStatus, open_minutes
from backfill_pipeline.domain.grid import expected_per_session
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.resample import group_days, regroup
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.spans import Span
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.router import Route, Router
from backfill_pipeline.reading_arguments import Range
from backfill_pipeline.steps.fetching import consecutive
from backfill_pipeline.steps.verdicts import still_open
from backfill_pipeline.steps.warehouse import Subject, Warehouse
from backfill_pipeline.storage.bars import read_bars
from backfill_pipeline.storage.coverage import answered_windows, wanted_rows
from backfill_pipeline.storage.frames import Columns
from backfill_pipeline.storage.rows import Key
from backfill_pipeline.storage.status import read_status

_VALUES = ("open", "high", "low", "close", "volume", "vwap", "trades", "final")


def window_of(span: Span, wanted: Range, sessions: Sessions) -> Window:
    """Starts of the stored bars to read. A week or month belongs to a range of dates that holds its first day."""
    if span.is_stored or (span.is_intraday and wanted.exact is None):
        return wanted.exact or sessions.days_window(wanted.first, wanted.last)
    if span.is_intraday:
        assert wanted.exact is not None
        return Window(wanted.exact.start, wanted.exact.end + span.length)
    days = _days(span, wanted, sessions)
    return sessions.days_window(*days) if days else sessions.days_window(wanted.first, wanted.last)


def rows_of(span: Span, wanted: Range, sessions: Sessions) -> slice:
    """The sessions that trade in the range, or in the buckets that start in it."""
    if not (span.is_stored or span.is_intraday):
        days = _days(span, wanted, sessions)
        return sessions.rows_between(*days) if days else slice(0, 0)
    if wanted.exact is None:
        return sessions.rows_between(wanted.first, wanted.last)
    low = np.searchsorted(sessions.post_close, wanted.exact.start, side="right")
    return slice(int(low), int(np.searchsorted(sessions.pre_open, wanted.exact.end)))


def _days(span: Span, wanted: Range, sessions: Sessions) -> tuple[date, date] | None:
    """First and last day of the buckets that start in the range; None where none does."""
    labels = _labels(span, wanted, sessions)
    if not len(labels):
        return None
    last: date = (span.after(labels[-1]) - np.timedelta64(1, "D")).astype(object)
    return labels[0].astype(object), last


def _labels(span: Span, wanted: Range, sessions: Sessions) -> npt.NDArray[np.datetime64]:
    """First days of the buckets that start in the range, ascending."""
    spare = timedelta(days=0 if wanted.exact is None else 1)  # its dates are UTC's
    days = np.arange(np.datetime64(wanted.first - spare, "D"), np.datetime64(wanted.last + spare, "D") + 1)
    labels = np.unique(span.labels(days))
    keep = labels >= days[0] if wanted.exact is None else inside(sessions.midnights(labels), [wanted.exact])
    kept: npt.NDArray[np.datetime64] = labels[keep]
    return kept


def build(
    conn: Connection,
    subjects: Sequence[tuple[Instrument, Sessions]],
    columns: Columns,
    parts: Sequence[slice],
    span: Span,
    wanted: Range,
) -> tuple[Columns, list[slice]]:
    """The columns and rows by symbol of `span`, from those of its source. Buckets that lack bars are left out."""
    if span.is_stored:
        return columns, list(parts)
    made: list[Columns] = []
    for (instrument, sessions), part in zip(subjects, parts, strict=True):
        bars = Bars(*(columns[name][part] for name in ("ts", *_VALUES)))  # type: ignore[arg-type]  # their dtypes are those of Bars
        of = _intraday if span.is_intraday else _longer
        made.append(of(conn, instrument, sessions, bars, span, wanted))
    edges = np.cumsum([0, *(len(one["ts"]) for one in made)]).tolist()
    joined: Columns = {name: np.concatenate([one[name] for one in made]) for name in columns}
    return joined, [slice(low, high) for low, high in pairwise(edges)]


def _columns(bars: Bars, session: npt.NDArray[np.datetime64]) -> Columns:
    return {"ts": bars.ts, "session": session, **{name: getattr(bars, name) for name in _VALUES}}


def _intraday(
    conn: Connection, instrument: Instrument, sessions: Sessions, bars: Bars, span: Span, wanted: Range
) -> Columns:
    part = sessions.parts.locate(bars.ts)
    made, part = regroup(bars, part, sessions, span.length)
    open_ts = _open_minutes(conn, instrument, sessions, np.unique(sessions.parts.row[part]))
    keep = ~np.isin(made.ts, span.broken(open_ts, sessions))
    if wanted.exact is not None:
        keep &= inside(made.ts, [wanted.exact])
    return _columns(made.take(keep), sessions.session[sessions.parts.row[part[keep]]])


def _open_minutes(conn: Connection, instrument: Instrument, sessions: Sessions, rows: npt.NDArray[np.int64]) -> Micros:
    """Minutes of the sessions `rows` (ascending) that may still get a bar, as stored bars are judged by."""
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    days: list[date] = sessions.session[rows].astype(object).tolist()
    known = read_status(conn, instrument.symbol_id, "1m", days[0], days[-1])
    doubtful = [day not in known or not known[day].complete for day in days]
    expected = expected_per_session(sessions, "1m")
    nobody = Warehouse(conn, Router([]), lambda: datetime.now(UTC))
    subject = Subject(instrument, INTRADAY, sessions, Route(sessions, (), ()))
    found = [np.zeros(0, dtype=np.int64)]
    for run in consecutive(rows[doubtful]):
        window = Window(int(sessions.day_start[run[0]]), int(sessions.day_end[run[-1]]))
        vouched = answered_windows(conn, instrument.symbol_id, "1m", window)
        present = read_bars(conn, Key(instrument.symbol_id, "1m", window)).ts
        statuses = []
        for row in run.tolist():
            day = sessions.session[row].astype(object)
            lacking = int(expected[row])
            statuses.append(known.get(day) or SessionStatus(day, lacking, 0, {}, lacking, {}, None))
        open_ts = open_minutes(sessions, run, statuses, vouched, present[inside(present, vouched)])
        found.append(still_open(nobody, subject, run, statuses, open_ts))
    return np.concatenate(found)


def _longer(
    conn: Connection, instrument: Instrument, sessions: Sessions, bars: Bars, span: Span, wanted: Range
) -> Columns:
    whole = np.zeros(len(sessions), dtype=bool)
    rows = rows_of(span, wanted, sessions)
    asked = wanted_rows(conn, instrument, "1d", sessions, rows)
    if len(asked):
        days: list[date] = sessions.session[asked].astype(object).tolist()
        known = read_status(conn, instrument.symbol_id, "1d", days[0], days[-1])
        whole[asked] = [day in known and known[day].complete for day in days]
    made, labels = group_days(bars, sessions, whole, span.labels(sessions.session))
    keep = np.isin(labels, _labels(span, wanted, sessions))
    return _columns(made.take(keep), labels[keep])
