"""Processes of their own that take slots of one budget."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from backfill_pipeline.storage.budget import Priority

# Takes slots and prints the time after each, as the only thing a process of its own knows.
TAKER = """
import json, sys, time
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, ProviderKey
url, per_minute, priority, slots = sys.argv[1], float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
key = ProviderKey("polygon", "https://api.example", "0123456789abcdef")
budget = PostgresBudget(OwnConnection(url), key, per_minute)
budget.expected_wait("backfill")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(slots):
    budget.take(priority)
    print(json.dumps(time.time()), flush=True)
"""


class Taker:
    """A process that takes slots once it is told to go."""

    def __init__(self, url: str, per_minute: float, slots: int, priority: Priority = "backfill") -> None:
        self.priority = priority
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKER, url, str(per_minute), priority, str(slots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self._out.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self.times()

    def times(self) -> list[float]:
        with self._process:
            return [json.loads(line) for line in self._process.communicate()[0].splitlines()]

    @property
    def _out(self):  # type: ignore[no-untyped-def]  # a text stream
        assert self._process.stdout is not None
        return self._process.stdout


def started(takers: Sequence[Taker]) -> Sequence[Taker]:
    for taker in takers:
        taker.ready()
    for taker in takers:
        taker.go()
    return takers
