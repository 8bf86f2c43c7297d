"""`backfill calendar …`: days on which a calendar is wrong, because nobody trades on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.steps.calendar_days import Followed, close, parse_calendar_day, reopen
from backfill_pipeline.storage.overrides import list_overrides

from .common import Json, counted, err, out, prepare_environment, print_json, settings_of_folder

app = typer.Typer(help="Days that a calendar calls sessions and that are none.", no_args_is_help=True)

_Calendar = Annotated[str, typer.Argument(metavar="CALENDAR", help="XNYS, 24/7, …: see backfill symbols list.")]
_Day = Annotated[str, typer.Argument(metavar="DATE", help="As in 2025-01-09, in the calendar's zone.")]


@app.command("close")
def close_(
    calendar: _Calendar,
    date: _Day,
    note: Annotated[str, typer.Option(help="Why there is no trading; kept for whoever asks.")],
    force: Annotated[bool, typer.Option("--force", help="Withdraw bars of that day that are stored.")] = False,
) -> None:
    """There is no trading on a day: nothing is expected or asked for, and its gaps are closed."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        of = parse_calendar_day(calendar, date, warehouse.now().date())
        done = close(warehouse, of, note, force=force, waiting=err.print)
    gone = f", {counted(done.withdrawn, 'base bar')} withdrawn" if done.withdrawn else ""
    out.print(f"{of} is closed ({note}): {counted(done.gaps, 'gap')} closed{gone}{_weeks(done)}")
    out.print("its partitions turn green with the next run over them; undo: backfill calendar reopen " + str(of))


@app.command("reopen")
def reopen_(calendar: _Calendar, date: _Day) -> None:
    """Trust the calendar about a day again: it is missing until it is asked for."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        of = parse_calendar_day(calendar, date, warehouse.now().date())
        done = reopen(warehouse, of, waiting=err.print)
    out.print(f"{of} is a session again{_weeks(done)}")
    out.print(f"next: backfill run --start {of.day} --end {of.day}")


def _weeks(done: Followed) -> str:
    return f"; {counted(done.weeks, 'weekly bar')} of {counted(done.symbols, 'symbol')} changed" if done.weeks else ""


@app.command("list")
def list_(json: Json = False) -> None:
    """Every day that was closed by hand."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse, warehouse.conn:
        overrides = list_overrides(warehouse.conn)
    if json:
        print_json([asdict(one) for one in overrides])
        return
    if not overrides:
        out.print("every day is as its calendar says; to close one: backfill calendar close XNYS 2025-01-09 --note why")
        return
    table = Table("calendar", "day", "", "note", "since")
    for one in overrides:
        table.add_row(one.calendar, f"{one.session:%a %Y-%m-%d}", one.kind, one.note, f"{one.added_at:%Y-%m-%d}")
    out.print(table)
