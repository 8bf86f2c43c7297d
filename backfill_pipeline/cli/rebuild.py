"""`backfill rebuild`: coarser bars and features anew from the stored base bars, asking nobody."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.timeframe import CHAINS, Chain
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.rebuild import rebuild_tasks
from backfill_pipeline.steps.register import followed_symbols
from backfill_pipeline.steps.requests import parse_request
from backfill_pipeline.steps.window import Work

from .common import Json, counted, out, prepare_environment, print_json, settings_of_folder, split_list
from .progress import Counts, Progress


@dataclass
class Rebuilt:
    """Rows that were not what the stored base bars make them; by `symbol chain`, those of bars and features."""

    symbols: int = 0
    partitions: int = 0
    bars_changed: int = 0
    feature_rows_changed: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def rebuild(
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every symbol that is followed.")] = None,
    timeframes: Annotated[str | None, typer.Option(help="1h,1d; each brings its whole chain; default: both.")] = None,
    days: Annotated[
        int | None, typer.Option(help="The last so many calendar days; default: all that is wanted.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First session date, as in 2024-03-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session date, included.")] = None,
    json: Json = False,
) -> None:
    """Derive bars and features anew from the stored base bars. Asks nobody; what is right already is left alone."""
    began = time.monotonic()
    environment = prepare_environment(settings_of_folder())
    done, work = Rebuilt(), Work()
    with Pipeline(environment.settings).open() as warehouse:
        names = followed_symbols(warehouse) if symbols is None else split_list(symbols)
        frames = None if timeframes is None else split_list(timeframes)
        everything = days is None and start is None and end is None
        request = parse_request(
            names,
            frames,
            days=1 if everything else days,
            start=start,
            end=end,
            today=warehouse.now().date(),
            most=None,
        )
        chains: tuple[Chain, ...] = CHAINS if request.as_followed else request.chains
        span = (None, None) if everything else (request.start, request.end)
        tasks = rebuild_tasks(warehouse, request.symbols, chains, *span)
        done.symbols = len({task.instrument.symbol for task in tasks})
        progress = Progress(Counts(), sum(len(task.periods) for task in tasks), quiet=json)
        with progress.shown():
            before = 0
            for task, outcome in run_tasks(warehouse, tasks, work):
                done.partitions += 1
                name, now = f"{task.instrument.symbol} {task.chain.name}", work.written + work.removed + work.features
                if now > before:
                    done.changed[name] = done.changed.get(name, 0) + now - before
                before = now
                progress.outcome(task.chain, outcome, work)
    done.bars_changed, done.feature_rows_changed = work.written + work.removed, work.features
    done.seconds = round(time.monotonic() - began, 2)
    if json:
        print_json(asdict(done))
    else:
        _tell(done)


def _tell(done: Rebuilt) -> None:
    if not done.partitions:
        out.print("nothing to rebuild: nothing of it is wanted; next: backfill run")
        return
    out.print(
        f"rebuilt {counted(done.partitions, 'partition')} of {counted(done.symbols, 'symbol')} in {done.seconds:.1f} s:"
        f" {counted(done.bars_changed, 'bar')} and {counted(done.feature_rows_changed, 'row')} of features changed"
    )
    for name, rows in sorted(done.changed.items(), key=lambda item: -item[1])[:20]:
        out.print(f"  {name}: {counted(rows, 'row')}")
