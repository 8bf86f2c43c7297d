"""What people are told when nobody looks: a JSON object, for programs and for Slack alike. Pure; delivery.py sends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from backfill_pipeline.domain.timeframe import Base

Kind = Literal["run_failure", "backfill_completion", "digest", "test"]

# Slack shows some 4,000 characters of a text; a body stays below 16 kB.
_MOST_TEXT = 3000
_MOST_LISTED = 50
_LONGEST_LINE = 400
_LONGEST_NAME = 80
# A command that names more symbols reads worse than one for all that are followed.
_MOST_NAMED = 20


@dataclass(frozen=True)
class Message:
    """`lines`: after the title, the weightiest first. `failed`: partition keys. `command`: what repairs, or empty."""

    kind: Kind
    title: str
    lines: tuple[str, ...]
    at: datetime
    command: str = ""
    run_id: str | None = None
    backfill_id: str | None = None
    symbols: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def body(self) -> str:
        """JSON. Lists are cut at 50 and counted; `text` is cut at 3,000 characters, whatever it is made of, and is
        escaped for Slack: a symbol calls nobody and links nowhere.
        """
        return json.dumps(
            {
                "kind": self.kind,
                "title": _plain(self.title, _LONGEST_LINE),
                "text": self._text(),
                "mrkdwn": False,
                "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
                "run_id": self.run_id,
                "backfill_id": self.backfill_id,
                "symbols": _listed(self.symbols),
                "symbols_count": len(self.symbols),
                "failed": _listed(self.failed),
                "failed_count": len(self.failed),
                "command": self.command,
            },
            ensure_ascii=False,
        )

    def _text(self) -> str:
        ends = [_escaped(f"repair: {self.command}", _MOST_TEXT // 2)] if self.command else []
        told = [_escaped(self.title, _LONGEST_LINE)]
        room = _MOST_TEXT - sum(len(line) + 1 for line in (*told, *ends)) - len("… and 1,000,000 more lines")
        for number, line in enumerate(self.lines):
            escaped = _escaped(line, _LONGEST_LINE)
            room -= len(escaped) + 1
            if room < 0:
                told.append(f"… and {len(self.lines) - number:,} more lines")
                break
            told.append(escaped)
        return "\n".join([*told, *ends])


def _plain(text: str, most: int) -> str:
    """One line of printable characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _escaped(text: str, most: int) -> str:
    # The three characters that Slack gives a meaning to in texts that are not marked up.
    return _plain(text, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _listed(names: Sequence[str]) -> list[str]:
    return [_plain(name, _LONGEST_NAME) for name in names[:_MOST_LISTED]]


def run_command(symbols: Collection[str], bases: Collection[Base], first: date, last: date) -> str:
    """What a person types to have these sessions asked for again, both days included. More than 20 symbols: for all
    that are followed.
    """
    named = sorted(symbols)
    only = f" --symbols {shlex.quote(','.join(named))}" if len(named) <= _MOST_NAMED else ""
    return f"backfill run{only} --timeframes {','.join(sorted(bases, reverse=True))} --start {first} --end {last}"
