"""`backfill run`: bring symbols to completeness between two dates, from a shell, without a daemon."""

from __future__ import annotations

import signal
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.steps.progress import nothing_to_do
from backfill_pipeline.steps.register import followed_symbols
from backfill_pipeline.steps.requests import MOST_SYMBOLS, BackfillRequest, parse_request

from . import detach as detaching
from .common import (
    Environment,
    Json,
    counted,
    dagster_instance,
    err,
    out,
    prepare_environment,
    print_json,
    settings_of_folder,
    split_list,
)
from .progress import Counts, Progress

if TYPE_CHECKING:
    import dagster as dg

    from backfill_pipeline.defs.jobs import OpenWork

# Incomplete partitions that are printed; the run's page in the UI has all of them.
_MOST_LINES = 20
_INTERRUPTED = "interrupted: what is stored stays; the same command goes on from there"
_EXIT_INTERRUPTED = 128 + signal.SIGINT


@dataclass
class Report(Counts):
    """What a command did, as counted by itself."""

    error: str | None = None
    interrupted: bool = False
    run_id: str | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.incomplete or self.not_served or self.error)


def run(
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every symbol that is followed.")] = None,
    timeframes: Annotated[
        str | None,
        typer.Option(
            help="1h,1d; each brings its whole chain (1m … 4h or 1d, 1w); default: as the symbols are followed."
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(help="The last so many calendar days.")] = None,
    start: Annotated[str | None, typer.Option(help="First session date, as in 2024-03-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session date, included.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's id at once; the run goes on without this shell.")
    ] = False,
    json: Json = False,
    as_run: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fetch, resample and enrich what is missing between two dates. Green partitions are left alone.

    Killed or interrupted, the same command goes on where it stopped.

    Exit code 0 only if everything asked for and due is complete.
    """
    environment = prepare_environment(settings_of_folder())
    request = _Arguments(
        symbols=None if symbols is None else split_list(symbols),
        timeframes=None if timeframes is None else split_list(timeframes),
        days=days,
        start=start,
        end=end,
    )
    if detach:
        _tell_detached(detaching.detach(environment, **request), json=json)
        return
    try:
        with detaching.detached(environment, as_run) if as_run else nullcontext():
            report = backfill(environment, **request, quiet=json, run_id=as_run)
    except KeyboardInterrupt:  # before any partition was begun
        report = Report(error=_INTERRUPTED, interrupted=True)
    if json:
        print_json({**asdict(report), "complete": report.good})
    else:
        tell(report)
        if report.good:
            out.print("next: backfill matrix, or backfill ui")
    if not report.good:
        raise typer.Exit(_EXIT_INTERRUPTED if report.interrupted else 1)


class _Arguments(TypedDict):
    symbols: list[str] | None
    timeframes: list[str] | None
    days: int | None
    start: str | None
    end: str | None


def _tell_detached(started: detaching.Detached, *, json: bool) -> None:
    if json:
        print_json(asdict(started))
        return
    out.print(started.job_id)
    err.print(f"its log: {started.log}; next: backfill status {started.job_id} --watch")


def backfill(
    environment: Environment,
    *,
    symbols: list[str] | None,
    timeframes: list[str] | None,
    days: int | None,
    start: str | None,
    end: str | None,
    quiet: bool = False,
    run_id: str | None = None,
) -> Report:
    """Run `master_backfill` in this process for what is not green. `run_id`: what Dagster is to call the run; default:
    as it likes. Raises one-line errors for wrong arguments.
    """
    from backfill_pipeline.defs.jobs import open_work
    from backfill_pipeline.defs.stamp import disagreement

    report = Report()
    began = time.monotonic()
    pipeline = Pipeline(environment.settings)
    with dagster_instance(environment) as instance:
        with pipeline.open() as warehouse:
            if line := disagreement(instance, warehouse):
                err.print(line)
            request = parse_request(
                symbols if symbols is not None else followed_symbols(warehouse),
                timeframes,
                days=days,
                start=start,
                end=end,
                today=warehouse.now().date(),
                most=None if symbols is None else MOST_SYMBOLS,
            )
            work = open_work(instance, pipeline, warehouse, request)
            if not work.tasks:
                nothing_to_do(warehouse, run_id, "shell", work.known)
        report.not_served += work.unserved
        if work.tasks:
            report.run_id = run_id
            _execute(environment, instance, request, work, report, named=symbols is not None, quiet=quiet)
    report.seconds = round(time.monotonic() - began, 2)
    return report


def _execute(
    environment: Environment,
    instance: dg.DagsterInstance,
    request: BackfillRequest,
    work: OpenWork,
    report: Report,
    *,
    named: bool,
    quiet: bool,
) -> None:
    from backfill_pipeline.definitions import build_definitions

    progress = Progress(report, sum(len(task.periods) for task in work.tasks), quiet=quiet)
    definitions = build_definitions(Pipeline(environment.settings, listener=progress))
    config = {
        **({"symbols": list(request.symbols)} if named else {}),
        **({} if request.as_followed else {"timeframes": list(request.timeframes)}),
        "start": request.start.isoformat(),
        "end": request.end.isoformat(),
    }
    with progress.shown():
        result = definitions.resolve_job_def("master_backfill").execute_in_process(
            run_config={
                "ops": {"master_backfill": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=instance,
            run_id=report.run_id,
            raise_on_error=False,
        )
    report.run_id = result.run_id
    if not result.success:
        explain_failure(result, report)


def explain_failure(result: dg.ExecuteInProcessResult, report: Report) -> None:
    """Say in one line why a run failed, unless it is for the incomplete partitions that the report names."""
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None:
            # A failure for incomplete partitions carries them; another one is news beside them.
            if not report.incomplete or "incomplete" not in data.user_failure_data.metadata:
                report.error = data.user_failure_data.description
            return
        error = data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
            report.error, report.interrupted = _INTERRUPTED, True
        elif error is not None:
            report.error = str(error.message).strip().splitlines()[0]
        return
    report.error = f"the run {result.run_id} failed; its page in the UI has the reason: backfill ui"


def tell(report: Report) -> None:
    """Print what was done and what is missing."""
    counts = report.partitions
    if not counts and report.good:
        out.print("everything asked for is complete already: nothing was started")
    elif counts or report.asked:
        words = ", ".join(f"{counts[state]} {state}" for state in sorted(counts)) or "none settled"
        out.print(
            f"partitions: {words}; {counted(report.asked, 'request')}, {counted(report.bars_written, 'bar')} and"
            f" {counted(report.feature_rows_written, 'row')} of features written in {report.seconds:.1f} s"
        )
    for line in report.incomplete[:_MOST_LINES]:
        err.print(f"incomplete: {line}", style="red")
    if len(report.incomplete) > _MOST_LINES:
        err.print(f"… and {len(report.incomplete) - _MOST_LINES} more; all of them: backfill ui")
    for line in report.not_served:
        err.print(line)
    if report.error:
        err.print(report.error)
    if report.incomplete:
        err.print("next: the same command asks again for what is missing, and for nothing else")
