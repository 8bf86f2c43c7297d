"""`backfill …` or `dagster …` in a process of its own, forked from one that has everything loaded: starting Python
takes seconds, in which a kill would strike nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from backfill_pipeline_tests.shell import BIN, Shell

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["backfill_pipeline.cli.app", "backfill_pipeline.defs.jobs", "dagster_postgres", "matplotlib.figure"]
)


_STARTED: list[Command] = []


def end_commands(shell: Shell) -> None:
    """Kill what is still at work there: it would start the database again that is about to be stopped."""
    for command in [started for started in _STARTED if started.shell is shell]:
        if not command.ended(0):
            with suppress(ProcessLookupError):  # it is not yet the leader of its session
                os.killpg(command.pid, signal.SIGKILL)
            command.kill()
        _STARTED.remove(command)


class Command:
    """Started at once, as the leader of a session of its own. `variables`: beside the shell's."""

    def __init__(self, shell: Shell, *arguments: str, program: str = "backfill", **variables: str) -> None:
        handle, name = mkstemp(dir=shell.folder, suffix=".txt")
        os.close(handle)
        self._output = Path(name)
        environment = shell.environment | variables
        self._process = _CONTEXT.Process(
            target=_main, args=((program, *arguments), environment, str(shell.folder), name)
        )
        self._process.start()
        self.shell = shell
        _STARTED.append(self)
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def ended(self, seconds: float) -> bool:
        """Waits so long at most."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    @property
    def code(self) -> int | None:
        return self._process.exitcode

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")


def _main(arguments: tuple[str, ...], environment: Mapping[str, str], folder: str, output: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(out, standard)
    sys.argv = [*arguments]
    if arguments[0] != "backfill":  # Dagster loads definitions by itself, with the environment that it finds
        os.execv(BIN / arguments[0], sys.argv)
    from backfill_pipeline.cli import main

    main()
