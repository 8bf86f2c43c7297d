"""`python -m benchmarks.campaign [--rounds N] [--seed S] [--only kills,faults,...]`: the kill and fault campaign.
Prints its figures; exit code 1 if after any round the tables are not those of a clean run, or anything is stuck.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.ending import end_on_sigterm

from . import budget, disk, faults, kills, overlap, simulated
from .places import Part

# By name: the part, and how many rounds of it one round of the campaign is.
PARTS: dict[str, list[tuple[Callable[[int, int], Part], float]]] = {
    "kills": [(kills.work, 1.5), (kills.run, 0.5), (kills.strikes, 7 / 12)],
    "faults": [(faults.run, 0.75)],
    "overlap": [(overlap.run, 0.25)],
    "disk": [(disk.run, 1 / 12)],
    "clock": [(simulated.clock, 0.5)],
    "budget": [(budget.run, 0.1)],
    "nights": [(simulated.nights, 0.1)],
}


def campaign(names: Sequence[str], rounds: int, seed: int) -> list[Part]:
    done = []
    for name in names:
        for run, share in PARTS[name]:
            began = time.monotonic()
            try:
                part = run(max(1, round(rounds * share)), seed)
            except Exception:  # noqa: BLE001  (one part's failure is told and does not hide the others' figures)
                part = Part(name, wrong=[traceback.format_exc()])
            part.measured["seconds"] = time.monotonic() - began
            done.append(part)
            print(f"{part.name}: {dict(part.counted)}, {len(part.wrong)} wrong", flush=True)
    return done


def show(parts: Sequence[Part]) -> None:
    table = Table("part", "figure", "")
    for part in parts:
        figures = {**part.counted, **{name: round(value, 2) for name, value in part.measured.items()}}
        for number, (name, value) in enumerate(figures.items()):
            table.add_row("" if number else part.name, name, str(value))
    Console(width=100).print(table)
    for part in parts:
        for line in part.wrong:
            print(f"WRONG {part.name}: {line}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS), help="of these, with commas: %(default)s")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    end_on_sigterm()
    done = campaign(names, arguments.rounds, arguments.seed)
    show(done)
    return int(any(part.wrong for part in done))


if __name__ == "__main__":
    sys.exit(main())
