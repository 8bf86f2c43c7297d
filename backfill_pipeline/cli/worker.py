"""`backfill worker`: runs of a warehouse with a broker, on this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Annotated

import psutil
import typer
from dotenv import dotenv_values

from . import children
from .common import CommandError, counted, err, out, prepare_environment, settings_of_folder, split_list


def worker(
    queues: Annotated[
        str | None, typer.Option(help="polygon,general; default: one of each provider of the settings, and general.")
    ] = None,
    runs_at_once: Annotated[int, typer.Option(min=1, max=64, help="Runs of each queue at a time.")] = 1,
) -> None:
    """Do runs that the daemon hands out over BACKFILL_BROKER. Ctrl-C: no new ones; again: ends those at work too."""
    settings = settings_of_folder()
    if settings.broker is None:
        raise CommandError("BACKFILL_BROKER is not set; one like redis://host:6379/0, the same on every machine")
    environment = prepare_environment(settings)
    from backfill_pipeline.defs.queues import queue_names

    known = queue_names(settings)
    chosen = known if queues is None else tuple(split_list(queues))
    if not chosen or (unknown := [name for name in chosen if name not in known]):
        raise CommandError(f"--queues {queues}: {' '.join(unknown) if chosen else 'none'} is not of {', '.join(known)}")
    own = {name: value for name, value in dotenv_values(".env").items() if value}
    variables = {**own, **os.environ, **environment.variables}
    children.heed_signals()
    # A process for each queue: its places are its own.
    started = {
        name: children.start(
            ["-m", "backfill_pipeline.cli.worker_main", name, str(runs_at_once)],
            variables["DAGSTER_HOME"],
            variables,
            apart=True,
        )
        for name in chosen
    }
    out.print(f"takes {counted(runs_at_once, 'run')} at a time of each queue: {', '.join(chosen)} (Ctrl-C ends it)")
    ended = None
    try:
        ended = children.first_to_end(started)
    except KeyboardInterrupt:
        err.print("no new runs are taken; ends with those at work; Ctrl-C again: at once, and another worker goes on")
    every = list(started.values())
    try:
        children.end(every, None)
    except KeyboardInterrupt:
        _kill([psutil.Process(child.pid) for child in every if child.poll() is None])
    if ended is not None:
        raise CommandError(f"the process of queue {ended} ended by itself; its last lines above say why")


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for one in [*process.children(recursive=True), process]:
                one.kill()
