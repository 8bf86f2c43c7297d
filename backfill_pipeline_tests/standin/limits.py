"""Rate limits, enforced exactly at the moment of arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class SlidingLimit:
    """At most `allowed` accepted requests in any stretch of `seconds`, per key. Refused ones do not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._accepted: dict[str, deque[float]] = {}

    def take(self, key: str, allowed: int | None, seconds: float) -> float:
        """0.0 if the request may pass, else the seconds until one may. None allows all."""
        if allowed is None:
            return 0.0
        with self._lock:
            now = self._clock()  # read inside the lock, so that arrivals are in order
            accepted = self._accepted.setdefault(key, deque())
            while accepted and now - accepted[0] >= seconds:
                accepted.popleft()
            if len(accepted) < allowed:
                accepted.append(now)
                return 0.0
            # More than `allowed` are kept only after the limit was lowered: the one that must leave is counted back.
            return accepted[len(accepted) - allowed] + seconds - now if allowed else seconds

    def clear(self) -> None:
        with self._lock:
            self._accepted.clear()


class AlignedLimit:
    """At most `allowed` weight in each stretch of `seconds` of the wall clock, per key, as Tradier and Binance do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: dict[str, tuple[int, int]] = {}
        self._refused: dict[str, tuple[int, int]] = {}

    def take(self, key: str, now: float, allowed: int, seconds: float, weight: int = 1) -> tuple[bool, int, float]:
        """Whether the request may pass, the weight used in this stretch, and when the stretch ends (as `now`)."""
        stretch = int(now // seconds)
        with self._lock:
            known, used = self._used.get(key, (stretch, 0))
            used = used if known == stretch else 0
            passes = used + weight <= allowed
            used += weight if passes else 0
            self._used[key] = (stretch, used)
            known, refused = self._refused.get(key, (stretch, 0))
            self._refused[key] = (stretch, (refused if known == stretch else 0) + (not passes))
        return passes, used, (stretch + 1) * seconds

    def refused(self, key: str) -> int:
        """How many were refused in the last stretch that refused or accepted any."""
        with self._lock:
            return self._refused.get(key, (0, 0))[1]

    def clear(self) -> None:
        with self._lock:
            self._used.clear()
            self._refused.clear()
