"""What the commands share: settings, the prepared environment of Dagster, output, and errors in one line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backfill_pipeline.database_urls import sqlalchemy_url
from backfill_pipeline.settings import Settings, load_settings
from backfill_pipeline.steps.grains import changed_grains
from backfill_pipeline.storage.databases import Databases, connect, open_databases
from backfill_pipeline.storage.stamps import read_stamp

from .dagster_home import dagster_home

if TYPE_CHECKING:
    import dagster as dg

# Where there is no terminal to ask: a file or a pipe has no right edge, and a table that is cut tells lies.
_COLUMNS = None if sys.stdout.isatty() else 400
# Texts hold symbols and URLs: no [markup] and no :emoji: is read in them.
_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
out = Console(width=_COLUMNS, **_PLAIN)
err = Console(stderr=True, **_PLAIN)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class CommandError(Exception):
    """One line for the user; the command ends with exit code 1."""


@dataclass(frozen=True)
class Environment:
    """An open pair of databases and the variables that Dagster's own commands need."""

    settings: Settings
    databases: Databases
    variables: dict[str, str]


def settings_of_folder() -> Settings:
    """The settings, a `.env` in the working folder included."""
    return load_settings(Path(".env"))


def prepare_environment(settings: Settings) -> Environment:
    """Start or reach the databases, lay out Dagster's home, and set the variables in this process too."""
    databases = open_databases(settings)
    if databases.notice:
        err.print(databases.notice)
    variables = {
        "BACKFILL_HOME": str(databases.home),
        "BACKFILL_PROVIDER": settings.provider,
        "BACKFILL_INTRADAY_START": settings.intraday_start.isoformat(),
        "BACKFILL_DAILY_START": settings.daily_start.isoformat(),
        "BACKFILL_INTRADAY_GRAIN": settings.intraday_grain,
        "BACKFILL_DAILY_GRAIN": settings.daily_grain,
        "DAGSTER_HOME": str(dagster_home(databases.home, settings)),
        "DAGSTER_DATABASE_URL": sqlalchemy_url(databases.dagster_url),
    }
    if settings.broker is not None:
        variables["BACKFILL_BROKER"] = settings.broker.get_secret_value()
    if databases.embedded:
        os.environ.pop("DATABASE_URL", None)  # the demonstration has its own, whatever the environment says
    else:
        variables["DATABASE_URL"] = databases.market_url
    os.environ.update(variables)
    for line in _changed_grains(settings, databases):
        err.print(line)
    return Environment(settings, databases, variables)


def _changed_grains(settings: Settings, databases: Databases) -> list[str]:
    with closing(connect(databases.market_url)) as conn:
        known = read_stamp(conn)
    return [] if known is None else changed_grains(known, settings.intraday_grain, settings.daily_grain)


@contextmanager
def dagster_instance(environment: Environment) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of the prepared environment."""
    import dagster as dg

    with dg.DagsterInstance.from_config(environment.variables["DAGSTER_HOME"]) as instance:
        yield instance


def split_list(text: str) -> list[str]:
    """The parts of a list such as `AAPL, IBM`; empty ones are dropped."""
    return [part.strip() for part in text.split(",") if part.strip()]


def counted(number: int, thing: str) -> str:
    """`1 request`, `2 requests`, `12,345 bars`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def print_json(value: Any) -> None:
    out.print_json(json.dumps(value, default=str))
