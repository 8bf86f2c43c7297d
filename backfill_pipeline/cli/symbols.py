"""`backfill symbols …`: the registry of what is followed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.names import EVER, FOREVER, Name
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.steps.rename import parse_alias, parse_rename, state_alias, state_rename
from backfill_pipeline.storage.names import describe, read_names
from backfill_pipeline.storage.symbols import Registered, get_instruments, list_symbols, remove_symbol

from .common import (
    CommandError,
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

if TYPE_CHECKING:
    import dagster as dg

app = typer.Typer(help="What is followed: add, list, remove, and what it is called.", no_args_is_help=True)


@app.command()
def add(
    symbols: Annotated[list[str] | None, typer.Argument(help="AAPL BRK.B X:BTCUSD …")] = None,
    file: Annotated[Path | None, typer.Option(help="A text file with one symbol a line; # starts a comment.")] = None,
    asset_class: Annotated[str | None, typer.Option(help="stock, etf or crypto; default stock, crypto for X:…")] = None,
    calendar: Annotated[str | None, typer.Option(help="Trading calendar; default XNYS, 24/7 for crypto.")] = None,
    bars: Annotated[str, typer.Option(help="Base bars to follow: 1m, 1d or both.")] = "1m,1d",
    since: Annotated[
        str | None, typer.Option(help="Keep complete from this date on, or for a span: 2024-01-01, 2y, 6m, 30d.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, max=1_000_000, help="Lower is asked for first; 100 where none was given.")
    ] = None,
) -> None:
    """Follow symbols. They are partitions in Dagster at once; nothing is fetched yet."""
    from backfill_pipeline.defs.jobs import register_everywhere
    from backfill_pipeline.defs.partitions import crowds

    names = [*(symbols or ()), *(_lines(file) if file else ())]
    environment = prepare_environment(settings_of_folder())
    pipeline = Pipeline(environment.settings)
    with pipeline.open() as warehouse, dagster_instance(environment) as instance:
        registration = parse_registration(
            names,
            asset_class=asset_class,
            calendar=calendar,
            bars=split_list(bars),
            since=since,
            today=warehouse.now().date(),
            priority=priority,
        )
        new = register_everywhere(instance, warehouse, registration)
        crowded = crowds(instance, environment.settings, registration.chains, warehouse.now().date())
    known = [symbol for symbol in registration.symbols if symbol not in new]
    if new:
        out.print(f"added {' '.join(new)}")
    if known:
        out.print(f"followed already: {' '.join(known)}")
    for line in crowded:
        err.print(line)
    out.print(f"next: backfill run --symbols {','.join(registration.symbols)} --days 30")


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file} is not UTF-8 text; save it as such, one symbol a line") from None
    return [line.strip() for line in (raw.partition("#")[0] for raw in text.splitlines()) if line.strip()]


@app.command("list")
def list_(json: Json = False) -> None:
    """Every registered symbol."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        registered = list_symbols(warehouse.conn)
        names: dict[int, list[Name]] = {}
        for name in read_names(warehouse.conn):
            names.setdefault(name.symbol_id, []).append(name)
    if json:
        print_json([_row(r, names.get(r.instrument.symbol_id, [])) for r in registered])
        return
    if not registered:
        out.print("no symbols yet; next: backfill symbols add AAPL")
        return
    table = Table("symbol", "class", "calendar", "wanted", "listed", "active", "also called")
    for r in registered:
        of = r.instrument
        dates = (of.first_date, of.last_date)
        listed = "unknown" if dates == (None, None) else f"{of.first_date or '…'} to {of.last_date or '…'}"
        wanted = ", ".join(r.bases) or "nothing yet"
        active = "yes" if r.active else "no"
        others = [name for name in names.get(of.symbol_id, []) if name.ticker != of.symbol]
        called = "\n".join(f"{name.ticker} {describe(name)}" for name in others)
        table.add_row(of.symbol, of.asset_class, of.calendar, wanted, listed, active, called)
    out.print(table)


def _row(registered: Registered, names: list[Name]) -> dict[str, object]:
    of = registered.instrument
    periods = [
        {
            "provider": name.provider,
            "ticker": name.ticker,
            "valid_from": None if name.first == EVER else name.first,
            "valid_to": None if name.last == FOREVER else name.last,
        }
        for name in names
    ]
    return {
        "symbol": of.symbol,
        "asset_class": of.asset_class,
        "calendar": of.calendar,
        "active": registered.active,
        "priority": registered.priority,
        "bars": list(registered.bases),
        "first_date": of.first_date,
        "last_date": of.last_date,
        "names": periods,
    }


@app.command()
def remove(
    symbols: Annotated[list[str], typer.Argument(help="Symbols to stop following.")],
    with_bars: Annotated[bool, typer.Option("--with-bars", help="Delete all that is stored of them, too.")] = False,
) -> None:
    """Stop following symbols: no partitions, no runs. Their bars stay unless --with-bars is given."""
    from backfill_pipeline.defs.partitions import symbol_dimension

    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse, dagster_instance(environment) as instance:
        get_instruments(warehouse.conn, symbols)  # an unknown one stops the command before anything is removed
        for symbol in symbols:
            with warehouse.conn:
                deleted = remove_symbol(warehouse.conn, symbol, with_bars=with_bars)
            for chain in CHAINS:
                instance.delete_dynamic_partition(symbol_dimension(chain), symbol)
            rows = f", {counted(deleted, 'row')} deleted" if with_bars else "; its bars stay"
            out.print(f"{symbol}: no longer followed{rows}")


@app.command()
def rename(
    old: Annotated[str, typer.Argument(help="The symbol as it is followed.")],
    new: Annotated[str, typer.Argument(help="What the same instrument is called now.")],
    on: Annotated[str, typer.Option(help="The first day of the new name, as in 2022-06-09.")],
    provider: Annotated[
        str | None,
        typer.Option(help="The only one that still has older bars under the old name; default: every provider has."),
    ] = None,
) -> None:
    """The same instrument has a new name: its bars stay, its partitions are those of the new name."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse, dagster_instance(environment) as instance:
        providers = [p.name for p in warehouse.router.providers]
        wish = parse_rename(old, new, on, provider, providers=providers, today=warehouse.now().date())
        with warehouse.conn:
            state_rename(warehouse.conn, wish)
            _move_partitions(instance, old, new)  # before the commit: a killed rename is done by the same command
    out.print(f"{old} is {new} since {wish.on}; its bars stay")
    out.print(f"next: backfill run --symbols {new} --days 30 records what is complete under the new name")


def _move_partitions(instance: dg.DagsterInstance, old: str, new: str) -> None:
    from backfill_pipeline.defs.partitions import symbol_dimension

    for dimension in map(symbol_dimension, CHAINS):
        if old in instance.get_dynamic_partitions(dimension):
            instance.add_dynamic_partitions(dimension, [new])
            instance.delete_dynamic_partition(dimension, old)


@app.command()
def alias(
    symbol: Annotated[str, typer.Argument(help="The symbol as it is followed.")],
    provider: Annotated[str, typer.Option(help="Who spells it differently.")],
    ticker: Annotated[str, typer.Option(help="How: BRK.B for BRK/B.")],
    since: Annotated[str | None, typer.Option("--from", help="First day; default: always.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day, included; default: for good.")] = None,
) -> None:
    """One provider calls an instrument something else."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        providers = [p.name for p in warehouse.router.providers]
        wish = parse_alias(symbol, provider, ticker, since, until, providers=providers)
        with warehouse.conn:
            state_alias(warehouse.conn, wish)
    out.print(f"{provider} is asked for {symbol} as {ticker}")
