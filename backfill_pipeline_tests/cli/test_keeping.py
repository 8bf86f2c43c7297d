"""What `backfill ui` does about a process that dies: starts it again and says so, the database too."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import psutil
import psycopg2
import pytest

from backfill_pipeline.cli.common import CommandError
from backfill_pipeline.cli.keeping import Keeper
from backfill_pipeline.storage.progress import up_for
from backfill_pipeline.storage.server import EmbeddedServer, ensure_running, has_died, status, stop
from backfill_pipeline_tests.shell import reachable_folder


def starts(*codes: str) -> Callable[[], subprocess.Popen[bytes]]:
    """One program after the other; after the last the user presses Ctrl-C."""
    to_come = iter(codes)

    def start() -> subprocess.Popen[bytes]:
        code = next(to_come, None)
        if code is None:
            raise KeyboardInterrupt
        return subprocess.Popen([sys.executable, "-c", code])

    return start


def watch(keeper: Keeper) -> None:
    keeper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            keeper.watch()
    finally:
        keeper.end(5)


KILLED = "import os; os.kill(os.getpid(), 9)"


def test_a_program_that_is_killed_is_started_again_more_and_more_slowly(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Keeper({"daemon": starts(KILLED, KILLED, "exit(1)")}, None))
    assert capsys.readouterr().err.splitlines() == [
        "Dagster's daemon was killed (SIGKILL); starting it again in 1 s",
        "Dagster's daemon was killed (SIGKILL); starting it again in 2 s",
        "Dagster's daemon ended by itself; starting it again in 4 s",
    ]


def test_a_program_that_cannot_start_at_all_ends_the_command() -> None:
    keeper = Keeper({"webserver": starts("exit(1)")}, None)
    keeper.start()
    with pytest.raises(CommandError, match="Dagster's webserver ended by itself; its last lines above say why"):
        keeper.watch()


def test_a_webserver_without_its_code_server_is_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    with_child = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; {}'])"
    lonely = f"{with_child.format('time.sleep(7)')}; p.wait(); time.sleep(60)"
    watch(Keeper({"webserver": starts(lonely)}, None))
    assert capsys.readouterr().err == "the code server of Dagster's webserver has died; starting both again\n"


def _kill(server: EmbeddedServer) -> None:
    psutil.Process(server.pid).kill()
    while not has_died(server.home):
        time.sleep(0.05)


def _up_for(server: EmbeddedServer) -> float:
    with closing(psycopg2.connect(server.url("postgres"))) as conn:
        return up_for(conn)


def test_a_database_that_dies_is_started_again_and_one_that_was_stopped_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with reachable_folder() as folder:
        home = folder / "home"
        try:
            first = ensure_running(home)
            assert not has_died(home)
            began = time.monotonic()
            _kill(first)
            watch(Keeper({"daemon": starts(KILLED)}, home))
            assert "PostgreSQL has died; starting it again" in capsys.readouterr().err.splitlines()
            second = ensure_running(home)
            assert second.pid != first.pid
            assert _up_for(second) < time.monotonic() - began

            # A backend that is killed takes every connection with it, and not the server.
            began = time.monotonic()
            conn = psycopg2.connect(second.url("postgres"))
            psutil.Process(conn.info.backend_pid).kill()
            while True:
                try:
                    up = _up_for(second)
                except psycopg2.OperationalError:
                    time.sleep(0.05)
                    continue
                if up < time.monotonic() - began:
                    break
                assert time.monotonic() - began < 30
                time.sleep(0.05)
            assert ensure_running(home).pid == second.pid

            stop(home)
            assert not has_died(home)
            watch(Keeper({"daemon": starts(KILLED)}, home))
            assert status(home).state == "stopped"
        finally:
            stop(home)
