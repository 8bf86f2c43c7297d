"""The commands, put together."""

from __future__ import annotations

import typer

from backfill_pipeline.domain.sessions import UnknownCalendarError
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.settings import SettingsError
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.storage.connection import DatabaseError
from backfill_pipeline.storage.migrations import MigrationError
from backfill_pipeline.storage.server import ServerError
from backfill_pipeline.storage.symbols import UnknownSymbolError

from . import database, symbols
from .common import CommandError
from .demo import demo
from .matrix import matrix
from .run import run
from .ui import ui

USER_ERRORS = (
    CommandError,
    DatabaseError,
    MigrationError,
    ProviderError,
    RequestError,
    ServerError,
    SettingsError,
    UnknownCalendarError,
    UnknownSymbolError,
)

app = typer.Typer(
    help="Complete OHLCV history of the symbols you follow, in your own PostgreSQL.\n\n"
    "Start with: backfill demo; then: backfill symbols add AAPL, backfill run --days 30, backfill matrix.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(run)
app.command()(matrix)
app.command()(ui)
app.command()(database.env)
app.add_typer(symbols.app, name="symbols")
app.add_typer(database.app, name="db")
