"""What is judged of the stored data as a whole: a verdict with figures for each base timeframe. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.storage.checks import (
    Found,
    calendar_news,
    disagreeing_days,
    incomplete_sessions,
    open_gaps,
    standing_refusals,
)

# Days that figures of volumes, prices and closed days go back.
_RECENT = timedelta(days=90)
# A calendar that ends sooner than this is told.
_AHEAD = timedelta(days=30)
# How far the share of the day's volume that minutes hold may be off its median, and their prices beyond the day's.
_VOLUME, _PRICE = 0.05, 0.002


@dataclass(frozen=True)
class Finding:
    """`count`: what is wrong, exactly; `sample`: some of it, in lines; `figures`: more to know."""

    count: int
    sample: tuple[str, ...]
    figures: Mapping[str, int | float | str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.count


Check = Callable[[Connection, Base, datetime], Finding]


def bars_are_valid(conn: Connection, base: Base, _: datetime) -> Finding:
    """No refused row stands: what the newest answers brought was either stored or had nothing wrong."""
    return _of(standing_refusals(conn, base))


def session_is_complete(conn: Connection, base: Base, _: datetime) -> Finding:
    """Every wanted session that is due has its bars, or an explanation for those it lacks."""
    return _of(incomplete_sessions(conn, base))


def no_open_gaps(conn: Connection, base: Base, _: datetime) -> Finding:
    return _of(open_gaps(conn, base))


def daily_agrees_with_minutes(conn: Connection, _: Base, now: datetime) -> Finding:
    """Minutes and days of the last 90 days tell the same story; whichever is wrong, nothing is corrected for it."""
    found = disagreeing_days(conn, now - _RECENT, _VOLUME, _PRICE)
    figures: dict[str, int | float | str] = {"sessions_compared": found.compared}
    if found.ratio is not None:
        figures["minutes_share_of_volume"] = round(found.ratio, 4)
    return Finding(found.off.count, found.off.sample, figures)


def calendar_is_current(conn: Connection, base: Base, now: datetime) -> Finding:
    """The calendars reach far enough ahead, and what traded in the last 90 days agrees with them."""
    news = calendar_news(conn, base, (now - _RECENT).date())
    soon = [
        f"{name} ends {end}; install a newer exchange_calendars" for name, end in news.ends.items() if _ends(end, now)
    ]
    count = len(soon) + news.closed.count + news.silent.count
    ends = {f"{name}_ends": str(end) for name, end in news.ends.items()}
    return Finding(count, (*soon, *news.closed.sample, *news.silent.sample), ends)


def _ends(end: object, now: datetime) -> bool:
    return end is None or str(end) < str((now + _AHEAD).date())


def _of(found: Found) -> Finding:
    return Finding(found.count, found.sample)
