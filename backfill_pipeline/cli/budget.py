"""`backfill pause` and `backfill resume`: whether requests are handed out, to all processes on all machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

import typer

from backfill_pipeline.steps.budgets import shared_budgets
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget

from .common import CommandError, Json, counted, out, prepare_environment, print_json, settings_of_folder

Provider = Annotated[str | None, typer.Option(help="Only this one; default: every provider of the settings.")]


@dataclass(frozen=True)
class Handing:
    """`waiting`: requests of all processes that stand in line now. `changed`: whether this command did it."""

    provider: str
    paused_since: datetime | None
    waiting: int
    changed: bool


def pause(provider: Provider = None, json: Json = False) -> None:
    """Send no more requests, from any process, until `backfill resume`. What is on its way still comes in."""
    done = []
    with _chosen(provider) as budgets:
        for name, budget in budgets.items():
            before = budget.state()
            budget.pause()
            done.append(_handing(name, budget, changed=before.paused_at is None))
    if json:
        print_json([asdict(handing) for handing in done])
        return
    for handing in done:
        word = "paused" if handing.changed else "was paused already,"
        out.print(f"{handing.provider}: {word} since {handing.paused_since:%Y-%m-%d %H:%M:%S} UTC; {_line_of(handing)}")
    out.print("next: backfill resume")


def resume(provider: Provider = None, json: Json = False) -> None:
    """Send requests again; runs that were waiting go on within a second or two."""
    done, since = [], {}
    with _chosen(provider) as budgets:
        for name, budget in budgets.items():
            since[name] = budget.state().paused_at
            budget.resume()
            done.append(_handing(name, budget, changed=since[name] is not None))
    if json:
        print_json([asdict(handing) for handing in done])
        return
    for handing in done:
        was = since[handing.provider]
        word = "was not paused" if was is None else f"goes on, paused since {was:%Y-%m-%d %H:%M:%S} UTC"
        out.print(f"{handing.provider}: {word}; {_line_of(handing)}")


@contextmanager
def _chosen(name: str | None) -> Iterator[dict[str, PostgresBudget]]:
    """The budgets to change. Raises one-line errors."""
    environment = prepare_environment(settings_of_folder())
    with closing(OwnConnection(environment.databases.market_url)) as own:
        budgets = {name: shared.budget for name, shared in shared_budgets(environment.settings, own).items()}
        if not budgets:
            raise CommandError(
                f"BACKFILL_PROVIDER={environment.settings.provider} sends no requests from here: there is nothing to"
                " pause; is the key set in this folder?"
            )
        if name is not None and name not in budgets:
            raise CommandError(f"provider {name} is none of the settings'; use one of {', '.join(budgets)}")
        yield budgets if name is None else {name: budgets[name]}


def _handing(name: str, budget: PostgresBudget, *, changed: bool) -> Handing:
    state = budget.state()
    return Handing(name, state.paused_at, sum(state.waiting.values()), changed)


def _line_of(handing: Handing) -> str:
    return f"{counted(handing.waiting, 'request')} {'waits' if handing.waiting == 1 else 'wait'}"
