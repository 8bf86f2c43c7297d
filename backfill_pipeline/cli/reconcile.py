"""`backfill reconcile`: Dagster's partitions made to show what the tables say."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline

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
from .progress import Progress
from .run import Report as RunReport
from .run import explain_failure

if TYPE_CHECKING:
    import dagster as dg

    from backfill_pipeline.defs.reconcile import Comparison

_MOST_LINES = 20


@dataclass
class Report(RunReport):
    """`compared`: partitions; `recorded`: those that were complete and not shown as such; `turned_red`: the opposite;
    `busy`: those that runs are at, which were left alone.
    """

    compared: int = 0
    recorded: int = 0
    turned_red: int = 0
    busy: int = 0


def reconcile(
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every symbol that is registered.")] = None,
    json: Json = False,
) -> None:
    """Make Dagster's partitions show what the tables say. Asks no provider and changes no bar.

    For after one of the two databases was restored, moved or made anew, and after a change of
    BACKFILL_INTRADAY_GRAIN or BACKFILL_DAILY_GRAIN. Killed, the same command goes on.
    """
    report = reconciled(
        prepare_environment(settings_of_folder()), None if symbols is None else split_list(symbols), quiet=json
    )
    if json:
        print_json(asdict(report))
    else:
        _tell(report)
    if report.error:
        raise typer.Exit(1)


def reconciled(environment: Environment, symbols: list[str] | None, *, quiet: bool) -> Report:
    """Do it, for `symbols` or all; what was done."""
    from backfill_pipeline.defs.reconcile import compare, note_compared, restore_members

    began, report = time.monotonic(), Report()
    pipeline = Pipeline(environment.settings)
    with dagster_instance(environment) as instance:
        with pipeline.open() as warehouse:
            for line in restore_members(instance, warehouse, symbols):
                err.print(line)
            found = compare(instance, pipeline, warehouse, symbols)
            report.compared, report.busy = found.partitions, found.busy
        if found.differences:
            _execute(environment, instance, found, report, quiet=quiet)
        if report.error is None:
            with pipeline.open() as warehouse:
                note_compared(instance, warehouse, symbols)
    report.recorded, report.turned_red = report.partitions.get("complete", 0), len(report.incomplete)
    report.seconds = round(time.monotonic() - began, 2)
    return report


def _execute(
    environment: Environment,
    instance: dg.DagsterInstance,
    found: Comparison,
    report: Report,
    *,
    quiet: bool,
) -> None:
    from backfill_pipeline.definitions import build_definitions
    from backfill_pipeline.defs.reconcile import JOB

    progress = Progress(report, sum(len(one.task.periods) for one in found.differences), quiet=quiet)
    definitions = build_definitions(Pipeline(environment.settings, listener=progress))
    with progress.shown():
        result = definitions.resolve_job_def(JOB).execute_in_process(
            run_config={
                "ops": {JOB: {"config": {"symbols": sorted({of.instrument.symbol for of in found.differences})}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=instance,
            raise_on_error=False,
        )
    report.run_id = result.run_id
    if not result.success:
        explain_failure(result, report)


def _tell(report: Report) -> None:
    changed = f"{report.recorded:,} recorded as complete, {report.turned_red:,} turned red"
    out.print(
        f"{counted(report.compared, 'partition')} compared in {report.seconds:.1f} s: "
        + (changed if report.recorded or report.turned_red else "all show what the tables say")
    )
    if report.busy:
        out.print(f"{counted(report.busy, 'partition')} left alone: runs are at them")
    for line in report.incomplete[:_MOST_LINES]:
        err.print(f"red now: {line}", style="red")
    if len(report.incomplete) > _MOST_LINES:
        err.print(f"… and {len(report.incomplete) - _MOST_LINES} more; all of them: backfill ui")
    if report.error:
        err.print(report.error)
    elif report.incomplete:
        out.print("next: backfill run brings what is missing")
