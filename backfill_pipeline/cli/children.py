"""Processes of this project that a command starts and looks after: they end with it."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1


def start(
    arguments: Sequence[str], folder: str, variables: Mapping[str, str], *, apart: bool = False
) -> subprocess.Popen[bytes]:
    """Our Python with these arguments, in `folder`. `apart`: Ctrl-C at the terminal does not reach it."""
    return subprocess.Popen(  # noqa: S603  (our own programs)
        [sys.executable, *arguments],
        cwd=folder,
        env=dict(variables),
        preexec_fn=_end_with_parent,  # noqa: PLW1509  (this process has one thread)
        start_new_session=apart,
    )


def heed_signals() -> None:
    """SIGTERM and SIGINT raise KeyboardInterrupt. SIGINT too: a shell that starts a command in the background has told
    it to ignore Ctrl-C.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)


def first_to_end(children: Mapping[str, subprocess.Popen[bytes]]) -> str:
    """Wait; the name of the child that ended first."""
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                return name
        time.sleep(0.5)


def end(children: Sequence[subprocess.Popen[bytes]], grace: float | None) -> None:
    """SIGTERM to all, and SIGKILL to those that are not through after `grace` seconds; None: wait for them."""
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    deadline = None if grace is None else time.monotonic() + grace
    for child in children:
        try:
            child.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """On Linux the child is ended even when this process is killed: two daemons on one database do work twice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
