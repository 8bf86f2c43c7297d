"""`backfill demo`: real bars through the whole pipeline, without a key, a server or a network."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.providers.sample import DAILY_SYMBOLS, FIRST_DAY, FIRST_MINUTES, LAST_DAY, LAST_WHOLE_MINUTES
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.register import parse_registration

from .common import Environment, dagster_instance, out, prepare_environment
from .matrix import completeness, show_matrix
from .run import backfill, tell

HOME = Path(".backfill/demo")


def demo_settings() -> Settings:
    """The demonstration's own home and provider and every default, whatever the environment or a .env file says."""
    return Settings.model_construct(home=HOME.absolute(), provider="sample")


def demo(
    ui: Annotated[bool, typer.Option("--ui", help="Open Dagster's UI on the demonstration instead.")] = False,
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000,
) -> None:
    """Run the whole pipeline on real sample bars, in a home of its own: .backfill/demo."""
    from .ui import serve

    environment = prepare_environment(demo_settings())
    os.chdir(environment.databases.home)  # Dagster's code location reads the .env of the folder it is loaded in
    if ui:
        serve(environment, port)
        return
    _register(environment)
    out.print(f"AAPL minutes of {FIRST_MINUTES} to {LAST_WHOLE_MINUTES} …")
    good = _run(environment, ["AAPL"], ["1m"], FIRST_MINUTES, LAST_WHOLE_MINUTES)
    out.print(f"{', '.join(DAILY_SYMBOLS)} days of {FIRST_DAY} to {LAST_DAY} …")
    good = _run(environment, list(DAILY_SYMBOLS), ["1d"], FIRST_DAY, LAST_DAY) and good
    out.print()
    _summary(environment)
    out.print()
    show_matrix(completeness(environment))
    out.print(
        "next: make ui    Dagster's UI on these bars: http://127.0.0.1:3000\n"
        '      psql "$(BACKFILL_HOME=.backfill/demo .venv/bin/backfill db url)" -c "TABLE market_data LIMIT 5"\n'
        "      .venv/bin/backfill symbols add AAPL    a warehouse of your own"
    )
    if not good:
        raise typer.Exit(1)


def _register(environment: Environment) -> None:
    from backfill_pipeline.defs.jobs import register_everywhere

    pipeline = Pipeline(environment.settings)
    with pipeline.open() as warehouse, dagster_instance(environment) as instance:
        for symbols, bars in ((["AAPL"], ["1m", "1d"]), (list(DAILY_SYMBOLS), ["1d"])):
            registration = parse_registration(
                symbols, asset_class="stock", calendar="XNYS", bars=bars, since=None, today=warehouse.now().date()
            )
            register_everywhere(instance, warehouse, registration)


def _run(environment: Environment, symbols: list[str], timeframes: list[str], first: date, last: date) -> bool:
    report = backfill(environment, symbols=symbols, timeframes=timeframes, days=None, start=str(first), end=str(last))
    tell(report)
    return report.good


def _summary(environment: Environment) -> None:
    with Pipeline(environment.settings).open() as warehouse, warehouse.conn.cursor() as cursor:
        cursor.execute(
            "SELECT timeframe::text, count(DISTINCT symbol_id), count(*), min(session), max(session),"
            " count(*) FILTER (WHERE final) FROM bars GROUP BY timeframe ORDER BY bars.timeframe"
        )
        rows = cursor.fetchall()
    table = Table("timeframe", title="stored", title_justify="left")
    for name in ("symbols", "bars", "from", "to", "final"):
        table.add_column(name, justify="right")
    for timeframe, symbols, bars, first, last, final in rows:
        table.add_row(timeframe, str(symbols), f"{bars:,}", str(first), str(last), f"{final:,}")
    out.print(table)
