"""`backfill run`: bring symbols to completeness between two dates, from a shell, without a daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backfill_pipeline.defs.jobs import OpenWork, open_work
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.timeframe import TIMEFRAMES, Chain
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.requests import BackfillRequest, RequestError, parse_request
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.symbols import list_symbols

from .common import Environment, Json, dagster_instance, err, out, prepare_environment, print_json, settings_of_folder

# Incomplete partitions that are printed; the run's page in the UI has all of them.
_MOST_LINES = 20


@dataclass
class Report:
    """What a command did, as counted by itself."""

    partitions: dict[str, int] = field(default_factory=dict)
    incomplete: list[str] = field(default_factory=list)
    not_served: list[str] = field(default_factory=list)
    error: str | None = None
    run_id: str | None = None
    asked: int = 0
    bars_received: int = 0
    bars_written: int = 0
    bars_withdrawn: int = 0
    feature_rows_written: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.incomplete or self.not_served or self.error)


class _Progress:
    """A bar on a terminal, a line every few seconds elsewhere. Follows runs of this process."""

    def __init__(self, report: Report, total: int, *, quiet: bool) -> None:
        self._report = report
        self._total = total
        self._done = 0
        self._spoke = time.monotonic()
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar:
            yield

    def outcome(self, chain: Chain, outcome: PartitionOutcome) -> None:
        self._done += 1
        counts = self._report.partitions
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
        if outcome.state == "incomplete":
            self._report.incomplete.append(outcome.message)
        elif outcome.state == "not served":
            self._report.not_served.append(outcome.message)
        where = f"{outcome.symbol} {chain.base} {outcome.period.key}"
        self._bar.update(self._task, completed=self._done, description=where)
        if not self._quiet and not err.is_terminal and time.monotonic() - self._spoke > 5:
            err.print(f"{self._done} of {self._total} partitions, now {where}", markup=False)
            self._spoke = time.monotonic()

    def finished(self, work: Work) -> None:
        report = self._report
        report.asked, report.bars_received, report.bars_written = work.asked, work.received, work.written
        report.bars_withdrawn, report.feature_rows_written = work.removed, work.features


def run(
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every active symbol.")] = None,
    timeframes: Annotated[str, typer.Option(help="Each brings its whole chain: 1m … 4h or 1d, 1w.")] = ",".join(
        TIMEFRAMES
    ),
    days: Annotated[int | None, typer.Option(help="The last so many calendar days.")] = None,
    start: Annotated[str | None, typer.Option(help="First session date, as in 2024-03-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session date, included.")] = None,
    json: Json = False,
) -> None:
    """Fetch, resample and enrich what is missing between two dates. Green partitions are left alone.

    Killed or interrupted, the same command goes on where it stopped. Exit code 0 only if everything asked for and due
    is complete.
    """
    environment = prepare_environment(settings_of_folder())
    report = backfill(
        environment,
        symbols=None if symbols is None else [part for part in symbols.split(",") if part],
        timeframes=[part.strip() for part in timeframes.split(",") if part.strip()],
        days=days,
        start=start,
        end=end,
        quiet=json,
    )
    if json:
        print_json({**asdict(report), "complete": report.good})
    else:
        tell(report)
    if not report.good:
        raise typer.Exit(1)


def backfill(
    environment: Environment,
    *,
    symbols: list[str] | None,
    timeframes: list[str],
    days: int | None,
    start: str | None,
    end: str | None,
    quiet: bool = False,
) -> Report:
    """Run `master_backfill` in this process for what is not green. Raises one-line errors for wrong arguments."""
    report = Report()
    began = time.monotonic()
    pipeline = Pipeline(environment.settings)
    with dagster_instance(environment) as instance:
        with pipeline.open() as warehouse:
            names = symbols if symbols is not None else _active(warehouse.conn)
            request = parse_request(names, timeframes, days=days, start=start, end=end, today=warehouse.now().date())
            work = open_work(instance, pipeline, warehouse, request)
        report.not_served = list(work.unserved)
        if work.tasks:
            _execute(environment, instance, request, work, report, quiet=quiet)
    report.seconds = round(time.monotonic() - began, 2)
    return report


def _active(conn: Any) -> list[str]:
    names = [registered.instrument.symbol for registered in list_symbols(conn) if registered.active]
    if not names:
        raise RequestError("no symbols are registered; add some: backfill symbols add AAPL")
    return names


def _execute(
    environment: Environment, instance: Any, request: BackfillRequest, work: OpenWork, report: Report, *, quiet: bool
) -> None:
    from backfill_pipeline.definitions import build_definitions

    progress = _Progress(report, sum(len(task.periods) for task in work.tasks), quiet=quiet)
    definitions = build_definitions(Pipeline(environment.settings, listener=progress))
    config = {
        "symbols": list(request.symbols),
        "timeframes": list(request.timeframes),
        "start": request.start.isoformat(),
        "end": request.end.isoformat(),
    }
    with progress.shown():
        try:
            result = definitions.resolve_job_def("master_backfill").execute_in_process(
                run_config={
                    "ops": {"master_backfill": {"config": config}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                instance=instance,
                raise_on_error=False,
            )
        except KeyboardInterrupt:
            report.error = "interrupted: what is counted as complete is stored; the same command goes on from there"
            return
    report.run_id = result.run_id
    if not result.success and not report.incomplete:
        report.error = _failure_line(result)


def _failure_line(result: Any) -> str:
    """The innermost reason of a failed run, in one line."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            error = data.error.cause or data.error
            return str(error.message).strip().splitlines()[0]
    return "the run failed; its page in the UI has the reason: backfill ui"


def tell(report: Report) -> None:
    """Print what was done, what is missing and what to type next."""
    counts = report.partitions
    if not counts and report.good:
        out.print("everything asked for is complete already: nothing was started")
    elif counts:
        words = ", ".join(f"{counts[state]} {state}" for state in sorted(counts))
        out.print(
            f"partitions: {words}; {report.asked} requests, {report.bars_written} bars and"
            f" {report.feature_rows_written} rows of features written in {report.seconds:.1f} s"
        )
    for line in report.incomplete[:_MOST_LINES]:
        err.print(f"[red]incomplete[/red] {line}")
    if len(report.incomplete) > _MOST_LINES:
        err.print(f"… and {len(report.incomplete) - _MOST_LINES} more; all of them: backfill ui")
    for line in report.not_served:
        err.print(line, markup=False)
    if report.error:
        err.print(report.error, markup=False)
    if report.good:
        out.print("next: backfill matrix, or backfill ui")
