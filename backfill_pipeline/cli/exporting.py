"""`backfill export`: stored bars as Parquet files."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.steps.export_bars import export as export_bars
from backfill_pipeline.steps.export_bars import parse_export
from backfill_pipeline.steps.register import followed_symbols

from .common import Json, counted, err, out, prepare_environment, print_json, settings_of_folder, split_list


@dataclass
class Exported:
    """`files`: those that are there now; `written` of them anew; `bars` in all of them."""

    files: int = 0
    written: int = 0
    bars: int = 0
    seconds: float = 0.0


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made where it is missing.")],
    timeframe: Annotated[str, typer.Option(help="1m, or several: 1m,1h,1d.")],
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every symbol that is followed.")] = None,
    start: Annotated[str | None, typer.Option(help="First session date; default: the first that is stored.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session date, included; default: the last.")] = None,
    features: Annotated[bool, typer.Option("--features", help="Features beside their bars.")] = False,
    json: Json = False,
) -> None:
    """Bars as DIR/timeframe=1m/symbol=AAPL/2024.parquet: unadjusted, every segment, with who sent them.

    A file that holds already what the tables hold is left alone. Killed, the same command goes on.
    """
    began, done = time.monotonic(), Exported()
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        names = followed_symbols(warehouse) if symbols is None else split_list(symbols)
        request = parse_export(folder, names, split_list(timeframe), start, end, features=features)
        for path, written in export_bars(warehouse, request):
            done.files, done.bars = done.files + 1, done.bars + written.rows
            done.written += written.fresh
            if written.fresh and not json:
                err.print(f"{path}: {counted(written.rows, 'bar')}")
    done.seconds = round(time.monotonic() - began, 2)
    if json:
        print_json(asdict(done))
    elif not done.files:
        out.print("nothing to export: no bar of it is stored; next: backfill matrix")
    else:
        kept = f"; {counted(done.files - done.written, 'file')} held it already" if done.files > done.written else ""
        out.print(f"{counted(done.bars, 'bar')} in {counted(done.files, 'file')} in {done.seconds:.1f} s{kept}")
