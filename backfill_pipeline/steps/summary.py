"""What a partition is recorded with: rows, first and last bar, provider, counts by segment; closed days' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.sessions import closed_day_names
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.storage.counts import DayCount, count_days

from .warehouse import Subject


@dataclass(frozen=True)
class Summary:
    """Rows of one timeframe in one partition; `first` and `last` bar start (UTC), None without rows."""

    rows: int
    first: datetime | None
    last: datetime | None
    provider: str
    segments: dict[str, int]


_NOTHING = Summary(0, None, None, "", {})

Summaries = dict[Timeframe, Summary]


def summarize(
    conn: Connection, subject: Subject, periods: Sequence[Period]
) -> dict[Period, tuple[Summaries, Summaries]]:
    """Per period, its bars and its features by timeframe of the chain. `periods`: ascending."""
    window = subject.sessions.days_window(periods[0].first, periods[-1].last)
    by_table = {
        table: _by_period(count_days(conn, table, subject.instrument, subject.sessions.zone, window), periods)
        for table in ("bars", "features")
    }
    timeframes = subject.chain.timeframes
    return {
        period: (
            {timeframe: by_table["bars"].get((period, timeframe), _NOTHING) for timeframe in timeframes},
            {timeframe: by_table["features"].get((period, timeframe), _NOTHING) for timeframe in timeframes},
        )
        for period in periods
    }


def _by_period(counts: Sequence[DayCount], periods: Sequence[Period]) -> dict[tuple[Period, Timeframe], Summary]:
    of_day = {
        date.fromordinal(ordinal): period
        for period in periods
        for ordinal in range(period.first.toordinal(), period.last.toordinal() + 1)
    }
    groups: dict[tuple[Period, Timeframe], list[DayCount]] = {}
    for count in counts:
        if count.day in of_day:
            groups.setdefault((of_day[count.day], count.timeframe), []).append(count)
    return {key: _merge(group) for key, group in groups.items()}


def _merge(group: Sequence[DayCount]) -> Summary:
    segments: Counter[str] = Counter()
    for count in group:
        segments[count.segment] += count.rows
    providers = sorted({count.provider for count in group if count.provider})
    return Summary(
        sum(count.rows for count in group),
        min(count.first for count in group),
        max(count.last for count in group),
        ", ".join(providers),
        dict(segments),
    )


def closed_days(subject: Subject, periods: Sequence[Period]) -> dict[Period, str]:
    """Of single-day periods without a session, why: a holiday's name, `weekend`, or `closed`."""
    names = closed_day_names(subject.sessions, periods[0].first, periods[-1].last)
    return {period: names[period.first] for period in periods if period.first == period.last and period.first in names}
