"""Sixteen processes of `backfill run` on one budget of requests."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from .commands import Command
from .places import KEY, Part, command, installed, market, undisturbed

PROCESSES = 16
# The provider's minute, in seconds, and what it allows in one. 4 % of it are left for wake-ups that come late: 1.2 s.
MINUTE, ALLOWED = 30.0, 30


def run(rounds: int, seed: int) -> Part:  # noqa: ARG001  (nothing is drawn: sixteen at once are chance enough)
    part = Part("budget")
    symbols = [f"B{chr(65 + n // 16)}{chr(65 + n % 16)}" for n in range(PROCESSES * 2)]
    for number in range(rounds):
        with market([symbols]) as standin:
            clean = undisturbed(standin, [symbols])
        with market([symbols], requests_per_minute=ALLOWED, window_seconds=MINUTE) as standin:
            rate = {"POLYGON_REQUESTS_PER_MINUTE": str(round(ALLOWED * 60 / MINUTE)), "POLYGON_API_KEY": KEY}
            with installed(standin, symbols, **rate) as place:
                # Each has two symbols, one of them the next one's first.
                pairs = [[symbols[2 * n], symbols[2 * n + 1], symbols[(2 * n + 2) % 32]] for n in range(PROCESSES)]
                running = [Command(place.shell, *command(pair)) for pair in pairs]
                for process in running:
                    part.ended_well(process, f"round {number}")
                part.judge(place, clean, symbols, f"round {number}")
            times = [seen.time for seen in standin.requests]
            asked = [seen.path for seen in standin.requests]
            part.counted["processes"] += len(running)
            part.counted["requests"] += len(asked)
            part.counted["requests made twice"] += len(asked) - len({*asked})
            part.counted["answers 429"] += standin.provoked_429
            part.measured[f"allowed in any {MINUTE:g} s"] = ALLOWED
            part.measured["most within any"] = max(most_within(times, MINUTE), part.measured.get("most within any", 0))
            if standin.provoked_429:
                part.wrong.append(f"round {number}: {standin.provoked_429} answers 429")
    return part


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of the times that lie in any half-open stretch of so many seconds."""
    ordered = sorted(times)
    return max((bisect_left(ordered, start + seconds) - place for place, start in enumerate(ordered)), default=0)
