"""Make the stored bars those of a provider's answer, with the evidence.

The caller holds the symbol's lock and commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise

import numpy as np

from backfill_pipeline.domain.absence import inside
from backfill_pipeline.domain.bars import Micros, concatenate
from backfill_pipeline.domain.completeness import (
    SessionStatus,
    is_final,
    is_listed,
    judge,
    open_minutes,
    sums_of,
)
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.windows import MINUTE, Window, intersect, subtract, to_datetime, to_micros, union
from backfill_pipeline.storage.bars import StoredBars, read_bars, write_bars
from backfill_pipeline.storage.coverage import Covered, answered_windows, record_coverage
from backfill_pipeline.storage.quarantine import quarantine
from backfill_pipeline.storage.rows import Changes, Key
from backfill_pipeline.storage.status import read_status

from .evidence import counted
from .fetching import Fetched
from .verdicts import Rows, judge_absence, next_attempts, still_open
from .warehouse import Subject, Warehouse

# Sessions from .. to (places in the calendar, both included), and a line about them for people.
Note = tuple[int, int, str]

# How long a session with refused rows is believed to stay so.
_RETRY_AFTER = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class Ingested:
    """What a fetched answer did. `stored`: base bars now stored in its window. `open_ts`: minutes that may still
    get a bar.
    """

    fetched: Fetched
    changes: Changes
    statuses: tuple[SessionStatus, ...]
    stored: StoredBars
    open_ts: Micros


def ingest(warehouse: Warehouse, subject: Subject, fetched: Fetched) -> Ingested:
    """Store an answer in the open transaction: bars, revisions, quarantine, coverage. Statuses are only returned."""
    conn, base, provider = warehouse.conn, subject.chain.base, fetched.provider
    sessions, symbol_id = subject.sessions, subject.instrument.symbol_id
    quarantine(conn, symbol_id, base, provider, fetched.validated.refused, fetched.fetched_at)
    vouched = union([*fetched.answered, *answered_windows(conn, symbol_id, base, fetched.window)])
    stored, at = _merged(warehouse, subject, fetched, vouched)
    heard = counted(stored, vouched)
    heard_at = at if heard is stored else subject.rows_of(heard.bars.ts)
    due_at = subject.route.due_at()
    statuses = judge(
        sessions,
        fetched.rows,
        base,
        heard_at[heard.segment == REGULAR],
        listed=is_listed(sessions, subject.instrument),
        due_at=due_at,
        now=fetched.fetched_at,
        provider=provider,
        sums=sums_of(fetched.rows, stored.bars, at),
    )
    statuses = judge_absence(
        warehouse, subject, fetched.rows, statuses, heard, fetched.answered, fetched.fetched_at, asked=True
    )
    changes = Changes()
    covered: list[Covered] = []

    def write(window: Window) -> tuple[int, int]:
        nonlocal changes
        chosen = stored.between(window)
        key = Key(symbol_id, base, window)
        written = write_bars(conn, key, chosen, provider, now=fetched.fetched_at, keep_revisions=True)
        changes += written
        return len(chosen.bars), written.written

    missing = any(status.missing for status in statuses)  # without, there are no gaps to come back for
    again = next_attempts(warehouse, subject, fetched.rows) if missing else {}
    for window, settled, until in _classes(subject, fetched, statuses, due_at, again):
        answered = intersect(fetched.answered, [window])
        covered += [Covered(stretch, *write(stretch), settled, until) for stretch in answered]
    for silent in subtract([fetched.window], fetched.answered):
        if inside(fetched.validated.bars.ts, [silent]).any():
            write(silent)  # provisional bars
    record_coverage(conn, symbol_id, base, provider, covered, fetched.fetched_at)
    known = subtract(vouched, _holes(fetched))
    open_ts = open_minutes(sessions, fetched.rows, statuses, known, heard.bars.ts)
    if base == "1m":
        open_ts = still_open(warehouse, subject, fetched.rows, statuses, open_ts)
    return Ingested(fetched, changes, tuple(statuses), stored, open_ts)


def record_answer(warehouse: Warehouse, subject: Subject, fetched: Fetched) -> None:
    """Coverage of an answer about consecutive sessions whose stored bars stay as they are."""
    conn, base, symbol_id, sessions = warehouse.conn, subject.chain.base, subject.instrument.symbol_id, subject.sessions
    labels = sessions.session[fetched.rows].astype(object).tolist()
    known = read_status(conn, symbol_id, base, labels[0], labels[-1])
    statuses = [known[label] for label in labels]
    again = next_attempts(warehouse, subject, fetched.rows)
    covered = []
    for window, settled, until in _classes(subject, fetched, statuses, subject.route.due_at(), again):
        received = len(fetched.validated.bars.between(window.start, window.end))
        covered += [Covered(part, received, 0, settled, until) for part in intersect(fetched.answered, [window])]
    record_coverage(conn, symbol_id, base, fetched.provider, covered, fetched.fetched_at)


def _merged(
    warehouse: Warehouse, subject: Subject, fetched: Fetched, vouched: Sequence[Window]
) -> tuple[StoredBars, Rows]:
    """What is to be stored in the answer's window: the answer's bars, and of stretches about which it says nothing the
    stored ones. There a provisional bar gives way to one that an earlier answer vouches for. With each bar's session.
    """
    sessions, base = subject.sessions, subject.chain.base
    new = fetched.validated.bars
    answered = inside(new.ts, fetched.answered)
    new = new.with_final(is_final(sessions, fetched.fetched_at)[subject.rows_of(new.ts)] & answered)
    new = new.take(answered | ~inside(new.ts, vouched))
    key = partial(Key, subject.instrument.symbol_id, base)
    silent = subtract([fetched.window], fetched.answered)
    old = concatenate([read_bars(warehouse.conn, key(window)) for window in silent])
    bars = new
    if len(old):
        bars = concatenate([new, old.take(~np.isin(old.ts, new.ts))]).sorted()
    if base == "1d":
        segment, at = np.full(len(bars), REGULAR, dtype=np.int8), sessions.row_of(bars.ts)
    else:
        part = sessions.parts.locate(bars.ts)
        segment, at = sessions.parts.segment[part], sessions.parts.row[part]
    return StoredBars(bars, sessions.session[at], segment), at


def _holes(fetched: Fetched) -> list[Window]:
    """The minutes of refused rows: absent for no reason, also before and after the market, where none is expected."""
    starts = [one.ts - one.ts % MINUTE for one in fetched.validated.refused if one.ts in fetched.window]
    return [Window(start, start + MINUTE) for start in starts]


def _classes(
    subject: Subject,
    fetched: Fetched,
    statuses: Sequence[SessionStatus],
    due_at: Micros,
    again: Mapping[int, datetime],
) -> list[tuple[Window, bool, datetime | None]]:
    """The answer's window cut into runs of sessions whose answer stays valid equally long: (window, settled, until).
    `again`: when a session with gaps is to be asked for next.
    """
    sessions, now = subject.sessions, fetched.fetched_at
    final = is_final(sessions, now)
    night = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
    holed = set(sessions.row_of(np.array([hole.start for hole in _holes(fetched)], dtype=np.int64)).tolist())
    validity: list[tuple[bool, datetime | None]] = []
    for row, status in zip(fetched.rows.tolist(), statuses, strict=True):
        if due_at[row] > to_micros(now):
            validity.append((False, to_datetime(int(due_at[row]))))
        elif status.missing or row in holed:
            validity.append((True, again.get(row, now + _RETRY_AFTER)))
        else:
            validity.append((True, None if final[row] else night))
    firsts = [i for i in range(len(validity)) if i == 0 or validity[i] != validity[i - 1]]
    # Nights and closed days belong to the session before them, so that coverage has no holes.
    edges = [*(int(sessions.day_start[fetched.rows[i]]) for i in firsts), fetched.window.end]
    return [(Window(*edge), *validity[i]) for i, edge in zip(firsts, pairwise(edges), strict=True)]


def explain_unlisted(warehouse: Warehouse, subject: Subject, days: Sequence[date]) -> list[SessionStatus]:
    """Statuses of wanted sessions outside the instrument's lifetime: expected, and explained by it."""
    sessions = subject.sessions
    listed = is_listed(sessions, subject.instrument)
    rows = np.searchsorted(sessions.session, np.array(days, dtype="datetime64[D]"))
    return judge(
        sessions,
        rows[~listed[rows]].astype(np.int64),
        subject.chain.base,
        np.zeros(0, dtype=np.int64),
        listed=listed,
        due_at=subject.route.due_at(),
        now=warehouse.now(),
        provider=None,
    )
