"""Which request meets which fault. What a fault does stands in damage.py and row_damage.py."""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

STATUS_FAULTS = (
    *("429", "429_empty", "429_retry_after", "403_timeframe", "403_today", "403_entitled", "401", "400_order"),
    *("400_parameter", "404", "418", "500", "501", "502", "503", "504"),
)
TRANSPORT_FAULTS = (
    *("connection_reset", "stalled_headers", "stalled_body", "truncated_gzip", "truncated_json", "truncated_body"),
    *("html_200", "empty_200"),
)
CALL_FAULTS = ("adjusted", "adjusted_page_2", "other_symbol")
PAGE_FAULTS = (
    *("empty_absent", "empty_null", "empty_list", "page_without_results", "next_url_other_host", "next_url_loop"),
    "full_page_without_next_url",
)
ROW_FAULTS = (
    *("duplicate_equal", "duplicate_conflicting", "outside_window", "unsorted", "off_grid", "missing_vw_n"),
    *("exponent_numbers", "fractional_volume", "nan_price", "null_price", "negative_price", "inconsistent_price"),
    "binance_unfinished",
)
TRADIER_STATUS_FAULTS = (
    *("tradier_quota", "tradier_depth", "tradier_token_expired", "tradier_datastore", "tradier_too_big"),
)
TRADIER_PAGE_FAULTS = (
    *("tradier_single", "tradier_null", "tradier_text_null", "tradier_missing", "tradier_data_null"),
    *("tradier_null_prices", "tradier_unmatched"),
)
FAULT_NAMES = frozenset(
    STATUS_FAULTS
    + TRANSPORT_FAULTS
    + CALL_FAULTS
    + PAGE_FAULTS
    + ROW_FAULTS
    + TRADIER_STATUS_FAULTS
    + TRADIER_PAGE_FAULTS
)


@dataclass
class Fault:
    """One fault and the requests it is meant for; see the package's text. `hit`: how often it struck."""

    name: str
    times: int | None = 1
    path: str = ""
    nth: int | None = None
    probability: float | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    hit: int = 0
    matched: int = 0

    def __post_init__(self) -> None:
        if self.name not in FAULT_NAMES and self.name != "ok":
            raise ValueError(f"the stand-in has no fault {self.name!r}; use one of {', '.join(sorted(FAULT_NAMES))}")
        self._random = random.Random(self.seed)

    def wants(self, target: str) -> bool:
        """Whether it strikes this request. Counts the request if it matches."""
        if self.path not in target or (self.times is not None and self.hit >= self.times):
            return False
        self.matched += 1
        if self.nth is not None:
            return self.matched == self.nth
        return self.probability is None or self._random.random() < self.probability

    def described(self) -> dict[str, Any]:
        names = ("name", "times", "path", "nth", "probability", "seed", "options", "hit", "matched")
        return {name: getattr(self, name) for name in names}


class Faults:
    """The ordered queue is served before the rules; among rules the first told wins. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Fault] = deque()
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._rules.append(fault)

    def enqueue(self, faults: list[Fault]) -> None:
        with self._lock:
            self._queue.extend(faults)

    def clear(self) -> None:
        with self._lock:
            self._queue.clear()
            self._rules.clear()

    def take(self, target: str) -> Fault | None:
        """The fault of this request, counted as used up."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            for fault in self._rules:
                if fault.wants(target):
                    fault.hit += 1
                    return fault
        return None

    def give_back(self, fault: Fault) -> None:
        """It found nothing to damage: the next request meets it instead."""
        with self._lock:
            if fault in self._rules:
                fault.hit -= 1
            else:
                self._queue.appendleft(fault)

    def described(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.described() for fault in (*self._queue, *self._rules)]


def make_fault(name: str, **settings: Any) -> Fault:
    """A Fault from words; what is not one of its own settings becomes an option. ValueError: no such fault."""
    own = ("times", "path", "nth", "probability", "seed")
    options = {**settings.pop("options", {}), **{key: settings.pop(key) for key in [*settings] if key not in own}}
    return Fault(name, options=options, **settings)
