"""Ask the provider for open sessions and make the stored bars those of its answer, with the evidence.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import Bars, Micros, concatenate
from backfill_pipeline.domain.completeness import SessionStatus, is_final, is_listed, judge, open_minutes
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.validate import Validated, validate
from backfill_pipeline.domain.windows import Window, intersect, subtract, to_micros, union
from backfill_pipeline.providers.base import Request
from backfill_pipeline.storage.bars import StoredBars, read_bars, write_bars
from backfill_pipeline.storage.coverage import Covered, record_coverage
from backfill_pipeline.storage.quarantine import quarantine
from backfill_pipeline.storage.rows import Changes, Key

from .warehouse import Subject, Warehouse

Rows = npt.NDArray[np.int64]

# How long a session with missing bars is believed to stay so.
_RETRY_AFTER = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class Fetched:
    """A provider's answer about consecutive sessions `rows`, validated. `answered`: what it vouches for."""

    window: Window
    rows: Rows
    validated: Validated
    answered: tuple[Window, ...]
    received: int
    fetched_at: datetime
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ingested:
    """What a fetched answer did. `bars`, `part`: base bars now stored in its window. `open_ts`: minutes still open."""

    fetched: Fetched
    changes: Changes
    statuses: tuple[SessionStatus, ...]
    bars: Bars
    part: Rows
    open_ts: Micros


def fetch(warehouse: Warehouse, subject: Subject, days: Sequence[date]) -> list[Fetched]:
    """Ask for the sessions `days`: one request per run of consecutive sessions. Raises ProviderError."""
    sessions, now = subject.sessions, warehouse.now()
    rows = np.searchsorted(sessions.session, np.array(days, dtype="datetime64[D]"))
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    answers = []
    for run in runs:
        window = Window(int(sessions.day_start[run[0]]), min(int(sessions.day_end[run[-1]]), to_micros(now)))
        request = Request(subject.instrument, subject.chain.base, window, sessions)
        pieces = list(warehouse.provider.fetch(request, now))
        received = concatenate([piece.bars for piece in pieces])
        answers.append(
            Fetched(
                window,
                run,
                validate(received, subject.chain.base, window, sessions),
                tuple(union(answered for piece in pieces for answered in piece.answered)),
                len(received),
                now,
                tuple(dict.fromkeys(piece.note for piece in pieces if piece.note)),
            )
        )
    return answers


def ingest(warehouse: Warehouse, subject: Subject, fetched: Fetched) -> Ingested:
    """Store an answer in the open transaction: bars, revisions, quarantine, coverage. Statuses are only returned."""
    conn, base, provider = warehouse.conn, subject.chain.base, warehouse.provider
    quarantine(conn, subject.instrument.symbol_id, base, provider.name, fetched.validated.refused, fetched.fetched_at)
    bars, part = _with_kept(warehouse, subject, fetched)
    sessions = subject.sessions
    row = sessions.parts.row[part] if base == "1m" else part
    vouched = _inside(bars.ts, fetched.answered)
    bars = bars.with_final(is_final(sessions, fetched.fetched_at)[row] & vouched)
    segment = sessions.parts.segment[part] if base == "1m" else np.full(len(bars), REGULAR, dtype=np.int8)
    counted = vouched & (segment == REGULAR)
    due = provider.settle.due_at(sessions) <= to_micros(fetched.fetched_at)
    statuses = judge(
        sessions,
        fetched.rows,
        base,
        row[counted],
        listed=is_listed(sessions, subject.instrument),
        due=due,
        provider=provider.name,
    )
    changes = Changes()
    covered: list[Covered] = []
    for window, settled, valid_until in _classes(subject, fetched, statuses, due, provider.settle.due_at(sessions)):
        low, high = np.searchsorted(bars.ts, [window.start, window.end])
        chunk = slice(int(low), int(high))
        stored = StoredBars(bars.take(chunk), sessions.session[row[chunk]], segment[chunk])
        key = Key(subject.instrument.symbol_id, base, window)
        written = write_bars(conn, key, stored, provider.name, now=fetched.fetched_at, keep_revisions=True)
        changes += written
        covered += [
            Covered(answered, int(high - low), written.written, settled, valid_until)
            for answered in intersect(fetched.answered, [window])
        ]
    record_coverage(conn, subject.instrument.symbol_id, base, provider.name, covered, fetched.fetched_at)
    open_ts = open_minutes(sessions, fetched.rows, statuses, bars.ts[counted]) if base == "1m" else bars.ts[:0]
    return Ingested(fetched, changes, tuple(statuses), bars, part, open_ts)


def _with_kept(warehouse: Warehouse, subject: Subject, fetched: Fetched) -> tuple[Bars, Rows]:
    """The answer's bars, and the stored ones of stretches about which the answer says nothing."""
    bars, part = fetched.validated.bars, fetched.validated.part
    silent = subtract([fetched.window], fetched.answered)
    key = partial(Key, subject.instrument.symbol_id, subject.chain.base)
    old = concatenate([read_bars(warehouse.conn, key(window)) for window in silent])
    if len(old):
        old = old.take(~np.isin(old.ts, bars.ts))
    if not len(old):
        return bars, part
    merged = concatenate([bars, old]).sorted()
    sessions = subject.sessions
    return merged, sessions.parts.locate(merged.ts) if subject.chain.base == "1m" else sessions.row_of(merged.ts)


def _inside(ts: Micros, windows: Sequence[Window]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(ts), dtype=bool)
    for window in windows:
        low, high = np.searchsorted(ts, [window.start, window.end])
        inside[low:high] = True
    return inside


def _classes(
    subject: Subject,
    fetched: Fetched,
    statuses: Sequence[SessionStatus],
    due: npt.NDArray[np.bool_],
    due_at: Micros,
) -> list[tuple[Window, bool, datetime | None]]:
    """The answer's window cut into runs of sessions whose answer stays valid equally long: (window, settled, until)."""
    sessions, now = subject.sessions, fetched.fetched_at
    final = is_final(sessions, now)
    night = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
    validity: list[tuple[bool, datetime | None]] = []
    for row, status in zip(fetched.rows.tolist(), statuses, strict=True):
        if not due[row]:
            validity.append((False, now + timedelta(microseconds=int(due_at[row]) - to_micros(now))))
        elif status.missing:
            validity.append((True, now + _RETRY_AFTER))
        else:
            validity.append((True, None if final[row] else night))
    classes = []
    start = 0
    for i in range(1, len(validity) + 1):
        if i == len(validity) or validity[i] != validity[start]:
            low = int(sessions.day_start[fetched.rows[start]])
            # Nights and closed days belong to the session before them, so that coverage has no holes.
            high = fetched.window.end if i == len(validity) else int(sessions.day_start[fetched.rows[i]])
            classes.append((Window(low, high), *validity[start]))
            start = i
    return classes


def explain_unlisted(subject: Subject, days: Sequence[date], due: npt.NDArray[np.bool_]) -> list[SessionStatus]:
    """Statuses of wanted sessions outside the instrument's lifetime: expected, and explained by it."""
    sessions = subject.sessions
    listed = is_listed(sessions, subject.instrument)
    rows = np.searchsorted(sessions.session, np.array(days, dtype="datetime64[D]")) if days else np.zeros(0, np.int64)
    rows = rows[~listed[rows]].astype(np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    statuses = judge(sessions, rows, subject.chain.base, nothing, listed=listed, due=due, provider=None)
    return [replace(status, provider=None) for status in statuses]
