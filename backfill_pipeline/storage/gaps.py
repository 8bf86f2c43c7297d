"""The table `gaps`: open ones are what the last look found, past ones stay with what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.verdicts import Gap
from backfill_pipeline.domain.windows import Window, to_micros

from .coverage import as_range

# After the first sight a gap is asked for once a day, twice; then weekly.
_SOON, _OFTEN, _SELDOM = timedelta(days=1), 2, timedelta(days=7)
# Asking one provider after the other, or a person's asking twice, is one attempt.
_ONE_ATTEMPT = timedelta(hours=1)

ACCEPTED = "accepted"
AGREED = "agreed no_trade"


class GapError(ValueError):
    """A gap that cannot be accepted."""


@dataclass(frozen=True)
class StoredGap:
    """A row of the table; `symbol` in place of its id. `resolved_at` None: open."""

    gap_id: int
    symbol: str
    timeframe: Base
    window: Window
    expected: int
    found: int
    verdict: str
    evidence: Mapping[str, Any]
    attempts: int
    next_attempt_at: datetime
    detected_at: datetime
    resolved_at: datetime | None
    resolution: str | None


_SELECT = (
    "SELECT g.gap_id, y.symbol, g.timeframe::text, lower(g.time_window), upper(g.time_window), g.expected, g.found,"
    " g.verdict, g.evidence, g.attempts, g.next_attempt_at, g.detected_at, g.resolved_at, g.resolution"
    " FROM gaps AS g JOIN symbols AS y USING (symbol_id)"
)


def _stored(row: Sequence[Any]) -> StoredGap:
    gap_id, symbol, timeframe, low, high, *others = row
    return StoredGap(gap_id, symbol, timeframe, Window(to_micros(low), to_micros(high)), *others)


def next_attempt(now: datetime, attempts: int) -> datetime:
    """When a gap that has been asked for `attempts` times since it was found is asked for again."""
    return now + (_SOON if attempts < _OFTEN else _SELDOM)


def _last_asked(gap: StoredGap) -> datetime:
    return gap.next_attempt_at - (next_attempt(gap.detected_at, gap.attempts) - gap.detected_at)


def open_gaps(conn: Connection, symbol_id: int, timeframe: Base, window: Window) -> list[StoredGap]:
    """Those that share time with `window`, ascending."""
    with conn.cursor() as cursor:
        cursor.execute(
            f"{_SELECT} WHERE g.symbol_id = %s AND g.timeframe = %s AND g.resolved_at IS NULL AND g.time_window && %s"
            " ORDER BY g.time_window",
            (symbol_id, timeframe, as_range(window)),
        )
        return [_stored(row) for row in cursor.fetchall()]


def list_gaps(
    conn: Connection, symbols: Sequence[str] | None, timeframe: Base | None, *, past: bool = False
) -> list[StoredGap]:
    """Of `symbols`, or of all that are followed (None), by symbol, timeframe and time. `past`: closed ones, too."""
    with conn.cursor() as cursor:
        cursor.execute(
            f"{_SELECT} WHERE (y.symbol = ANY(%(symbols)s) OR %(symbols)s IS NULL AND y.active)"
            " AND (%(past)s OR g.resolved_at IS NULL) AND g.timeframe = coalesce(%(timeframe)s::timeframe, g.timeframe)"
            " ORDER BY y.symbol, g.timeframe, g.time_window, g.gap_id",
            {"symbols": None if symbols is None else list(symbols), "past": past, "timeframe": timeframe},
        )
        return [_stored(row) for row in cursor.fetchall()]


def never_asked(conn: Connection, symbols: Sequence[str] | None, timeframe: Base | None) -> int:
    """Wanted sessions, due by now, about which nobody has been asked since: they are missing, and no gaps yet."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM wanted_sessions AS w JOIN symbols AS y USING (symbol_id)"
            " LEFT JOIN session_status AS t ON t.symbol_id = w.symbol_id AND t.timeframe = w.base"
            " AND t.session = w.session WHERE (y.symbol = ANY(%(symbols)s) OR %(symbols)s IS NULL AND y.active)"
            " AND w.base = coalesce(%(timeframe)s::timeframe, w.base) AND w.missing > coalesce(t.missing, 0)",
            {"symbols": None if symbols is None else list(symbols), "timeframe": timeframe},
        )
        return int(cursor.fetchall()[0][0])


def acceptable(conn: Connection, gap_ids: Sequence[int]) -> list[StoredGap]:
    """The gaps of these ids, all open, by symbol and time. Raises GapError for the first that is not."""
    with conn.cursor() as cursor:
        cursor.execute(f"{_SELECT} WHERE g.gap_id = ANY(%s) ORDER BY y.symbol, g.time_window", (list(gap_ids),))
        found = [_stored(row) for row in cursor.fetchall()]
    known = {gap.gap_id: gap for gap in found}
    for gap_id in gap_ids:
        _check_open(gap_id, known.get(gap_id))
    return found


def due_gaps(conn: Connection, symbol_id: int, timeframe: Base, now: datetime) -> list[int]:
    """Where the open gaps start whose next attempt has come."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT lower(time_window) FROM gaps WHERE symbol_id = %s AND timeframe = %s AND resolved_at IS NULL"
            " AND next_attempt_at <= %s",
            (symbol_id, timeframe, now),
        )
        return [to_micros(start) for (start,) in cursor.fetchall()]


def explained_windows(conn: Connection, symbol_id: int, timeframe: Base, window: Window) -> dict[str, list[Window]]:
    """Past gaps whose bars count as explained, by resolution: ACCEPTED by a person, AGREED by two answers."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT resolution, lower(time_window), upper(time_window) FROM gaps"
            " WHERE symbol_id = %s AND timeframe = %s AND resolution IN ('accepted', 'agreed no_trade')"
            " AND time_window && %s",
            (symbol_id, timeframe, as_range(window)),
        )
        found: dict[str, list[Window]] = {ACCEPTED: [], AGREED: []}
        for resolution, low, high in cursor.fetchall():
            found[resolution].append(Window(to_micros(low), to_micros(high)))
        return found


def replace_gaps(
    conn: Connection,
    symbol_id: int,
    timeframe: Base,
    before: Sequence[StoredGap],
    found: Sequence[Gap],
    resolution: Callable[[StoredGap], str],
    now: datetime,
    *,
    asked: bool,
) -> None:
    """Make the open gaps of the sessions looked at, which are `before`, those `found`; in the open transaction.

    The same window stays the same row; any other is resolved with `resolution` of it. `asked`: the look follows
    a new answer, which counts as an attempt for gaps that were found earlier.
    """
    wanted = {gap.window: gap for gap in found}
    gone = [gap for gap in before if gap.window not in wanted]
    with conn.cursor() as cursor:
        for old in gone:
            cursor.execute(
                "UPDATE gaps SET resolved_at = %s, resolution = %s WHERE gap_id = %s",
                (now, resolution(old), old.gap_id),
            )
        for old in before:
            new = wanted.pop(old.window, None)
            if new is None:
                continue
            tried = asked and now - _last_asked(old) >= _ONE_ATTEMPT
            same = (new.verdict, new.expected, new.found) == (old.verdict, old.expected, old.found)
            # What another hand did to the rows, the evidence's `detail`, is told until they are asked for again.
            if not tried and same and ("detail" in old.evidence or new.evidence == old.evidence):
                continue
            attempts = old.attempts + tried
            again = next_attempt(now, attempts) if tried else old.next_attempt_at
            cursor.execute(
                "UPDATE gaps SET expected = %s, found = %s, verdict = %s, evidence = %s, attempts = %s,"
                " next_attempt_at = %s WHERE gap_id = %s",
                (new.expected, new.found, new.verdict, json.dumps(new.evidence), attempts, again, old.gap_id),
            )
        rows = [
            (
                symbol_id,
                timeframe,
                as_range(gap.window),
                gap.expected,
                gap.found,
                gap.verdict,
                json.dumps(gap.evidence),
                next_attempt(now, 0),
                now,
            )
            for gap in wanted.values()
        ]
        execute_values(
            cursor,
            "INSERT INTO gaps (symbol_id, timeframe, time_window, expected, found, verdict, evidence, next_attempt_at,"
            " detected_at) VALUES %s",
            rows,
        )


def accept(conn: Connection, gap_id: int, because: str, now: datetime) -> StoredGap:
    """A person says that these bars will not come: the gap is closed, and they count as explained from then on.

    In the open transaction; the caller looks again at what is returned. Raises GapError.
    """
    if not because.strip():
        raise GapError(f"gap {gap_id} is not accepted without a reason; say why with --because")
    with conn.cursor() as cursor:
        cursor.execute(f"{_SELECT} WHERE g.gap_id = %s FOR UPDATE OF g", (gap_id,))
        row = cursor.fetchone()
        gap = _check_open(gap_id, None if row is None else _stored(row))
        cursor.execute(
            "UPDATE gaps SET resolved_at = %s, resolution = 'accepted', evidence = evidence || %s::jsonb"
            " WHERE gap_id = %s",
            (now, json.dumps({"because": because}), gap_id),
        )
    return gap


def _check_open(gap_id: int, gap: StoredGap | None) -> StoredGap:
    if gap is None:
        raise GapError(f"gap {gap_id} is not known; open gaps: backfill gaps")
    if gap.resolved_at is not None:
        raise GapError(f"gap {gap_id} was closed on {gap.resolved_at:%Y-%m-%d} ({gap.resolution}); nothing to accept")
    return gap
