"""Keeps what `backfill ui` needs up: Dagster's processes, each with a code server, and the embedded database. What dies
is started again, with one line that says so.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backfill_pipeline.storage.server import ServerError, ensure_running, has_died

from . import children
from .common import CommandError, err

Start = Callable[[], subprocess.Popen[bytes]]

# Seconds. A program that ends by itself so soon after the very first start is set up wrongly: no patience helps.
_AT_FIRST = 30.0
# Between a death and the next start, doubled each time until one has lived for `_LONGEST`.
_SHORTEST, _LONGEST = 1.0, 60.0
_TICK = 0.5
# A database that does not start is tried again after so many.
_DATABASE = 10.0
# Looking through the machine's processes costs some ms.
_LOOKS_FOR_CODE = 5.0


@dataclass
class _Kept:
    """A process that is to be up. `had_code`: its code server was seen."""

    name: str
    start: Start
    process: subprocess.Popen[bytes] | None = None
    since: float = field(default=0.0)
    deaths: int = 0
    delay: float = 0.0
    had_code: bool = False

    def go(self, now: float) -> None:
        self.process, self.since, self.had_code = self.start(), now, False


class Keeper:
    """`home`: of the embedded database; None: somebody else looks after the database."""

    def __init__(self, starts: Mapping[str, Start], home: Path | None) -> None:
        self._kept = [_Kept(name, start) for name, start in starts.items()]
        self._home = home
        self._silent_until = 0.0
        self._looked = 0.0

    def start(self) -> None:
        for kept in self._kept:
            kept.go(time.monotonic())

    def watch(self) -> None:
        """Until KeyboardInterrupt. Raises CommandError when a program ends by itself as soon as it is first started."""
        while True:
            now = time.monotonic()
            if self._home is not None:
                self._keep_database(self._home, now)
            for kept in self._kept:
                _keep(kept, now)
            if now - self._looked > _LOOKS_FOR_CODE:
                self._looked = now
                for kept in self._kept:
                    _keep_code(kept)
            time.sleep(_TICK)

    def end(self, grace: float) -> None:
        """End all processes, the database aside."""
        children.end([kept.process for kept in self._kept if kept.process is not None], grace)

    def _keep_database(self, home: Path, now: float) -> None:
        # One that was stopped stays so: somebody wanted it.
        if now < self._silent_until or not has_died(home):
            return
        err.print("PostgreSQL has died; starting it again")
        try:
            ensure_running(home)
        except ServerError as error:
            err.print(f"{error}; trying again in {_DATABASE:.0f} s")
            self._silent_until = time.monotonic() + _DATABASE


def _keep(kept: _Kept, now: float) -> None:
    if kept.process is None:
        if now >= kept.since + kept.delay:
            kept.go(now)
        return
    code = kept.process.poll()
    if code is None:
        return
    lived = now - kept.since
    if code > 0 and not kept.deaths and lived < _AT_FIRST:
        raise CommandError(f"Dagster's {kept.name} ended by itself; its last lines above say why")
    kept.deaths += 1
    kept.delay = _SHORTEST if lived > _LONGEST else min(_LONGEST, max(_SHORTEST, 2 * kept.delay))
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else "ended by itself"
    err.print(f"Dagster's {kept.name} {how}; starting it again in {kept.delay:.0f} s")
    kept.process, kept.since = None, now


def _keep_code(kept: _Kept) -> None:
    """Dagster's webserver shows errors when its code server is gone, until somebody presses a button; its daemon starts
    another within a minute, and would lose what it is at if it were started again.
    """
    if kept.name != "webserver" or kept.process is None or kept.process.poll() is not None:
        return
    try:
        has_code = bool(psutil.Process(kept.process.pid).children())
    except psutil.NoSuchProcess:
        return
    if kept.had_code and not has_code:
        err.print(f"the code server of Dagster's {kept.name} has died; starting both again")
        children.end([kept.process], _SHORTEST)
        kept.go(time.monotonic())
        return
    kept.had_code = has_code
