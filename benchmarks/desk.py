"""A shell with databases of its own on an embedded server, Dagster's UI on it, and what all of it costs in CPU."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from backfill_pipeline.storage.server import ensure_running, stop
from backfill_pipeline_tests.cli.test_ui import free_port, wait_for
from backfill_pipeline_tests.shell import Shell, shell


@contextmanager
def desk(**variables: str) -> Iterator[Shell]:
    """A shell with synthetic bars on an empty server, with fsync on as for a user; gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="backfill-bench-"))
    home.chmod(0o711)  # the server's own user must reach it when root runs this
    try:
        with shell(ensure_running(home), BACKFILL_PROVIDER="synthetic", **variables) as made:
            yield made
    finally:
        stop(home)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def ui(made: Shell) -> Iterator[tuple[int, int]]:
    """Webserver and daemon; their port, and the id of the process that keeps both."""
    port = free_port()
    running = made.start("ui", "--port", str(port))
    try:
        wait_for(port, running)
        yield port, running.pid
    finally:
        os.killpg(running.pid, signal.SIGINT)
        try:
            running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise


def ask(port: int, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """The data of a GraphQL answer, however long it takes. AssertionError with the errors, if there are any."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query, "variables": variables or {}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        told = json.load(answer)
    assert "errors" not in told, told["errors"][:3]
    data: dict[str, Any] = told["data"]
    return data


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, those that have ended included."""
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # of its own and of its ended children
        except psutil.NoSuchProcess:
            continue
    return total


def server_pid(made: Shell) -> int:
    """The PostgreSQL server's first process."""
    folder = made.query("SHOW data_directory")[0][0]
    return int(Path(str(folder), "postmaster.pid").read_text().split()[0])


def machine() -> str:
    """`2 cores of …, Linux, load 0.5`: what a figure was measured on."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, {platform.system()}, load {os.getloadavg()[0]:.1f}"
