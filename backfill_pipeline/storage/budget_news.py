"""What a process logs while its requests wait for the shared budget."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

logger = logging.getLogger(__name__)

# Waits from here on are told, in seconds, and not more often than once in so many.
_TOLD = 5.0
_SILENCE = 60.0
_PAUSED = "requests are paused; `backfill resume` lets them go on"
_GOES_ON = "requests go on"


class BudgetNews:
    """A pause when it begins and when it ends; no wait twice, and of the many that a small limit brings one a minute.

    `clock`: seconds. Threads share one.
    """

    def __init__(self, provider: str, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._limit = f" ({per_minute:g} requests a minute, for all processes together)" if per_minute else ""
        self._clock = clock
        self._lock = threading.Lock()
        self._paused = False
        self._told_at = self._told_until = float("-inf")

    def heard(self, priority: str, wait: float, *, paused: bool) -> None:
        """A caller asked for a slot and is to expect it in `wait` seconds, a pause aside."""
        with self._lock:
            if paused != self._paused:
                self._paused = paused
                logger.warning(f"{self._provider}: {_PAUSED if paused else _GOES_ON}")
            now = self._clock()
            # A second's grace: what is left of the same wait, asked for again, never adds up to the millisecond.
            is_known = now + wait < self._told_until + 1
            if paused or wait < _TOLD or is_known or now - self._told_at < _SILENCE:
                return
            self._told_at, self._told_until = now, now + wait
        until = datetime.now(UTC) + timedelta(seconds=wait)
        logger.info(
            f"{self._provider}: the next {priority} request goes out in {wait:.0f} s, at {until:%H:%M:%S} UTC"
            f"{self._limit}"
        )
