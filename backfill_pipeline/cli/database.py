"""`backfill db …` and `backfill env`."""

from __future__ import annotations

import shlex

import typer

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.databases import open_databases
from backfill_pipeline.storage.server import reachable_home
from backfill_pipeline.storage.server import status as server_status
from backfill_pipeline.storage.server import stop as stop_server

from . import move, roles, size
from .common import CommandError, Json, err, out, prepare_environment, print_json, settings_of_folder

app = typer.Typer(help="The PostgreSQL that holds the bars: DATABASE_URL, or an embedded server.", no_args_is_help=True)
app.command()(size.size)
app.command("move-to")(move.move_to)
app.command()(roles.roles)


@app.command()
def start() -> None:
    """Start the embedded server if it is not running, and bring the tables up to date."""
    databases = open_databases(settings_of_folder())
    if databases.notice:
        err.print(databases.notice)
    what = "the embedded server" if databases.embedded else "the server of DATABASE_URL"
    out.print(f"{what} is up; next: backfill symbols add AAPL")


@app.command()
def stop() -> None:
    """Stop the embedded server; the data stay."""
    settings = settings_of_folder()
    if settings.database_url is not None:
        raise CommandError(
            "DATABASE_URL is set: its server is not this project's to stop; unset it for the embedded one"
        )
    home, _ = reachable_home(settings.home)
    out.print("stopped" if stop_server(home) else "it was not running")


@app.command()
def status(json: Json = False) -> None:
    """Whether the server runs, and where."""
    settings = settings_of_folder()
    home, _ = reachable_home(settings.home)
    if settings.database_url is not None:
        connect(settings.database_url).close()
        told = {"embedded": False, "running": True, "home": str(home)}
    else:
        found = server_status(home)
        told = {"embedded": True, "running": found.state == "running", "home": str(home)}
    if json:
        print_json(told)
    else:
        kind = "embedded server" if told["embedded"] else "server of DATABASE_URL"
        out.print(f"{kind}: {'running' if told['running'] else 'not running'}; home {told['home']}")


@app.command()
def url() -> None:
    """The connection URL, for psql and notebooks; starts the server if it is not up."""
    out.print(prepare_environment(settings_of_folder()).databases.market_url)


@app.command()
def migrate() -> None:
    """Bring the tables up to date; every other command does so by itself."""
    open_databases(settings_of_folder())
    out.print("the tables are up to date")


def env() -> None:
    """Print the exports that a bare `dagster …` command needs: eval "$(backfill env)"."""
    for name, value in prepare_environment(settings_of_folder()).variables.items():
        out.print(f"export {name}={shlex.quote(value)}")
