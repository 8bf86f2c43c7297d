"""The commands, put together."""

from __future__ import annotations

import typer

from . import calendar, database, gaps, symbols
from .budget import pause, resume
from .coverage import coverage
from .demo import demo
from .doctor import doctor
from .explain import explain
from .exporting import export
from .importing import import_
from .matrix import matrix
from .plan import plan
from .rebuild import rebuild
from .reconcile import reconcile
from .run import run
from .status import jobs, status
from .ui import ui
from .verify import verify
from .worker import worker

app = typer.Typer(
    help="Complete OHLCV history of the symbols you follow, in your own PostgreSQL.\n\n"
    "Start with: backfill demo; then: backfill symbols add AAPL, backfill run --days 30, backfill matrix.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(plan)
app.command()(run)
app.command()(status)
app.command()(jobs)
app.command()(matrix)
app.command()(coverage)
app.command()(explain)
app.command()(rebuild)
app.command()(verify)
app.command()(reconcile)
app.command("import")(import_)
app.command()(export)
app.command()(doctor)
app.command()(pause)
app.command()(resume)
app.command()(ui)
app.command()(worker)
app.command()(database.env)
app.add_typer(symbols.app, name="symbols")
app.add_typer(gaps.app, name="gaps")
app.add_typer(calendar.app, name="calendar")
app.add_typer(database.app, name="db")
