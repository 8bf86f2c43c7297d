"""What `read_bars` and `read_features` tell of sessions that are not complete: how much, why, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.completeness import SessionStatus, is_listed
from backfill_pipeline.domain.grid import expected_per_session
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.spans import Span
from backfill_pipeline.domain.timeframe import Base, chain_of
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.gaps import open_gaps
from backfill_pipeline.storage.status import read_status

# Stretches of a symbol, and symbols, that a text names; `windows` has all of them.
_MOST = 5


class Lacking(NamedTuple):
    """Sessions `first` to `last`, both included, of a symbol that lack so many base bars."""

    symbol: str
    first: date
    last: date
    missing: int


class IncompleteWarning(UserWarning):
    """Part of what was read is missing; the text names the sessions and the command that repairs them.

    `windows`: what is missing, by symbol and ascending; empty where it is something else than bars.
    """

    def __init__(self, text: str, windows: Sequence[Lacking] = ()) -> None:
        super().__init__(text)
        self.windows = list(windows)


class IncompleteError(LookupError):
    """The same, asked for as an error."""

    def __init__(self, text: str, windows: Sequence[Lacking] = ()) -> None:
        super().__init__(text)
        self.windows = list(windows)


@dataclass(frozen=True)
class Incomplete:
    """What is missing of a symbol's range. `sessions`: those in range that are over; `lacking`: those incomplete.
    `why`: of each stretch.
    """

    symbol: str
    span: Span
    sessions: int
    lacking: int
    stretches: tuple[Lacking, ...]
    why: tuple[str, ...]

    def __str__(self) -> str:
        base = chain_of(self.span.source).base
        told = [
            f"{_span(one.first, one.last)} ({one.missing:,} bar{'' if one.missing == 1 else 's'} of {base}, {why})"
            for one, why in list(zip(self.stretches, self.why, strict=True))[:_MOST]
        ]
        more = f" and {len(self.stretches) - _MOST} more" if len(self.stretches) > _MOST else ""
        first, last = self.stretches[0].first, self.stretches[-1].last
        return (
            f"{self.symbol} {self.span.text}: {self.lacking} of {self.sessions} sessions incomplete: {', '.join(told)}"
            f"{more}; repair: backfill run --symbols {shlex.quote(self.symbol)} --timeframes {base}"
            f" --start {first} --end {last}"
        )


def _span(first: date, last: date) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def describe(found: Sequence[Incomplete]) -> str:
    """A line for each symbol."""
    more = [f"and {len(found) - _MOST} more symbols"] if len(found) > _MOST else []
    return "\n".join([*(str(one) for one in found[:_MOST]), *more])


def find_incomplete(
    conn: Connection, instrument: Instrument, sessions: Sessions, span: Span, rows: slice, now: datetime
) -> Incomplete | None:
    """Of the sessions `rows`, what is over, listed, due and not known to be complete. None: nothing."""
    base = chain_of(span.source).base
    over = is_listed(sessions, instrument)[rows] & (sessions.post_close[rows] <= to_micros(now))
    places = [rows.start + int(i) for i in over.nonzero()[0]]
    if not places:
        return None
    days: list[date] = sessions.session[places].astype(object).tolist()
    known = read_status(conn, instrument.symbol_id, base, days[0], days[-1])
    open_places = [p for p, day in zip(places, days, strict=True) if not _is_settled(known.get(day), now)]
    if not open_places:
        return None
    expected = expected_per_session(sessions, base)
    verdicts = _verdicts(conn, instrument, base, sessions, open_places)
    stretches: list[Lacking] = []
    reasons: list[str] = []
    before = -1
    for place in open_places:
        day: date = sessions.session[place].astype(object)
        status = known.get(day)
        missing = int(expected[place]) if status is None else status.missing + status.not_due
        why = _why(status, verdicts.get(place, ()))
        if place == before + 1 and reasons and reasons[-1] == why:
            last = stretches[-1]
            stretches[-1] = last._replace(last=day, missing=last.missing + missing)
        else:
            stretches.append(Lacking(instrument.symbol, day, day, missing))
            reasons.append(why)
        before = place
    return Incomplete(instrument.symbol, span, len(places), len(open_places), tuple(stretches), tuple(reasons))


def _is_settled(status: SessionStatus | None, now: datetime) -> bool:
    """Complete, or not due yet: then nobody can have more of it."""
    if status is None or status.missing:
        return False
    return status.complete or (status.due_at is not None and status.due_at > now)


def _why(status: SessionStatus | None, verdicts: Sequence[str]) -> str:
    if status is None:
        return "never asked"
    if status.not_due:
        return "not asked since it was due"
    return " and ".join(sorted(set(verdicts))) or "missing"


def _verdicts(
    conn: Connection, instrument: Instrument, base: Base, sessions: Sessions, places: Sequence[int]
) -> dict[int, list[str]]:
    """By place of a session, the verdicts of its open gaps."""
    hull = Window(int(sessions.day_start[places[0]]), int(sessions.day_end[places[-1]]))
    found: dict[int, list[str]] = {}
    for gap in open_gaps(conn, instrument.symbol_id, base, hull):
        place = int(sessions.day_start.searchsorted(gap.window.start, side="right")) - 1
        found.setdefault(place, []).append(gap.verdict)
    return found
