"""What was asked and how it was answered, kept for tests and for other processes."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One request. `path`: with its query, keys blotted out. `time`: seconds since 1970 at its arrival. `status`: 0
    where none was sent. `fault`: the name of the fault it met, or empty. `limited`: refused by the rate limit.
    """

    method: str
    path: str
    time: float
    status: int
    family: str
    fault: str = ""
    limited: bool = False
    leak: bool = False


class Journal:
    """Requests in the order of their answers. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def add(self, seen: Seen) -> None:
        with self._lock:
            self._seen.append(seen)

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()

    @property
    def seen(self) -> list[Seen]:
        with self._lock:
            return list(self._seen)

    @property
    def leaks(self) -> list[Seen]:
        return [one for one in self.seen if one.leak]

    @property
    def provoked_429(self) -> int:
        return sum(one.limited for one in self.seen)

    def counters(self) -> dict[str, Any]:
        seen = self.seen
        return {
            "requests": len(seen),
            "provoked_429": sum(one.limited for one in seen),
            "leaks": sum(one.leak for one in seen),
            "by_status": dict(Counter(str(one.status) for one in seen)),
            "by_family": dict(Counter(one.family for one in seen)),
            "by_fault": dict(Counter(one.fault for one in seen if one.fault)),
        }
