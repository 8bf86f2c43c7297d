"""Hosts made of network namespaces on one bridge: processes of one see only its own network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

HUB = "bfhub"
HUB_ADDRESS = "10.77.0.1"
HOSTS = {"bfone": "10.77.0.11", "bftwo": "10.77.0.12"}
_BRIDGE = "bfbridge"


def ip(*words: str, inside: str | None = None) -> None:
    subprocess.run(["ip", *(["-n", inside] if inside else []), *words], check=True)


@contextmanager
def network() -> Iterator[None]:
    """A namespace with a bridge, and one for each host, joined to it by a pair of virtual cards."""
    names = [HUB, *HOSTS]
    _remove(names)  # of a run that was killed
    try:
        for name in names:
            ip("netns", "add", name)
            ip("link", "set", "lo", "up", inside=name)
        ip("link", "add", "name", _BRIDGE, "type", "bridge", inside=HUB)
        ip("address", "add", f"{HUB_ADDRESS}/24", "dev", _BRIDGE, inside=HUB)
        ip("link", "set", _BRIDGE, "up", inside=HUB)
        for name, address in HOSTS.items():
            ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", name, "netns", HUB)
            ip("address", "add", f"{address}/24", "dev", "eth0", inside=name)
            ip("link", "set", "eth0", "up", inside=name)
            ip("link", "set", name, "master", _BRIDGE, "up", inside=HUB)
        yield
    finally:
        _remove(names)


def _remove(names: Sequence[str]) -> None:
    for name in names:
        for process in processes_of(name):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def processes_of(name: str) -> list[psutil.Process]:
    """Every process of a namespace, whoever started it."""
    told = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    found = []
    for pid in told.stdout.split():
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


@dataclass
class Host:
    """A machine with `backfill worker` on it."""

    name: str
    folder: Path
    worker: psutil.Popen | None = None

    def start(self, variables: Mapping[str, str], *options: str) -> None:
        """As a person does there, with a home of its own."""
        home = self.folder / self.name
        with (self.folder / f"{self.name}.log").open("ab") as log:
            command = [str(Path(sys.executable).parent / "backfill"), "worker", *options]
            self.worker = psutil.Popen(
                ["ip", "netns", "exec", self.name, *command],
                cwd=self.folder,
                env={**variables, "BACKFILL_HOME": str(home), "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """As when the power goes."""
        for process in processes_of(self.name):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.worker is not None:
            self.worker.wait(20)

    def cut_off(self) -> None:
        ip("link", "set", "eth0", "down", inside=self.name)

    def join_again(self) -> None:
        ip("link", "set", "eth0", "up", inside=self.name)


def within_hub(arguments: Sequence[str]) -> int:
    """This module's main again, in the hub's namespace."""
    command = ["ip", "netns", "exec", HUB, sys.executable, "-m", "benchmarks.distributed", *arguments]
    return subprocess.run(command, check=False, env={**os.environ}).returncode
