"""`backfill plan`: what a backfill would take, before anything of it starts."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict
from typing import Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.steps.estimate import Estimate, estimate
from backfill_pipeline.steps.register import followed_symbols
from backfill_pipeline.steps.requests import MOST_SYMBOLS, parse_request

from .common import (
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

_MEGABYTE = 1_000_000


def plan(
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every symbol that is followed.")] = None,
    timeframes: Annotated[
        str | None, typer.Option(help="1h,1d; each brings its whole chain; default: as followed.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="The last so many calendar days.")] = None,
    start: Annotated[str | None, typer.Option(help="First session date, as in 2024-03-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session date, included.")] = None,
    json: Json = False,
) -> None:
    """Requests, time and disk that the same `backfill run` would take. Asks nobody and changes nothing."""
    from backfill_pipeline.defs.jobs import not_green, requested_tasks

    environment = prepare_environment(settings_of_folder())
    pipeline = Pipeline(environment.settings)
    with dagster_instance(environment) as instance, pipeline.open() as warehouse:
        request = parse_request(
            followed_symbols(warehouse) if symbols is None else split_list(symbols),
            None if timeframes is None else split_list(timeframes),
            days=days,
            start=start,
            end=end,
            today=warehouse.now().date(),
            most=None if symbols is None else MOST_SYMBOLS,
        )
        tasks = requested_tasks(instance, pipeline, warehouse, request)
        found = estimate(warehouse, [not_green(instance, warehouse, task) for task in tasks])
    free = shutil.disk_usage(environment.databases.home).free if environment.databases.embedded else None
    if json:
        print_json({**asdict(found), "seconds": round(found.seconds, 1), "disk_free_bytes": free})
        return
    _tell(found, free)


def _tell(found: Estimate, free: int | None) -> None:
    for line in found.unserved:
        err.print(f"not served: {line}")
    if not found.sessions:
        out.print("nothing to ask for: what is served of it is complete")
        return
    asked = ", ".join(counted(count, f"{name} request") for name, count in sorted(found.requests.items()))
    out.print(f"asks for {counted(found.sessions, 'session')}, at most {counted(found.bars, 'base bar')}")
    out.print(f"requests: {asked or 'none'}")
    out.print(
        f"time:     about {span(found.seconds)} (requests {span(found.waiting_s)}, writing {span(found.writing_s)})"
    )
    of_free = "" if free is None else f" of {free // _MEGABYTE:,} MB free"
    out.print(f"disk:     at most {max(1, found.disk_bytes // _MEGABYTE):,} MB{of_free}")
    if free is not None and found.disk_bytes > free:
        err.print("this does not fit on the disk; ask for fewer symbols or a shorter range, or move BACKFILL_HOME")
        raise typer.Exit(1)


def span(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
