"""Which days' events to ask a provider for, whole markets at a time. Pure dates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

# Events are told late and changed: so far back from the last time they are asked again. What lies ahead always is.
OVERLAP = timedelta(days=35)


@dataclass(frozen=True)
class Days:
    """`first` to the day before `end`; None: all that follow, however far ahead."""

    first: date
    end: date | None

    def __contains__(self, day: date) -> bool:
        return self.first <= day and (self.end is None or day < self.end)


@dataclass(frozen=True)
class Asked:
    """Everything from `since` on was asked, on the day `on` for the last time."""

    since: date
    on: date


def days_to_ask(needed: Mapping[int, date], asked: Mapping[int, Asked], today: date) -> list[Days]:
    """Disjoint and ascending, the last without an end. `needed`: by symbol, from when on its events are wanted."""
    stretches = []
    for symbol_id, since in needed.items():
        known = asked.get(symbol_id)
        if known is None:
            stretches.append(Days(since, None))
            continue
        if since < known.since:
            stretches.append(Days(since, known.since))
        stretches.append(Days(max(min(since, known.since), min(known.on, today) - OVERLAP), None))
    return _joined(stretches)


def _joined(stretches: Iterable[Days]) -> list[Days]:
    joined: list[Days] = []
    for days in sorted(stretches, key=lambda days: days.first):
        last = joined[-1] if joined else None
        if last is not None and (last.end is None or days.first <= last.end):
            end = None if last.end is None or days.end is None else max(last.end, days.end)
            joined[-1] = Days(last.first, end)
        else:
            joined.append(days)
    return joined
