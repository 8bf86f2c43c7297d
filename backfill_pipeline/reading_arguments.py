"""What `read_bars` and `read_features` may be asked, checked before anything is opened. ValueError for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from backfill_pipeline.domain.adjust import Split
from backfill_pipeline.domain.windows import Window, to_micros

Adjust = Literal["none", "splits", "all"]
Label = Literal["start", "end"]
OnIncomplete = Literal["warn", "raise", "ignore"]
Day = str | date
Splits = Mapping[str, Sequence[Split]] | Sequence[Split]


@dataclass(frozen=True)
class Range:
    """Session dates, both included, or an exact half-open window of bar starts."""

    first: date
    last: date
    exact: Window | None


@dataclass(frozen=True)
class Basis:
    """What prices are asked in. `splits`: those given, by symbol; another symbol has those that are stored."""

    adjust: Adjust
    as_of: date | None
    splits: Mapping[str, Sequence[Split]]


def check(adjust: str, label: str, on_incomplete: str, tz: str) -> None:
    for name, value, known in (
        ("adjust", adjust, ("none", "splits", "all")),
        ("label", label, ("start", "end")),
        ("on_incomplete", on_incomplete, ("warn", "raise", "ignore")),
    ):
        if value not in known:
            raise ValueError(f"{name} {value!r} is not known; use one of {' '.join(known)}")
    try:
        ZoneInfo(tz)
    except (ValueError, LookupError):  # LookupError: ZoneInfoNotFoundError
        raise ValueError(f"tz {tz!r} is not a time zone; write it as UTC or America/New_York") from None


def check_names(symbols: str | Sequence[str]) -> list[str]:
    names = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
    if not names:
        raise ValueError("no symbols given")
    return names


def check_range(start: Day | datetime, end: Day | datetime) -> Range:
    if isinstance(start, datetime) and isinstance(end, datetime):
        if to_micros(start) >= to_micros(end):
            raise ValueError(f"start {start.isoformat()} is not before end {end.isoformat()}, which is excluded")
        window = Window(to_micros(start), to_micros(end))
        return Range(start.astimezone(UTC).date(), end.astimezone(UTC).date(), window)
    first, last = check_date("start", start), check_date("end", end)
    if last < first:
        raise ValueError(f"start {first} is after end {last}; swap them")
    return Range(first, last, None)


def check_date(name: str, value: Day) -> date:
    if isinstance(value, datetime):
        raise ValueError(f"{name} {value.isoformat()} is a datetime; give two dates, or two aware datetimes")
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError(f"{name} {value!r} is not a date; write it as 2024-03-01") from None


def check_basis(adjust: Adjust, as_of: Day | None, splits: Splits | None, names: Sequence[str]) -> Basis:
    if splits is not None and not isinstance(splits, Mapping):
        if len(names) > 1:
            raise ValueError("several symbols need splits by symbol: splits={'AAPL': [Split(date(2005, 2, 28), 2.0)]}")
        splits = {names[0]: splits}
    return Basis(adjust, None if as_of is None else check_date("as_of", as_of), splits or {})
