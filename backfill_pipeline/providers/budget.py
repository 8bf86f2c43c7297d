"""The request budget as providers see it: a slot before every request. Nothing here knows PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
import time
from datetime import date, datetime
from typing import Literal, Protocol, get_args

from pydantic import SecretStr

Priority = Literal["nightly", "repair", "backfill"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


class Budget(Protocol):
    """Who may send a request when. One per provider, base URL and key; threads may share it."""

    @property
    def gap(self) -> float:
        """Seconds between two requests of all processes together; 0 for no limit."""
        ...

    def take(self, priority: Priority) -> float:
        """Wait for a slot and return the seconds waited. A nightly or repair request gets the next slot before a
        backfill request that has none yet; among equals the first to come.
        """
        ...

    def expected_wait(self, priority: Priority, requests: int = 1) -> float:
        """Seconds until the last of so many further requests could be sent, if nobody more urgent comes."""
        ...

    def hold(self, seconds: float) -> None:
        """The server said wait: nobody gets a slot for so long."""
        ...


class LimitMemory(Protocol):
    """What was learned about a key's plan, for all processes."""

    def recall(self, name: str) -> tuple[date | None, datetime] | None:
        """The day a limit is about (None: looked for and not to be known) and when it was learned; None: never."""
        ...

    def remember(self, name: str, day: date | None, learned_at: datetime) -> None: ...


class NoBudget:
    """No limit at all, and `hold` for this process only: for tests and for what needs no budget."""

    gap = 0.0

    def __init__(self) -> None:
        self._held_until = 0.0
        self._lock = threading.Lock()

    def take(self, priority: Priority) -> float:  # noqa: ARG002  (all are equal)
        waited = 0.0
        while (rest := self._held_until - time.monotonic()) > 0:
            time.sleep(rest)
            waited += rest
        return waited

    def expected_wait(self, priority: Priority, requests: int = 1) -> float:  # noqa: ARG002  (none waits)
        return max(0.0, self._held_until - time.monotonic())

    def hold(self, seconds: float) -> None:
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)


class OwnMemory:
    """Limits for this process only."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[date | None, datetime]] = {}

    def recall(self, name: str) -> tuple[date | None, datetime] | None:
        return self._known.get(name)

    def remember(self, name: str, day: date | None, learned_at: datetime) -> None:
        self._known[name] = (day, learned_at)


def fingerprint(key: SecretStr) -> str:
    """16 hexadecimal digits that tell keys apart and give none away."""
    return hashlib.sha256(b"backfill_pipeline " + key.get_secret_value().encode()).hexdigest()[:16]
