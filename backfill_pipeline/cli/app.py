"""The commands, put together."""

from __future__ import annotations

import typer

from . import database, symbols
from .budget import pause, resume
from .coverage import coverage
from .demo import demo
from .doctor import doctor
from .explain import explain
from .matrix import matrix
from .plan import plan
from .rebuild import rebuild
from .run import run
from .ui import ui

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
app.command()(matrix)
app.command()(coverage)
app.command()(explain)
app.command()(rebuild)
app.command()(doctor)
app.command()(pause)
app.command()(resume)
app.command()(ui)
app.command()(database.env)
app.add_typer(symbols.app, name="symbols")
app.add_typer(database.app, name="db")
