"""Coarser bars and features from stored base bars, as far as a change reaches, in the open transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.adjust import basis_sessions, split_basis
from backfill_pipeline.domain.bars import Bars, Micros
from backfill_pipeline.domain.completeness import SessionStatus, is_whole
from backfill_pipeline.domain.features import WARM_UP, FeatureInput, compute_blocks
from backfill_pipeline.domain.grid import bars_per_year, is_intraday, places
from backfill_pipeline.domain.resample import iso_monday, resample, weeks
from backfill_pipeline.domain.sessions import REGULAR, Sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import DAY, Window, to_datetime
from backfill_pipeline.storage.bars import (
    StoredBars,
    nth_regular_after,
    nth_regular_before,
    read_bars,
    write_bars,
)
from backfill_pipeline.storage.coverage import wanted_sessions
from backfill_pipeline.storage.events import read_splits
from backfill_pipeline.storage.features import write_features
from backfill_pipeline.storage.rows import Changes, Key
from backfill_pipeline.storage.status import read_status

from .split_weeks import on_one_basis, split_mondays
from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# Before and after every bar: 1970 and 2096, in microseconds.
_EVER, _FOREVER = 0, 4_000_000_000_000_000


@dataclass(frozen=True)
class Derived:
    """What deriving wrote: bars by timeframe, and per session the whole regular bars of each derived timeframe."""

    changes: Mapping[Timeframe, Changes]
    whole: Mapping[date, Mapping[str, int]]


def derive_intraday(
    warehouse: Warehouse, subject: Subject, rows: Rows, bars: Bars, open_ts: Micros, now: datetime, provider: str
) -> Derived:
    """5m to 4h of the consecutive sessions `rows` from all their minutes; `open_ts`: minutes that are still open."""
    sessions = subject.sessions
    window = Window(int(sessions.day_start[rows[0]]), int(sessions.day_end[rows[-1]]))
    changes: dict[Timeframe, Changes] = {}
    whole_counts: dict[date, dict[str, int]] = {sessions.session[row].astype(object): {} for row in rows.tolist()}
    for coarse in resample(bars, sessions.parts.locate(bars.ts), sessions, subject.chain.derived):
        row = sessions.parts.row[coarse.part]
        segment = sessions.parts.segment[coarse.part]
        whole = is_whole(coarse.bars.ts, coarse.timeframe, sessions, open_ts)
        made = coarse.bars.with_final(coarse.bars.final & whole)
        key = Key(subject.instrument.symbol_id, coarse.timeframe, window)
        stored = StoredBars(made, sessions.session[row], segment)
        changes[coarse.timeframe] = write_bars(warehouse.conn, key, stored, provider, now=now, keep_revisions=False)
        counts = np.bincount(row[whole & (segment == REGULAR)], minlength=len(sessions))[rows]
        for count, by_timeframe in zip(counts.tolist(), whole_counts.values(), strict=True):
            by_timeframe[coarse.timeframe] = count
    return Derived(changes, whole_counts)


def derive_weeks(warehouse: Warehouse, subject: Subject, first: date, last: date) -> Changes:
    """Weeks that hold any day of [first, last], from stored days and statuses; widened to Monday to Sunday."""
    sessions, conn, symbol_id = subject.sessions, warehouse.conn, subject.instrument.symbol_id
    monday, sunday = first - timedelta(days=first.weekday()), last + timedelta(days=6 - last.weekday())
    statuses = read_status(conn, symbol_id, "1d", monday, sunday)
    wanted = wanted_sessions(conn, subject.instrument, "1d", sessions, monday, sunday)
    done = [day for day in wanted if day in statuses and statuses[day].complete]
    whole = np.isin(sessions.session, np.array(done, dtype="datetime64[D]"))
    changes = Changes()
    mondays = [monday + timedelta(days=7 * i) for i in range((sunday - monday).days // 7 + 1)]
    for run, provider in by_provider(mondays, _weekly_providers(statuses), subject.route.providers[0].name):
        window = sessions.days_window(run[0], run[-1] + timedelta(days=6))
        made = weeks(read_bars(conn, Key(symbol_id, "1d", window)), sessions, whole)
        label = iso_monday((made.ts + DAY).astype("datetime64[us]").astype("datetime64[D]"))
        stored = StoredBars(made, label, np.full(len(made), REGULAR, dtype=np.int8))
        key = Key(symbol_id, "1w", window)
        changes += write_bars(conn, key, stored, provider, now=warehouse.now(), keep_revisions=False)
    # A restated day may change a week on one share basis and leave the stored bar, which mixes two, as it was.
    for day in split_mondays(read_splits(conn, symbol_id)):
        if monday <= day <= sunday:
            ts = sessions.days_window(day, day).start
            changes += Changes(first=ts, last=ts)
    return changes


def _weekly_providers(statuses: Mapping[date, SessionStatus]) -> dict[date, str | None]:
    """By Monday, who answered for the week's newest day that anybody was asked for."""
    return {day - timedelta(days=day.weekday()): status.provider for day, status in statuses.items() if status.provider}


def by_provider(
    days: Sequence[date], providers: Mapping[date, str | None], default: str
) -> list[tuple[list[date], str]]:
    """`days` in runs of the same provider. A day of which none is known goes with the one before it."""
    runs: list[tuple[list[date], str]] = []
    for day in days:
        provider = providers.get(day) or (runs[-1][1] if runs else default)
        if runs and runs[-1][1] == provider:
            runs[-1][0].append(day)
        else:
            runs.append(([day], provider))
    return runs


def derive_features(warehouse: Warehouse, subject: Subject, timeframe: Timeframe, changed: Window) -> Changes:
    """Recompute the features that can see a bar of `changed`: from its first block to the last whose warm-up does."""
    conn, symbol_id, sessions = warehouse.conn, subject.instrument.symbol_id, subject.sessions
    edge = nth_regular_after(conn, symbol_id, timeframe, changed.end - 1, WARM_UP)
    start = _block_start(changed.start, sessions, timeframe)
    end = _FOREVER if edge is None else _block_end(edge, sessions, timeframe)
    warm = nth_regular_before(conn, symbol_id, timeframe, start, WARM_UP)
    first = _EVER if warm is None else warm
    bars = read_bars(conn, Key(symbol_id, timeframe, Window(first, end)), regular_only=True)
    splits = read_splits(conn, symbol_id)
    if timeframe == "1w":
        bars = on_one_basis(conn, symbol_id, bars, sessions, splits)
    at = places(bars.ts, sessions, timeframe)
    low = int(np.searchsorted(bars.ts, start))
    key = Key(symbol_id, timeframe, Window(changed.start, end))
    if low == len(bars):
        return write_features(conn, key, bars.ts[:0], {})
    adjacent = np.concatenate([[False], np.diff(at.ordinal) == 1])
    values = compute_blocks(
        FeatureInput(
            high=bars.high,
            low=bars.low,
            close=bars.close,
            volume=bars.volume,
            vwap=bars.vwap,
            adjacent=adjacent,
            session_first=at.first,
            basis=split_basis(basis_sessions(bars.ts, sessions, timeframe), splits) if splits else None,
            intraday=is_intraday(timeframe),
            bars_per_year=bars_per_year(sessions, timeframe),
        ),
        at.block,
        int(at.block[low]),
    )
    ts = bars.ts[low:]
    # What lies before the change in its block has not moved: features look back only.
    reached = int(np.searchsorted(ts, changed.start))
    return write_features(conn, key, ts[reached:], {name: column[reached:] for name, column in values.items()})


def _block_start(ts: int, sessions: Sessions, timeframe: Timeframe) -> int:
    """Start of the first day of the month (intraday) or year (daily) that `ts` falls in, as UTC."""
    day = _local_day(ts, sessions)
    first = day.replace(day=1) if is_intraday(timeframe) else day.replace(month=1, day=1)
    return sessions.days_window(first, first).start


def _block_end(ts: int, sessions: Sessions, timeframe: Timeframe) -> int:
    day = _local_day(ts, sessions)
    if is_intraday(timeframe):
        after = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        after = date(day.year + 1, 1, 1)
    return sessions.days_window(after, after).start


def _local_day(ts: int, sessions: Sessions) -> date:
    """The calendar day of `ts` in the sessions' zone."""
    return to_datetime(ts).astimezone(ZoneInfo(sessions.zone)).date()


def with_whole(statuses: Sequence[SessionStatus], whole: Mapping[date, Mapping[str, int]]) -> list[SessionStatus]:
    return [replace(status, derived=dict(whole.get(status.session, {}))) for status in statuses]
