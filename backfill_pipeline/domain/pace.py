"""When work will be done, by how fast it has gone so far and by how long its requests must wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """`since`: a moment (seconds of any clock) at the beginning, and the days that were settled then."""

    since: tuple[float, int]

    def left(self, clock: float, settled: int, target: int, to_wait: float, *, is_idle: bool) -> float | None:
        """Seconds until the end, None while nothing is known of it. `to_wait`: until the last request may be sent.
        `is_idle`: nothing was fetched or written yet; what is settled meanwhile was complete before and says nothing of
        the rest.
        """
        if is_idle:
            self.since = (clock, settled)
        began, before = self.since
        if settled >= target:
            return 0.0
        if settled <= before:
            return to_wait or None
        return max(to_wait, (clock - began) * (target - settled) / (settled - before))
