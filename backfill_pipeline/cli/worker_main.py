"""The process behind `backfill worker`: `python -m backfill_pipeline.cli.worker_main QUEUE RUNS_AT_ONCE`."""

import os
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
from dagster._cli.api import _execute_run_command_body

from backfill_pipeline.defs.workers import WORD, celery_app
from backfill_pipeline.settings import load_settings
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.databases import open_databases
from backfill_pipeline.storage.taken import take

_TO_START = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED)


def execute(run_id: str) -> None:
    """Do a run, once, however often the word of it comes. Of one whose process died the word is of no use: it stays as
    it is until `reconcile` ends it, and Dagster starts it again as another run.
    """
    market_url = open_databases(load_settings(Path(".env"))).market_url
    with closing(connect(market_url, application_name="backfill worker")) as conn, dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id) if take(conn, run_id) else None
        if run is not None and run.status in _TO_START:
            _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=True)


def main(queue: str, runs_at_once: int) -> None:
    """Take runs from the queue until a signal comes: SIGTERM lets those at work end first."""
    import backfill_pipeline.definitions  # noqa: F401  (loaded once, before the runs' processes are forked)

    broker = load_settings(Path(".env")).broker
    assert broker is not None
    app = celery_app(broker.get_secret_value())
    # Acknowledged at the end, so that a worker holds no word of a run that another could begin now.
    app.task(execute, name=WORD, acks_late=True, reject_on_worker_lost=True)
    name = f"{queue}-{os.getpid()}@%h"
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    app.worker_main(["--quiet", "worker", "-Q", queue, "-n", name, "-c", str(runs_at_once), *quiet])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
