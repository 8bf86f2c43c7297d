"""`backfill import`: bars from files that somebody owns."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline, first_day
from backfill_pipeline.steps.import_bars import Found, read_file, store, survey
from backfill_pipeline.steps.import_request import ImportRequest, parse_import
from backfill_pipeline.steps.import_spool import Spool
from backfill_pipeline.steps.window import Work

from .common import Environment, Json, counted, err, out, prepare_environment, print_json, settings_of_folder
from .reconcile import reconciled


def import_(
    files: Annotated[list[Path], typer.Argument(help="Parquet or CSV, also .csv.gz.")],
    timeframe: Annotated[str, typer.Option(help="1m or 1d; what is coarser is derived.")],
    adjusted: Annotated[str, typer.Option(help="none, splits or all: it must be said, and only none is stored.")],
    symbol: Annotated[str | None, typer.Option(help="Whose bars, where the file has no column of symbols.")] = None,
    columns: Annotated[str | None, typer.Option(help="ts=time,open=o,… where names are not recognised.")] = None,
    tz: Annotated[str | None, typer.Option(help="America/New_York, of times that have no zone.")] = None,
    unit: Annotated[str | None, typer.Option(help="s, ms, us or ns, of epochs outside of 1990 to 2099.")] = None,
    label: Annotated[str, typer.Option(help="start or end: which side of a minute its time is.")] = "start",
    name: Annotated[
        str | None, typer.Option(help="The bars' provider is import:NAME; default: the file's name.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also sessions that another provider has, unless it has more bars.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be stored; store nothing.")] = False,
    json: Json = False,
) -> None:
    """Store bars of files, checked as a provider's are: all files, or nothing of any where one is not what was said.

    Sessions a file holds become wanted, count as answered, and are asked of no provider. Killed, the same command goes
    on. Exit code 1 if anything of the files was refused or kept out; what is out of session does not count.
    """
    requests = [
        parse_import(
            file,
            timeframe=timeframe,
            adjusted=adjusted,
            symbol=symbol,
            columns=columns,
            tz=tz,
            unit=unit,
            label=label,
            name=name,
            replace=replace,
        )
        for file in files
    ]
    environment = prepare_environment(settings_of_folder())
    began, work = time.monotonic(), Work()
    with ExitStack() as spools, Pipeline(environment.settings).open() as warehouse:
        found: list[list[Found]] = []
        spooled: list[Spool] = []
        for request in requests:  # all of them are judged before anything is stored
            folder = spools.enter_context(tempfile.TemporaryDirectory(prefix="backfill-import-"))
            spooled.append(read_file(warehouse, request, Path(folder)))
            found.append(survey(warehouse, request, spooled[-1]))
        if not dry_run:
            found = [store(warehouse, r, spool, work) for r, spool in zip(requests, spooled, strict=True)]
    named = sorted({one.symbol for of_file in found for one in of_file if one.sessions})
    # Symbols become partitions of a chain that is new to them, and partitions show what is stored now.
    recorded = reconciled(environment, named, quiet=True).recorded if named and not dry_run else 0
    if json:
        pairs = zip(requests, found, strict=True)
        print_json([{"file": r.path, "provider": r.provider, "symbols": [asdict(o) for o in f]} for r, f in pairs])
    else:
        for request, of_file in zip(requests, found, strict=True):
            for one in of_file:
                _tell(request, one, dry_run=dry_run)
        _tell_all(environment, requests[0], [one for of_file in found for one in of_file], dry_run=dry_run)
        if not dry_run:
            out.print(
                f"{counted(work.written, 'bar')} and {counted(work.features, 'row')} of features written,"
                f" {counted(recorded, 'partition')} recorded as complete in {time.monotonic() - began:.1f} s"
            )
            lacking = [one.symbol for of_file in found for one in of_file if one.incomplete]
            out.print(f"next: backfill gaps --symbols {lacking[0]}" if lacking else "next: backfill matrix")
    if any(one.notes or one.refused or one.kept for of_file in found for one in of_file):
        raise typer.Exit(1)


def _tell_all(environment: Environment, request: ImportRequest, found: list[Found], *, dry_run: bool) -> None:
    start = first_day(environment.settings, request.chain)
    if any(one.first is not None and one.first < start for one in found):
        variable = f"BACKFILL_{request.chain.name.upper()}_START"
        err.print(f"sessions before {variable}={start} have no partitions; set it earlier to see them in the UI")
    if dry_run:
        out.print("dry run: nothing is stored")


def _tell(request: ImportRequest, found: Found, *, dry_run: bool) -> None:
    span = f" ({found.first} to {found.last})" if found.first else ""
    out.print(
        f"{request.path}: {found.symbol} {request.base} as {request.provider}:"
        f" {counted(found.sessions, 'session')}{span}, {counted(found.bars, 'bar')}"
    )
    for reason, count in found.refused.most_common():
        err.print(f"  refused: {counted(count, 'row')}: {reason}{'' if dry_run else '; in quarantine'}")
    if found.outside:
        err.print(f"  left out: {counted(found.outside, 'row')} out of session")
    for provider, count in sorted(found.kept.items()):
        err.print(f"  kept: {counted(count, 'session')} of {provider}; --replace takes the file's")
    if found.incomplete:
        err.print(f"  incomplete: {counted(found.incomplete, 'session')}")
    for note in found.notes:
        err.print(f"  {note}")
