"""`backfill verify`: whether everything stored is what was written, and complete."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.steps.look import look
from backfill_pipeline.steps.looked import Looked

from .common import Json, counted, err, out, prepare_environment, print_json, settings_of_folder, split_list

# Findings that are printed; --json has all of them.
_MOST_LINES = 20
_MOST_COMMANDS = 5


def verify(
    symbols: Annotated[str | None, typer.Option(help="AAPL,IBM; default: every symbol that is followed.")] = None,
    json: Json = False,
) -> None:
    """Hold everything stored against what was written: rows deleted, added or edited by another hand, lost answers.

    Asks nobody. What is derived is made good at once; sessions whose own bars are in doubt lack them from then on,
    until the next run or night asks for them again.

    Exit code 0 only if everything was as it was written, and is complete.
    """
    began = time.monotonic()
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        looked = look(warehouse, symbols=None if symbols is None else split_list(symbols))
    if json:
        print_json(
            {
                "good": looked.good,
                **asdict(looked),
                "counts": looked.counts,
                "next": looked.commands,
                "seconds": round(time.monotonic() - began, 2),
            }
        )
    else:
        _tell(looked, time.monotonic() - began)
    if not looked.good:
        raise typer.Exit(1)


def _tell(looked: Looked, seconds: float) -> None:
    at = f"{counted(looked.sessions, 'session')} of {counted(looked.symbols, 'symbol')} in {seconds:.1f} s"
    if looked.good:
        out.print(f"looked at {at}: everything is as it was written, and complete")
        return
    found = ", ".join(f"{kind} {count:,}" for kind, count in looked.counts.items()) or "all as written"
    out.print(f"looked at {at}: {found}")
    for finding in looked.findings[:_MOST_LINES]:
        err.print(str(finding), style="red")
    if len(looked.findings) > _MOST_LINES:
        err.print(f"… and {len(looked.findings) - _MOST_LINES} more; all of them: backfill verify --json")
    if looked.lacking:
        lack, unseen = sum(one.sessions for one in looked.lacking), sum(one.unseen for one in looked.lacking)
        asked = f", of which nobody has looked at {unseen:,}" if unseen else ""
        err.print(f"{counted(lack, 'session')} {'lacks' if lack == 1 else 'lack'} bars{asked}; next:")
        for command in looked.commands[:_MOST_COMMANDS]:
            err.print(f"  {command}")
    if len(looked.commands) > _MOST_COMMANDS:
        err.print(f"  and {len(looked.commands) - _MOST_COMMANDS} more: backfill verify --json; or wait for the night")
