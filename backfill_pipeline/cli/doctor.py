"""`backfill doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from dotenv import dotenv_values

from backfill_pipeline.defs.resources import utc_now
from backfill_pipeline.providers.configured import chosen_names
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.settings import Settings, SettingsError
from backfill_pipeline.steps.budgets import shared_budgets
from backfill_pipeline.steps.diagnosis import (
    Check,
    check_calendars,
    check_clock,
    check_database,
    check_disks,
    from_error,
)
from backfill_pipeline.steps.notification_checks import check_notifications
from backfill_pipeline.steps.plugin_checks import check_plugins
from backfill_pipeline.steps.provider_checks import check_files, check_providers
from backfill_pipeline.storage.budget import OwnConnection
from backfill_pipeline.storage.connection import DatabaseError, connect, place
from backfill_pipeline.storage.migrations import MigrationError
from backfill_pipeline.storage.server import ServerError

from .common import (
    Environment,
    Json,
    counted,
    dagster_instance,
    out,
    prepare_environment,
    print_json,
    settings_of_folder,
)

if TYPE_CHECKING:
    import dagster as dg

_STYLES = {"ok": None, "warning": "yellow", "problem": "red"}
# Loads the definitions as Dagster's own processes do. It takes some three seconds.
_LOAD = "import dagster as dg; from backfill_pipeline.definitions import defs; dg.Definitions.validate_loadable(defs)"
_LOAD_SECONDS = 60


def doctor(
    json: Json = False,
    notify: Annotated[bool, typer.Option("--notify", help="Send a test message, and a heartbeat.")] = False,
) -> None:
    """Check settings, providers, database, disk, clock and Dagster, with at most one request to each provider.

    Exit code 0 if nothing is a problem; a warning is none.
    """
    found = []
    for check in _checks(notify=notify):
        found.append(check)
        if not json:
            _show(check)
    counts = Counter(check.status for check in found)
    if json:
        print_json([asdict(check) for check in found])
    else:
        words = [counted(counts[status], status) for status in ("problem", "warning") if counts[status]]
        out.print(", ".join(words) or "everything is well")
    if counts["problem"]:
        raise typer.Exit(1)


def _show(check: Check) -> None:
    """A line each, however long, so that it can be searched for and copied."""
    step = f"; next: {check.next_step}" if check.next_step else ""
    out.print(f"{check.status:8} {check.check:10} {check.detail}{step}", style=_STYLES[check.status])


def _checks(*, notify: bool) -> Iterator[Check]:
    try:
        settings = settings_of_folder()
        names = chosen_names(settings)
    except (SettingsError, ProviderStopped) as error:
        yield from_error("settings", error, "correct it in the environment or in the .env of this folder")
        return
    yield _check_settings(settings, names)
    yield check_notifications(settings.webhook_url, settings.heartbeat_url, utc_now(), test=notify)
    try:
        environment = prepare_environment(settings)
    except (DatabaseError, MigrationError, ServerError) as error:
        yield from_error("database", error, "backfill db start")
        yield Check("the rest", "warning", "not checked: it needs the database", "backfill doctor, once that works")
        return
    loading = _start_loading(environment)
    with closing(OwnConnection(environment.databases.market_url)) as own:
        try:
            # Binance, which comes with `auto` for nothing, is no concern of who follows no crypto.
            shared = {name: of for name, of in shared_budgets(settings, own).items() if name in names}
        except ProviderStopped as error:
            yield from_error("providers", error, "correct it in the environment or in the .env of this folder")
            shared = {}
        answers = check_providers(settings, shared, utc_now())
        home = environment.databases.home
        yield from check_disks([home, home / "postgres" / "data"], settings.min_free_gb)
        yield from _check_database(environment)
        yield from answers()
    yield from check_plugins(names)
    if settings.files is not None:
        yield check_files(settings.files, utc_now())
    yield _check_loading(loading)
    with dagster_instance(environment) as instance:
        yield check_daemon(instance)


def _check_settings(settings: Settings, names: tuple[str, ...]) -> Check:
    keys = {"POLYGON_API_KEY": settings.polygon_api_key, "TRADIER_TOKEN": settings.tradier_token}
    told = ", ".join(f"{variable} is {'set' if secret else 'not set'}" for variable, secret in keys.items())
    file = "with the .env of this folder" if Path(".env").exists() else "no .env in this folder"
    detail = f"bars come from {', '.join(names)} (BACKFILL_PROVIDER={settings.provider}); {told}; {file}"
    if settings.provider == "auto" and names == ("sample",):
        return Check("settings", "warning", detail, "set POLYGON_API_KEY for other bars than the sample's")
    return Check("settings", "ok", detail)


def _check_database(environment: Environment) -> Iterator[Check]:
    databases = environment.databases
    where = f"embedded, {databases.home}" if databases.embedded else place(databases.market_url).partition(" at ")[2]
    with closing(connect(databases.market_url)) as conn:
        yield from check_database(conn, where)
        yield check_clock(conn, utc_now)
        yield check_calendars(conn, utc_now().date())


def _start_loading(environment: Environment) -> subprocess.Popen[str]:
    own = {name: value for name, value in dotenv_values(".env").items() if value}
    return subprocess.Popen(  # noqa: S603  (our own program)
        [sys.executable, "-W", "ignore", "-c", _LOAD],
        cwd=environment.variables["DAGSTER_HOME"],
        env={**own, **os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _check_loading(loading: subprocess.Popen[str]) -> Check:
    try:
        _, told = loading.communicate(timeout=_LOAD_SECONDS)
    except subprocess.TimeoutExpired:
        loading.kill()
        loading.communicate()
        told = f"nothing within {_LOAD_SECONDS} s"
    if loading.returncode == 0:
        return Check("dagster", "ok", "the code location backfill_pipeline.definitions loads")
    reason = (told.strip().splitlines() or ["no reason given"])[-1].rpartition("Error: ")[2]
    detail = f"backfill_pipeline.definitions does not load: {reason}"
    return Check("dagster", "problem", detail, "correct that; if it is no setting, install the package anew")


def check_daemon(instance: dg.DagsterInstance) -> Check:
    """Schedules, sensors and what the UI launches need it; `backfill run` does not."""
    daemons = instance.get_daemon_statuses()
    beats = [daemon.last_heartbeat for daemon in daemons.values() if daemon.last_heartbeat is not None]
    errors = [beat.errors[0].message.strip().splitlines()[0] for beat in beats if beat.errors]
    dead = sorted(name for name, daemon in daemons.items() if not daemon.healthy)
    if dead:
        parts = "" if len(dead) == len(daemons) else f" all of its parts ({' '.join(dead)} missing)"
        last = max((beat.timestamp for beat in beats), default=None)
        seen = "" if last is None else f" (last seen {datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC)"
        detail = f"Dagster's daemon does not run{parts}{seen}: no schedules, sensors or backfills of the UI"
        return Check("daemon", "warning", detail, "backfill ui starts it; backfill run works without")
    if errors:
        return Check("daemon", "problem", f"Dagster's daemon has errors: {errors[0]}", "see its log; start it again")
    return Check("daemon", "ok", "Dagster's daemon runs: schedules, sensors and the UI's backfills are worked on")
