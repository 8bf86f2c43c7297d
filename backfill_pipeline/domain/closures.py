"""Whether a session on which nothing traded was one at all. Pure; what is stored about it is gathered elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from .bars import Micros
from .planning import Rows
from .sessions import Sessions
from .timeframe import Base
from .windows import MINUTE, to_datetime

# The word for it in `session_status.explained`.
UNCONFIRMED = "closed (unconfirmed)"

# Symbols that must all be silent where no provider tells of the whole market.
FEWEST = 3
# Silent sessions in a row that may be days off; more are an outage of the provider.
MOST_IN_A_ROW = 2
# How often a day taken as closed is asked for again: the next night, then weekly.
MOST_RECHECKS = 4

_NEVER_CLOSED = "24/7"


@dataclass(frozen=True)
class Silence:
    """A due session of which somebody was asked and nobody has a bar. `row`: its place in the calendar. `witnesses`:
    symbols that were answered without a bar and were not as silent the session before or after. `market`: a provider
    said of the whole market that nothing traded.
    """

    row: int
    witnesses: int
    market: bool


def may_close(sessions: Sessions) -> bool:
    """Whether the calendar knows days off at all."""
    return sessions.calendar != _NEVER_CLOSED


def taken_as_closed(silences: Iterable[Silence]) -> set[int]:
    """The places of those that are taken as closed: single ones that three symbols or the market vouch for, and two in
    a row if the market vouches for both.
    """
    found = {silence.row: silence for silence in silences}
    closed: set[int] = set()
    for row, silence in found.items():
        run = [silence]
        for step in (-1, 1):
            at = row + step
            while at in found and len(run) <= MOST_IN_A_ROW:
                run.append(found[at])
                at += step
        vouched = all(one.market for one in run) or (len(run) == 1 and silence.witnesses >= FEWEST)
        if vouched and len(run) <= MOST_IN_A_ROW:
            closed.add(row)
    return closed


def short_runs(rows: Collection[int]) -> list[int]:
    """Those of `rows` that are no more than two in a row, ascending."""
    ordered = np.array(sorted(rows), dtype=np.int64)
    cut = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return [row for run in cut if len(run) <= MOST_IN_A_ROW for row in run.tolist()]


def around(rows: Iterable[int], reach: int, count: int) -> Rows:
    """`rows` with `reach` sessions before and after each, ascending, of `count` sessions in all."""
    near = {at for row in rows for at in range(max(row - reach, 0), min(row + reach + 1, count))}
    return np.array(sorted(near), dtype=np.int64)


def next_recheck(attempts: int, now: datetime) -> datetime | None:
    """From when on a day taken as closed is to be asked for again, after so many times; None: no more."""
    if attempts >= MOST_RECHECKS:
        return None
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=7 if attempts else 1)


def days_off_with_bars(sessions: Sessions, base: Base, ts: Micros) -> list[date]:
    """Days of which there are bars and no session, ascending. Minutes at an hour at which no session trades are no
    evidence: some markets trade by night, and from Sunday evening on.

    `ts`: starts of bars, microseconds UTC, in any order.
    """
    zone = ZoneInfo(sessions.zone)
    local = [to_datetime(stamp).astimezone(zone) for stamp in ts[sessions.row_of(ts) < 0].tolist()]
    if base == "1m":
        opens = int((sessions.pre_open - sessions.day_start).min()) // MINUTE
        closes = int((sessions.post_close - sessions.day_start).max()) // MINUTE
        local = [at for at in local if opens <= at.hour * 60 + at.minute < closes]
    return sorted({at.date() for at in local})
