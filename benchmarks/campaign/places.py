"""What the parts have in common: a market, an installation of its own, what an undisturbed one ends in, and the verdict
of a round.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from backfill_pipeline_tests.killing import Installation, installation
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.tables import Tables, differences

from .commands import Command, end_commands

KEY = "planted-key-0123456789"
# Long over whenever this runs; a weekend in the middle.
DAYS = [date(2026, 7, 29) + timedelta(days=n) for n in range(8)]
PATIENCE = 900.0  # seconds; on a machine that does much else
SETTLES_WITHIN = 400.0


@dataclass
class Part:
    """What a part did, counted; and what was wrong afterwards, a line each."""

    name: str
    counted: Counter[str] = field(default_factory=Counter)
    measured: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def judge(
        self, place: Installation, clean: Tables, symbols: Sequence[str], what: str, *, settled: bool = True
    ) -> None:
        """Equal to a clean run, and nobody at work any more. `settled`: that what was killed must be told as ended."""
        found = [f"still there: {thing}" for thing in place.unfinished()] if settled else []
        found += differences(of_symbols(place.tables(), symbols), of_symbols(clean, symbols), most=3)
        self.note(found, what)

    def note(self, found: Sequence[str], what: str) -> None:
        self.counted["rounds"] += 1
        self.counted["rounds that differ"] += bool(found)
        self.wrong += [f"{what}: {line}" for line in found]
        print(f"  {self.name}, {what}: {'differs' if found else 'equal'}", flush=True)

    def settle(self, place: Installation) -> None:
        """Look at the jobs, as a person would, until none is said to be at work that is not: a run that was killed
        before it came to its bars is believed dead after 300 s.
        """
        began = time.monotonic()
        while (left := place.unfinished()) and time.monotonic() - began < SETTLES_WITHIN:
            time.sleep(5)
            place.shell.quick("jobs")
        what = "seconds until `backfill jobs` had told all as ended, at most"
        self.measured[what] = max(time.monotonic() - began, self.measured.get(what, 0.0))
        self.wrong += [f"still there: {thing}" for thing in left]

    def ended_well(self, command: Command, what: str) -> None:
        """Waits for a command that nobody disturbs."""
        if not command.ended(PATIENCE) or command.code:
            self.wrong.append(f"{what}: exit code {command.code}: {command.output[-2500:]}")


@contextmanager
def market(groups: Sequence[Sequence[str]], **options: Any) -> Iterator[StandIn]:
    """A provider that lists these symbols, so that days may be asked for by the market."""
    known = Market(symbols=tuple(symbol for group in groups for symbol in group))
    with StandIn(known, now=datetime(2026, 11, 1, tzinfo=UTC), keys=(KEY,), **options) as started:
        yield started


@contextmanager
def installed(standin: StandIn, symbols: Sequence[str], **more: str) -> Iterator[Installation]:
    """An installation that follows symbols, with minutes and days."""
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "BACKFILL_INTRADAY_START": "2026-07-01",
        "BACKFILL_DAILY_START": "2026-07-01",
        "BACKFILL_MIN_FREE_GB": "0",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
    }
    with installation(**variables | more) as place:
        try:
            added = Command(place.shell, "symbols", "add", *symbols, "--bars", "1m,1d")
            assert added.ended(PATIENCE), added.output
            assert added.code == 0, added.output
            yield place
        finally:
            end_commands(place.shell)


def command(
    symbols: Sequence[str], first: date = DAYS[0], last: date = DAYS[-1], timeframes: str = "1m,1d"
) -> list[str]:
    span = ["--start", str(first), "--end", str(last)]
    return ["run", "--symbols", ",".join(symbols), "--timeframes", timeframes, *span]


def undisturbed(standin: StandIn, groups: Sequence[Sequence[str]], timeframes: str = "1m,1d") -> Tables:
    """The tables of an installation whose one run was left alone."""
    symbols = [symbol for group in groups for symbol in group]
    with installed(standin, symbols) as place:
        ran = Command(place.shell, *command(symbols, timeframes=timeframes))
        assert ran.ended(PATIENCE), ran.output
        assert ran.code == 0, ran.output
        return place.tables()


def of_symbols(whole: Tables, symbols: Sequence[str]) -> Tables:
    return {name: [row for row in rows if row.split("\t", 1)[0] in symbols] for name, rows in whole.items()}


def groups_of(letter: str, count: int, size: int) -> list[list[str]]:
    """Symbols by round: KAA, KAB, ..."""
    return [[f"{letter}{chr(65 + n // 26)}{chr(65 + n % 26)}{chr(65 + i)}" for i in range(size)] for n in range(count)]
