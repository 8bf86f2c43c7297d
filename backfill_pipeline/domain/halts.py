"""Trading halts of whole markets, as published. Halts of one symbol are not listed: its day's volume tells those."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from .windows import MINUTE, Window, to_micros

_NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Halt:
    """`window`: whole minutes that hold any of the halt; in those at its edges some trades may have been."""

    calendar: str
    window: Window
    reason: str


def _circuit_breaker(day: int, start: tuple[int, int, int], end: tuple[int, int, int]) -> Halt:
    first, last = (to_micros(datetime(2020, 3, day, *at, tzinfo=_NEW_YORK)) for at in (start, end))
    window = Window(first - first % MINUTE, last - last % MINUTE + MINUTE)
    return Halt("XNYS", window, "market-wide circuit breaker, level 1, 15 minutes")


# Report of the Market-Wide Circuit Breaker Working Group, 2021-03-31, section 1. New York time; every US exchange.
HALTS = (
    _circuit_breaker(9, (9, 34, 13), (9, 49, 13)),
    _circuit_breaker(12, (9, 35, 44), (9, 50, 44)),
    _circuit_breaker(16, (9, 30, 1), (9, 45, 1)),
    _circuit_breaker(18, (12, 56, 17), (13, 11, 17)),
)


def halts_of(calendar: str) -> list[Window]:
    """The calendar's halts, ascending."""
    return [halt.window for halt in HALTS if halt.calendar == calendar]
