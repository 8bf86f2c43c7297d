"""`backfill run --detach`: the same run in a process of its own, which outlives the shell."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backfill_pipeline.defs.resources import USER_ERRORS, Pipeline, utc_now
from backfill_pipeline.steps.progress import announce, with_next_step
from backfill_pipeline.steps.register import followed_symbols
from backfill_pipeline.steps.requests import MOST_SYMBOLS, parse_request
from backfill_pipeline.steps.task import tasks_of
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.jobs import close_job, find_job, hold

from .common import Environment

_CODE = "from backfill_pipeline.cli import main; main()"


@dataclass(frozen=True)
class Detached:
    """A run in a process of its own. `run_id`: of Dagster."""

    job_id: str
    run_id: str
    pid: int
    log: Path


def detach(
    environment: Environment,
    *,
    symbols: list[str] | None,
    timeframes: list[str] | None,
    days: int | None,
    start: str | None,
    end: str | None,
) -> Detached:
    """Start the run and return. Wrong arguments are told here and now, as one-line errors."""
    run_id = str(uuid.uuid4())
    pipeline = Pipeline(environment.settings)
    with pipeline.open() as warehouse:
        request = parse_request(
            symbols if symbols is not None else followed_symbols(warehouse),
            timeframes,
            days=days,
            start=start,
            end=end,
            today=warehouse.now().date(),
            most=None if symbols is None else MOST_SYMBOLS,
        )
        tasks = tasks_of(warehouse, request, pipeline.starts)
        # Which chains a symbol is followed in, only Dagster tells: that takes seconds, and is the new process's.
        job_id = announce(warehouse, run_id, [] if request.as_followed else tasks)
    log = environment.databases.home / "logs" / f"run-{job_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = ["--start", f"{request.start}", "--end", f"{request.end}", "--as-run", run_id]
    if symbols is not None:
        words += ["--symbols", ",".join(request.symbols)]
    if timeframes is not None:
        words += ["--timeframes", ",".join(request.timeframes)]
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603  (our own program)
            [sys.executable, "-P", "-c", _CODE, "run", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # no terminal: its end is not this process's
        )
    return Detached(job_id, run_id, process.pid, log)


@contextmanager
def detached(environment: Environment, run_id: str) -> Iterator[None]:
    """Around a detached run, in its own process: it shows that it is alive, and what ends it before it has begun is
    told by its job.
    """
    with closing(connect(environment.databases.market_url, application_name="backfill progress")) as conn:
        hold(conn, run_id)
        try:
            yield
        except USER_ERRORS as error:
            with conn:
                job = find_job(conn, run_id)
                if job is not None and job.is_open:
                    message = with_next_step(str(error), job, utc_now().date())
                    close_job(conn, job.id, "failed", message, utc_now())
            raise
