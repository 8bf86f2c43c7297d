"""Steering a stand-in over HTTP, from another process. Not limited, not recorded, no key.

GET    /_standin/requests   {"requests": [{method, path, time, status, family, fault, limited, leak}]}
GET    /_standin/counters   {requests, provoked_429, leaks, by_status, by_family, by_fault}
GET    /_standin/faults     {"faults": [...]} with how often each struck
POST   /_standin/faults     {"name": "429", "times": 2, ...}, or a list of them
POST   /_standin/queue      ["429", "ok", "500"]
DELETE /_standin/faults     forgets them
POST   /_standin/reset      forgets requests, limits in use and faults
POST   /_standin/options    {"requests_per_minute": 5, ...}
POST   /_standin/market     {"withhold": [["AAPL", "2024-03-08T15:00Z", "2024-03-08T15:05Z"]], ...}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .faults import make_fault
from .replies import Reply, as_json
from .service import Service

PREFIX = "/_standin/"


class Control:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._verbs: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "requests"): lambda _: {"requests": [asdict(seen) for seen in service.journal.seen]},
            ("GET", "counters"): lambda _: service.journal.counters(),
            ("GET", "faults"): lambda _: {"faults": service.faults.described()},
            ("POST", "faults"): self._add_faults,
            ("POST", "queue"): lambda names: service.faults.enqueue([make_fault(name) for name in names]),
            ("DELETE", "faults"): lambda _: service.faults.clear(),
            ("POST", "reset"): lambda _: service.reset(),
            ("POST", "options"): lambda changes: service.set(**changes),
            ("POST", "market"): service.market.change,
        }

    def answer(self, method: str, path: str, body: bytes) -> Reply:
        """400 with the reason for what makes no sense, 404 for an unknown verb."""
        verb = self._verbs.get((method, path.removeprefix(PREFIX)))
        if verb is None:
            return as_json(404, {"error": f"no {method} {path}; known: {sorted(' '.join(key) for key in self._verbs)}"})
        try:
            return as_json(200, verb(json.loads(body) if body else None) or {})
        except (ValueError, TypeError) as error:
            return as_json(400, {"error": str(error)})

    def _add_faults(self, told: Any) -> None:
        for fault in [make_fault(**one) for one in (told if isinstance(told, list) else [told])]:
            self._service.faults.add(fault)
