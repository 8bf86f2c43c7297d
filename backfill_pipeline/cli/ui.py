"""`backfill ui`: Dagster's webserver and daemon on this project, on loopback."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .common import CommandError, Environment, out, prepare_environment, settings_of_folder

HOST = "127.0.0.1"


def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000) -> None:
    """Open Dagster's UI: assets, partitions, backfills, schedules. Ctrl-C ends it; the database stays up."""
    serve(prepare_environment(settings_of_folder()), port)


def serve(environment: Environment, port: int) -> NoReturn:
    """Become `dagster dev`: its webserver, daemon and code server live and die with this process."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise CommandError(
                f"port {port} on {HOST} is in use; choose another: backfill ui --port {port + 1}"
            ) from None
    out.print(f"Dagster's UI: http://{HOST}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    dagster = str(Path(sys.executable).with_name("dagster"))
    arguments = [dagster, "dev", "-m", "backfill_pipeline.definitions", "-h", HOST, "-p", str(port)]
    os.execve(dagster, arguments, {**os.environ, **environment.variables})  # noqa: S606  (our own program)
