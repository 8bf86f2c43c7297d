"""`backfill coverage`: how much of a range is there, what is missing, how long that takes; on request, have it."""

from __future__ import annotations

import json as jsonlib
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.steps.requests import BackfillRequest, parse_request

from .common import (
    CommandError,
    Json,
    counted,
    dagster_instance,
    err,
    out,
    prepare_environment,
    print_json,
    settings_of_folder,
)
from .plan import span

if TYPE_CHECKING:
    import dagster as dg

    from backfill_pipeline.steps.coverage_report import BackfillProgress, CoverageReport

# Missing stretches that are printed; --json has all of them.
_MOST_LINES = 20
# The queue's daemon tells every 30 s that it lives.
_ALIVE = 75.0
_MODULE = "backfill_pipeline.definitions"


def coverage(
    symbol: Annotated[str, typer.Argument(help="AAPL")],
    timeframe: Annotated[str, typer.Option(help="1m 5m 15m 30m 1h 4h 1d or 1w.")],
    days: Annotated[int | None, typer.Option(help="The last so many calendar days.")] = None,
    start: Annotated[str | None, typer.Option(help="First session date, as in 2024-03-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session date, included.")] = None,
    ensure: Annotated[
        bool, typer.Option("--ensure", help="Want the range, and request what is missing of it.")
    ] = False,
    register: Annotated[
        bool, typer.Option("--register", help="With --ensure: follow the symbol if it is new.")
    ] = False,
    json: Json = False,
) -> None:
    """Say how complete a range of one symbol is, what is missing and how long that takes. Asks nobody.

    Alone it changes nothing. With --ensure the missing sessions are requested, the newest first: Dagster's daemon
    completes them, where one is up (backfill ui).

    Exit code 0 only if everything asked for and due is complete.
    """
    from backfill_pipeline.defs.ensure_coverage import as_json, coverage_of, register_unknown, report_tasks
    from backfill_pipeline.defs.jobs import open_work

    if register and not ensure:
        raise CommandError("--register goes with --ensure; alone, backfill coverage changes nothing")
    environment = prepare_environment(settings_of_folder())
    pipeline = Pipeline(environment.settings)
    run_id = None
    with dagster_instance(environment) as instance, pipeline.open() as warehouse:
        today = warehouse.now().date()
        request = parse_request([symbol], [timeframe], days=days, start=start, end=end, today=today)
        if register:
            register_unknown(instance, warehouse, request)
        tasks = report_tasks(pipeline, warehouse, request)
        if ensure:
            open_work(instance, pipeline, warehouse, request)
        report = coverage_of(instance, warehouse, request, tasks)[0]
        daemon = _daemon_is_up(instance)
        if ensure and daemon and report.backfill_progress.waiting:
            run_id = _submit(request)
            report = coverage_of(instance, warehouse, request, tasks)[0]
    if json:
        print_json({**as_json(report), "next": report.next_command, "run_id": run_id})
    else:
        _tell(report, run_id, daemon=daemon, ensure=ensure)
    if report.status != "coverage_complete":
        raise typer.Exit(1)


def _daemon_is_up(instance: dg.DagsterInstance) -> bool:
    """Whether somebody takes runs from the queue."""
    beat = instance.get_daemon_heartbeats().get("QUEUED_RUN_COORDINATOR")
    return beat is not None and time.time() - beat.timestamp < _ALIVE


def _submit(request: BackfillRequest) -> str:
    """Put a run of `ensure_coverage` into Dagster's queue; its id. Takes seconds: Dagster loads the code for it."""
    from backfill_pipeline.defs.job_progress import ORIGIN_TAG

    run_id = str(uuid.uuid4())
    config = {
        "symbols": list(request.symbols),
        "timeframes": list(request.timeframes),
        "start": request.start.isoformat(),
        "end": request.end.isoformat(),
    }
    words = ["-m", _MODULE, "-j", "ensure_coverage", "--run-id", run_id]
    words += ["--tags", jsonlib.dumps({ORIGIN_TAG: "shell"})]
    ops = jsonlib.dumps({"ops": {"ensure_coverage": {"config": config}}})
    ran = subprocess.run(  # noqa: S603  (our own program)
        [sys.executable, "-m", "dagster", "job", "launch", *words, "--config-json", ops],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        said = (ran.stderr.strip() or "nothing").splitlines()[-1]
        raise CommandError(f"Dagster did not take the run, saying: {said}; complete it here with backfill run")
    return run_id


def _tell(report: CoverageReport, run_id: str | None, *, daemon: bool, ensure: bool) -> None:
    progress = report.backfill_progress
    out.print(f"{report.symbol} {report.timeframe} {report.start} to {report.end}: {report.status}")
    if report.served is not None:
        out.print(f"served:  {report.served}")
    out.print(f"slices:  {_slices(progress)}; {counted(progress.bars_written, 'bar')} stored")
    if not report.missing:
        return
    out.print(f"missing: {counted(sum(stretch.sessions for stretch in report.missing), 'session')}")
    for stretch in report.missing[:_MOST_LINES]:
        until = "" if stretch.start == stretch.end else f" to {stretch.end} ({stretch.sessions} sessions)"
        out.print(f"         {stretch.start}{until}")
    if len(report.missing) > _MOST_LINES:
        out.print(f"         and {len(report.missing) - _MOST_LINES} more")
    out.print(f"time:    about {span(report.eta_seconds or 0)}")
    if run_id is not None:
        out.print(f"requested: run {run_id}")
    elif report.status == "backfilling" and not progress.waiting:
        if not progress.running_slices and not daemon:
            err.print("no daemon is up to take it from the queue: backfill ui starts one")
    else:
        if ensure:
            err.print("no daemon is up to request it from; either start one (backfill ui), or have it done here:")
        out.print(f"next:    {report.next_command}")


def _slices(progress: BackfillProgress) -> str:
    of = f"{progress.completed_slices:,} of {progress.total_slices:,} complete ({progress.progress_percent:.2f} %)"
    return f"{of}, {progress.running_slices} running, {progress.queued_slices} queued"
