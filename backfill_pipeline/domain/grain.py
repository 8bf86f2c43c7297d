"""Partition dates: a day, an ISO week or a month each, as text that cannot be mistaken for another grain's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

Grain = Literal["day", "week", "month"]
GRAINS: tuple[Grain, ...] = get_args(Grain)

# The strftime form of each, as Dagster wants it; weeks are labelled by their Monday.
KEY_FORMAT: dict[Grain, str] = {"day": "%Y-%m-%d", "week": "%Y-%m-%dW", "month": "%Y-%m"}
_PATTERN: dict[Grain, str] = {"day": r"\d{4}-\d\d-\d\d", "week": r"\d{4}-\d\d-\d\dW", "month": r"\d{4}-\d\d"}


@dataclass(frozen=True, order=True)
class Period:
    """The days of one partition, both included, and its date key (`2024-03-08`, `2024-03-04W`, `2024-03`)."""

    first: date
    last: date
    key: str


def period_of(day: date, grain: Grain) -> Period:
    """The period that `day` lies in."""
    if grain == "day":
        first, last = day, day
    elif grain == "week":
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=6)
    else:
        first = day.replace(day=1)
        last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return Period(first, last, first.strftime(KEY_FORMAT[grain]))


def parse_key(key: str, grain: Grain) -> Period:
    """The period of a date key. ValueError names the key and the form of this grain."""
    if re.fullmatch(_PATTERN[grain], key):
        text = key.removesuffix("W") if grain != "month" else f"{key}-01"
        try:
            period = period_of(date.fromisoformat(text), grain)
        except ValueError:
            period = None
        if period is not None and period.key == key:
            return period
    example = period_of(date(2024, 3, 8), grain).key
    raise ValueError(f"partition date {key!r} is not a {grain}; a {grain} looks like {example}")


def periods_between(first: date, last: date, grain: Grain) -> list[Period]:
    """The periods that hold any day of [first, last], ascending."""
    periods: list[Period] = []
    day = first
    while day <= last:
        periods.append(period_of(day, grain))
        day = periods[-1].last + timedelta(days=1)
    return periods


def stretches(periods: Iterable[Period]) -> list[list[Period]]:
    """Sorted and grouped so that each group's days follow one another without a gap."""
    groups: list[list[Period]] = []
    for period in sorted(set(periods)):
        if groups and groups[-1][-1].last + timedelta(days=1) >= period.first:
            groups[-1].append(period)
        else:
            groups.append([period])
    return groups


def day_after_chunk(day: date, months: int) -> date:
    """First day after the calendar-aligned block of `months` months (a divisor or multiple of 12) that holds `day`."""
    index = (day.year * 12 + day.month - 1) // months * months + months
    return date(index // 12, index % 12 + 1, 1)
