"""A stand-in in another process: starting one, and steering one by its URL."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from .control import PREFIX
from .journal import Seen

_SECONDS = 30


class Remote:
    """The verbs of StandIn over HTTP; ValueError carries the stand-in's own words."""

    def __init__(self, url: str, key: str = "test-key") -> None:
        self.url, self.key = url.rstrip("/"), key
        self.tradier_url, self.binance_url = f"{self.url}/v1", self.url

    def fault(self, name: str, **settings: Any) -> None:
        self._ask("POST", "faults", {"name": name, **settings})

    def queue(self, *names: str) -> None:
        self._ask("POST", "queue", list(names))

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def set(self, **options: Any) -> None:
        self._ask("POST", "options", options)

    def change_market(self, description: dict[str, list[Any]]) -> None:
        self._ask("POST", "market", description)

    def reset(self) -> None:
        self._ask("POST", "reset")

    def counters(self) -> dict[str, Any]:
        return self._ask("GET", "counters")

    @property
    def requests(self) -> list[Seen]:
        return [Seen(**seen) for seen in self._ask("GET", "requests")["requests"]]

    @property
    def provoked_429(self) -> int:
        return int(self.counters()["provoked_429"])

    def _ask(self, method: str, verb: str, body: Any = None) -> dict[str, Any]:
        reply = requests.request(method, f"{self.url}{PREFIX}{verb}", json=body, timeout=_SECONDS)
        answer: dict[str, Any] = reply.json()
        if reply.status_code != 200:
            raise ValueError(answer["error"])
        return answer


@contextlib.contextmanager
def spawned(config: dict[str, Any] | None = None) -> Iterator[Remote]:
    """A stand-in of its own process while the block lasts; it ends with this process too, however that ends."""
    with tempfile.TemporaryDirectory(prefix="standin-") as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config or {}))
        command = [sys.executable, "-m", "backfill_pipeline_tests.standin", "--config", str(file), "--end-with-stdin"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                url = process.stdout.readline().strip()
                if not url:
                    raise RuntimeError("the stand-in did not start; its reason is on standard error")
                yield Remote(url, (config or {}).get("keys", ["test-key"])[0])
            finally:
                process.stdin.close()
                process.wait(timeout=_SECONDS)
