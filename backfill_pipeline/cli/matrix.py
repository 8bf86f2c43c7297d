"""`backfill matrix`: how complete every symbol is in every timeframe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.timeframe import TIMEFRAMES
from backfill_pipeline.storage.looks import last_look
from backfill_pipeline.storage.status import Completeness, read_completeness
from backfill_pipeline.storage.symbols import get_instruments, list_symbols

from .common import Environment, Json, out, prepare_environment, print_json, settings_of_folder, split_list


def matrix(
    symbols: Annotated[str | None, typer.Option(help="Only these: AAPL,IBM.")] = None,
    every: Annotated[bool, typer.Option("--all", help="A row for each symbol, however many are alike.")] = False,
    json: Json = False,
) -> None:
    """Show how complete every symbol is in every timeframe."""
    environment = prepare_environment(settings_of_folder())
    rows = completeness(environment, split_list(symbols) if symbols else None)
    if json:
        print_json([asdict(row) for row in rows])
    elif rows:
        show_matrix(rows, every=every)
        _tell_last_look(environment)
    else:
        out.print("nothing is wanted yet; next: backfill symbols add AAPL, then backfill run --symbols AAPL --days 30")


def completeness(environment: Environment, symbols: Sequence[str] | None = None) -> list[Completeness]:
    """Of `symbols`, or of all that are followed. Raises UnknownSymbolError."""
    with Pipeline(environment.settings).open() as warehouse:
        if symbols is None:
            symbols = [r.instrument.symbol for r in list_symbols(warehouse.conn) if r.active]
        get_instruments(warehouse.conn, symbols)
        return read_completeness(warehouse.conn, symbols)


def _tell_last_look(environment: Environment) -> None:
    """The matrix says what is known; how old that knowledge is, too."""
    with Pipeline(environment.settings).open() as warehouse, warehouse.conn:
        look = last_look(warehouse.conn)
    if look is None:
        out.print("the tables were never held against what was written: backfill verify")
        return
    found = ", ".join(f"{count} {what}" for what, count in sorted(look.found.items())) or "nothing wrong"
    out.print(f"last held against what was written at {look.looked_at.astimezone(UTC):%Y-%m-%d %H:%MZ}: {found}")


# Columns that the table needs; a narrower terminal gets it without the dates.
_WIDTH = 96
# With more symbols than fit on a page, those that are alike share a row.
_PAGE = 20

Cells = dict[str, Completeness]


def show_matrix(rows: Sequence[Completeness], *, every: bool = False) -> None:
    """Symbols down, timeframes across: percent complete of what is due; missing bars in red. Beyond a page of them,
    symbols that are alike share a row, unless `every` is to have its own.
    """
    by_symbol: dict[str, Cells] = {}
    for row in rows:
        by_symbol.setdefault(row.symbol, {})[row.timeframe] = row
    if not every and len(by_symbol) > _PAGE:
        by_symbol = _alike(by_symbol)
    dates = out.width >= _WIDTH
    title = "complete, in % of the bars that are due; below it, how many are missing; · not wanted"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("symbol", no_wrap=True)
    for timeframe in TIMEFRAMES:
        table.add_column(timeframe, justify="right", no_wrap=True)
    if dates:
        table.add_column("wanted", no_wrap=True)
    for symbol, cells in by_symbol.items():
        wanted = [_wanted(cells)] if dates else []
        table.add_row(symbol, *(_cell(cells.get(t)) for t in TIMEFRAMES), *wanted)
    out.print(table)


def _alike(by_symbol: dict[str, Cells]) -> dict[str, Cells]:
    """One of each kind, named by the first and how many there are; the least complete kinds first."""
    kinds: dict[object, list[str]] = {}
    for symbol, cells in by_symbol.items():
        kinds.setdefault(tuple(replace(row, symbol="") for row in cells.values()), []).append(symbol)
    ordered = sorted(kinds.values(), key=lambda names: -max(row.missing for row in by_symbol[names[0]].values()))
    return {
        f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]: by_symbol[names[0]]
        for names in ordered
    }


def _cell(row: Completeness | None) -> Text:
    if row is None:
        return Text("·")
    if row.complete_pct is None:
        return Text("not due")
    if row.missing:
        return Text(f"{min(row.complete_pct, 99.99):.2f}\n-{row.missing}", style="red")
    return Text(f"{row.complete_pct:.0f}", style="green")


def _wanted(cells: dict[str, Completeness]) -> str:
    spans = [cells[base] for base in ("1m", "1d") if base in cells]
    lines = []
    for row in spans:
        clipped = f", {row.clipped}" if row.clipped else ""
        lines.append(f"{row.timeframe} {row.wanted_from} to {row.wanted_to}{clipped}")
    return "\n".join(lines)
