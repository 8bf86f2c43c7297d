"""Several doors at once on the same symbols: three `backfill run` of overlapping ranges, a Dagster job, a repair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

from backfill_pipeline_tests.killing import Installation

from .commands import Command
from .places import DAYS, Part, command, groups_of, installed, market, undisturbed


def run(rounds: int, seed: int) -> Part:
    part, chance = Part("overlap"), Random(f"overlap {seed}")
    groups = groups_of("O", rounds, 3)
    with market(groups) as standin:
        clean = undisturbed(standin, groups)
        standin.set(latency_seconds=0.3)
        with installed(standin, [symbol for group in groups for symbol in group]) as place:
            for number, group in enumerate(groups):
                standin.service.journal.clear()
                doors = _doors(place, group, chance)
                for name, process in doors:
                    part.ended_well(process, f"round {number}, {name}")
                part.counted["doors"] += len(doors)
                asked = [seen.path for seen in standin.requests if "/aggs/" in seen.path]
                part.counted["requests for bars"] += len(asked)
                part.counted["of them made twice"] += len(asked) - len({*asked})
                part.judge(place, clean, group, f"round {number}")
    return part


def _doors(place: Installation, group: Sequence[str], chance: Random) -> list[tuple[str, Command]]:
    """Started together: two ranges that overlap and cover all days, one inside, and the job over all of them."""
    low, high = sorted(chance.sample(range(1, len(DAYS) - 1), 2))
    inner = sorted(chance.sample(range(len(DAYS)), 2))
    ranges = [(DAYS[0], DAYS[high]), (DAYS[low], DAYS[-1]), (DAYS[inner[0]], DAYS[inner[1]])]
    doors = [("backfill run", Command(place.shell, *command(group, *between))) for between in ranges]
    config: dict[str, object] = {
        "symbols": [*group],
        "timeframes": ["1m", "1d"],
        "start": str(DAYS[0]),
        "end": str(DAYS[-1]),
    }
    doors += [(name, _job(place, name, config)) for name in ("master_backfill", "repair_gaps")]
    chance.shuffle(doors)
    return doors


def _job(place: Installation, name: str, config: dict[str, object]) -> Command:
    """`dagster job execute`, as after `eval "$(backfill env)"`."""
    file = place.shell.folder / f"{name}.yaml"
    file.write_text(json.dumps({"ops": {name: {"config": config}}}), encoding="utf-8")
    lines = place.shell.quick("env").stdout.splitlines()
    exports = dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in lines)
    words = ("job", "execute", "-m", "backfill_pipeline.definitions", "-j", name, "-c", str(file))
    return Command(place.shell, *words, program="dagster", **exports)
