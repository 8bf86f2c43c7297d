"""`backfill gaps`: which bars are missing, why, and what happens next; `backfill gaps accept`: these will not come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.timeframe import BASES, Base
from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.steps.accepting import Accepted, accept_gaps, parse_ids
from backfill_pipeline.steps.gap_reason import why
from backfill_pipeline.steps.gap_report import GapLine, gap_lines, head
from backfill_pipeline.storage.gaps import GapError, StoredGap, list_gaps, never_asked
from backfill_pipeline.storage.symbols import get_instruments

from .common import (
    CommandError,
    Json,
    counted,
    err,
    out,
    prepare_environment,
    print_json,
    settings_of_folder,
    split_list,
)

app = typer.Typer(help="Which bars are missing, why, and what happens next.", invoke_without_command=True)


@app.callback()
def gaps(
    context: typer.Context,
    symbols: Annotated[str | None, typer.Option(help="Only these: AAPL,IBM.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only 1m or 1d.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Past gaps, too, and what became of them.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Lines at most; --json has all gaps.")] = 50,
    json: Json = False,
) -> None:
    """Show which bars are missing, why, and what happens next and when. Asks nobody."""
    if context.invoked_subcommand is not None:
        return
    base = _base(timeframe)
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        names = None if symbols is None else split_list(symbols)
        with warehouse.conn:
            if names is not None:
                get_instruments(warehouse.conn, names)
            found = list_gaps(warehouse.conn, names, base, past=every)
            instruments = get_instruments(warehouse.conn, list({gap.symbol: None for gap in found}))
        calendars = {symbol: warehouse.sessions(of.calendar) for symbol, of in instruments.items()}
        with warehouse.conn:
            unasked = never_asked(warehouse.conn, names, base)
        now = warehouse.now()
    lines = gap_lines(found, calendars)
    if json:
        print_json([_row(gap, line) for line in lines for gap in line.gaps])
        return
    out.print(head(found))
    if lines:
        _show(lines[:limit], now)
    if len(lines) > limit:
        out.print(f"and {counted(len(lines) - limit, 'line')} more: --limit {len(lines)}, or --json")
    if unasked:
        out.print(f"not in here: {counted(unasked, 'session')} that nobody has been asked for yet; ask: backfill run")
    _next(lines)


def _base(text: str | None) -> Base | None:
    if text is None:
        return None
    for base in BASES:
        if text == base:
            return base
    raise CommandError(f"timeframe {text!r}: gaps are of 1m and 1d; the others are built of these")


def _show(lines: Sequence[GapLine], now: datetime) -> None:
    zones = sorted({line.zone.key for line in lines})
    several = len(zones) > 1
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("gap", no_wrap=True)
    table.add_column("symbol", no_wrap=True)
    table.add_column("missing", justify="right", no_wrap=True)
    table.add_column("when" if several else f"when ({zones[0]})")
    table.add_column("why")
    table.add_column("next")
    for line in lines:
        when = f"{line.when} ({line.zone.key})" if several else line.when
        table.add_row(line.number, line.symbol, line.bars, when, line.why, line.fate(now))
    out.print(table)


def _next(lines: Sequence[GapLine]) -> None:
    still = [line for line in lines if line.is_open]
    if still:
        which = "ask for it now" if len(still) == 1 else "ask for the first of them now"
        out.print(f"{which}: {still[0].repair}")
        out.print(f"nothing will come: backfill gaps accept {still[0].ids} --because 'why'")


def _row(gap: StoredGap, line: GapLine) -> dict[str, Any]:
    row = asdict(gap)
    del row["window"]
    times = {"start": to_datetime(gap.window.start), "end": to_datetime(gap.window.end)}
    return {**row, **times, "why": why(gap), "repair": line.repair}


@app.command()
def accept(
    ids: Annotated[list[str], typer.Argument(help="Numbers as backfill gaps shows them: 17, or 17-20.")],
    because: Annotated[str, typer.Option(help="Why these bars will not come; kept with the gap.")],
) -> None:
    """Say that the bars of gaps will not come. They count as explained from then on."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        try:
            for accepted in accept_gaps(warehouse, parse_ids(ids), because, err.print):
                _tell(accepted)
        except GapError as error:
            raise CommandError(str(error)) from None
    out.print("a partition whose sessions are complete turns green with the next run over it")


def _tell(accepted: Accepted) -> None:
    status = accepted.status
    if status.complete:
        words = f"complete: {status.stored} of {status.expected} bars, the others explained"
    else:
        left = ", ".join(str(gap.gap_id) for gap in accepted.left)
        words = f"still lacks {counted(status.missing, 'bar')}: gap {left}"
    out.print(f"{accepted.symbol} {accepted.timeframe} {status.session}: {words}")
