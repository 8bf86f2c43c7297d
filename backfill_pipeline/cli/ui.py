"""`backfill ui`: Dagster's webserver and daemon on this project, on loopback."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer
from dotenv import dotenv_values

from . import children
from .common import CommandError, Environment, err, out, prepare_environment, settings_of_folder
from .keeping import Keeper

HOST = "127.0.0.1"
_MODULE = "backfill_pipeline.definitions"

# Dagster's processes are given this long to end their code servers before they are killed, in seconds.
_GRACE = 15.0
# A backfill whose code server is gone waits for the next one, which the daemon starts within a minute; else it fails.
_PATIENT = {"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}


def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000) -> None:
    """Open Dagster's UI: assets, partitions, backfills, schedules. Ctrl-C ends it; the database stays up."""
    serve(prepare_environment(settings_of_folder()), port)


def serve(environment: Environment, port: int) -> None:
    """Run webserver and daemon until a signal comes; both end with this process, and are started again if they die."""
    # Not `dagster dev`: it survives signals sent to it from a script, and advises against itself.
    _refuse_busy(port)
    # Dagster runs elsewhere, where its code location would not find the .env of this folder: keys, for example.
    own = {name: value for name, value in dotenv_values(".env").items() if value}
    variables = {**own, **os.environ, **environment.variables, **_PATIENT}
    commands = {
        "webserver": ["-m", "dagster_webserver", "-h", HOST, "-p", str(port), "--uvicorn-log-level", "warning"],
        "daemon": ["-m", "dagster._daemon", "run", "--log-level", "warning"],
    }
    children.heed_signals()
    folder = variables["DAGSTER_HOME"]  # elsewhere than a checkout, whose dagster.yaml Dagster would warn about
    starts = {
        name: partial(children.start, [*arguments, "-m", _MODULE], folder, variables)
        for name, arguments in commands.items()
    }
    keeper = Keeper(starts, environment.databases.home if environment.databases.embedded else None)
    try:
        keeper.start()
        out.print(f"Dagster's UI: http://{HOST}:{port} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            keeper.watch()
    finally:
        keeper.end(_GRACE)
    err.print("ended; the database stays up: backfill db stop")


def _refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            free = f"backfill ui --port {port + 1 if 1024 <= port < 65535 else 3001}"
            raise CommandError(f"port {port} on {HOST} cannot be used; choose another: {free}") from None
