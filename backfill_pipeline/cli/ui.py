"""`backfill ui`: Dagster's webserver and daemon on this project, on loopback."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer
from dotenv import dotenv_values

from .common import CommandError, Environment, err, out, prepare_environment, settings_of_folder

HOST = "127.0.0.1"
_MODULE = "backfill_pipeline.definitions"

# Dagster's processes are given this long to end their code servers before they are killed, in seconds.
_GRACE = 15.0
_PR_SET_PDEATHSIG = 1


def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000) -> None:
    """Open Dagster's UI: assets, partitions, backfills, schedules. Ctrl-C ends it; the database stays up."""
    serve(prepare_environment(settings_of_folder()), port)


def serve(environment: Environment, port: int) -> None:
    """Run webserver and daemon until a signal comes or one of them ends; both end with this process."""
    # Not `dagster dev`: it survives signals sent to it from a script, and advises against itself.
    _refuse_busy(port)
    # Dagster runs elsewhere, where its code location would not find the .env of this folder: keys, for example.
    own = {name: value for name, value in dotenv_values(".env").items() if value}
    variables = {**own, **os.environ, **environment.variables}
    commands = {
        "webserver": ["-m", "dagster_webserver", "-h", HOST, "-p", str(port), "--uvicorn-log-level", "warning"],
        "daemon": ["-m", "dagster._daemon", "run", "--log-level", "warning"],
    }
    # SIGINT too: a shell that starts this in the background has told it to ignore Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    folder = variables["DAGSTER_HOME"]  # elsewhere than a checkout, whose dagster.yaml Dagster would warn about
    children = {
        name: subprocess.Popen(  # noqa: S603  (our own programs)
            [sys.executable, *arguments, "-m", _MODULE],
            cwd=folder,
            env=variables,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  (this process has one thread)
        )
        for name, arguments in commands.items()
    }
    out.print(f"Dagster's UI: http://{HOST}:{port} (Ctrl-C ends it)")
    try:
        ended = _first_to_end(children)
    except KeyboardInterrupt:
        ended = None
    finally:
        _end(list(children.values()))
    if ended is not None:
        raise CommandError(f"Dagster's {ended} ended by itself; its last lines above say why")
    err.print("ended; the database stays up: backfill db stop")


def _refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            free = f"backfill ui --port {port + 1 if 1024 <= port < 65535 else 3001}"
            raise CommandError(f"port {port} on {HOST} cannot be used; choose another: {free}") from None


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """On Linux the child is ended even when this process is killed: two daemons on one database do work twice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _first_to_end(children: dict[str, subprocess.Popen[bytes]]) -> str:
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                return name
        time.sleep(0.5)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
