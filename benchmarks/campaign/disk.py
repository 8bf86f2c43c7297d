"""Disks: a floor that is raised in the middle of a run and lowered again, and one that really is full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from backfill_pipeline_tests.killing import Installation
from backfill_pipeline_tests.shell import reachable_folder
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.tables import Tables

from .commands import Command
from .places import DAYS, PATIENCE, Part, command, groups_of, installed, market, undisturbed

MB = 1_000_000
LARGE_MB = 1500


def run(rounds: int, seed: int) -> Part:
    part, chance = Part("disk"), Random(f"disk {seed}")
    groups = groups_of("D", rounds, 6)
    with market(groups) as standin:
        clean = undisturbed(standin, groups)
        with installed(standin, [symbol for group in groups for symbol in group]) as place:
            for number, group in enumerate(groups):
                _floor(part, place, group, clean, chance, f"round {number}, the floor")
        if reason := _no_mounts():
            part.counted[f"full disks: skipped, {reason}"] = 0
            return part
        for number, group in enumerate(groups):
            _full(part, standin, group, clean, chance, f"round {number}, the full disk")
    return part


def _floor(part: Part, place: Installation, group: list[str], clean: Tables, chance: Random, what: str) -> None:
    """The first days; then a floor that no disk is above; then none."""
    part.ended_well(Command(place.shell, *command(group, DAYS[0], chance.choice(DAYS[1:-1]))), what)
    stored = place.bars()
    refused = Command(place.shell, *command(group), BACKFILL_MIN_FREE_GB="1e9")
    part.counted["floors raised"] += 1
    if not refused.ended(PATIENCE) or not refused.code or _lines(refused) != 1 or place.bars() != stored:
        part.wrong.append(f"{what}: below the floor: {refused.output}")
    part.ended_well(Command(place.shell, *command(group)), what)
    part.judge(place, clean, group, what)


def _full(part: Part, standin: StandIn, group: list[str], clean: Tables, chance: Random, what: str) -> None:
    """A home on a disk that has room for a part of the work, without any floor; then the disk grows."""
    with _small_disk() as (folder, grow), installed(standin, group, BACKFILL_HOME=str(folder / "home")) as place:
        room = chance.randint(1, 24)
        grow((shutil.disk_usage(folder).used // MB) + room)
        full = Command(place.shell, *command(group))
        full.ended(PATIENCE)
        part.counted["full disks"] += full.code != 0
        if "Traceback" in full.output:
            part.wrong.append(f"{what}: {full.output[-1500:]}")
        grow(LARGE_MB)
        part.ended_well(Command(place.shell, *command(group)), what)
        part.judge(place, clean, group, f"{what} ({room} MB of room)", settled=False)
        part.settle(place)


@contextmanager
def _small_disk() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A file system in memory, and what makes it as large as so many MB."""

    def grow(megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes * MB}", str(disk)], check=True)

    with reachable_folder() as folder:
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0755,size={LARGE_MB * MB}", "none", str(disk)], check=True)
        try:
            yield disk, grow
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _lines(command: Command) -> int:
    """Of its output, without those of progress."""
    return len([line for line in command.output.splitlines() if " of " not in line or "free" in line])


def _no_mounts() -> str:
    """Why no file system can be mounted here, or nothing."""
    if os.geteuid():
        return "only root may mount a small one"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return tried.stderr.decode().strip() if tried.returncode else ""
