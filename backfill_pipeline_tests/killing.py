"""A whole installation to kill parts of: a home of its own with its PostgreSQL, `backfill ui` on it, and a backfill of
the UI at work. Victims are found among what was started here, never by name across the machine.

    with installation(**variables) as place:
        place.start()
        healed = struck(place, "database", Moment(bars=1), SYMBOLS, DAYS)   # AssertionError: something is stuck

A campaign calls `struck` again and again, with other victims, moments and partitions.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import dagster as dg
import psutil
import psycopg2
import pytest

from backfill_pipeline.defs.partitions import chain_partitions
from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.settings import load_settings
from backfill_pipeline.storage.connection import DatabaseError, connect
from backfill_pipeline.storage.server import EmbeddedServer, status, stop
from backfill_pipeline_tests.cli.test_ui import ask, free_port
from backfill_pipeline_tests.cli.test_ui_backfill import launch
from backfill_pipeline_tests.shell import BIN, Shell, reachable_folder
from backfill_pipeline_tests.tables import Tables, tables

Victim = Literal["daemon", "webserver", "code server", "run", "database", "ui", "machine"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)
# COMPLETED: the runs are not counted up yet.
_UNDER_WAY = ("REQUESTED", "CANCELING", "FAILING", "COMPLETED")
_LOCATIONS = "{workspaceOrError {... on Workspace {locationEntries {locationOrLoadError {__typename}}}}}"
_AWAY = (OSError, psycopg2.Error, DatabaseError)


@dataclass(frozen=True)
class Moment:
    """When to strike: this many bars are stored, then so many seconds later."""

    bars: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class Healed:
    """What became of a backfill that lost processes. `killed`: how many had the role; `seconds`: until nothing was
    unfinished.
    """

    killed: int
    seconds: float
    status: str
    colours: dict[str, int]


@dataclass
class Installation:
    """What a user has on one machine. Nothing here starts the database: that is for the commands to do."""

    shell: Shell
    port: int
    _ui: psutil.Popen | None = field(default=None, repr=False)

    @property
    def home(self) -> Path:
        return Path(self.shell.variables["BACKFILL_HOME"])

    @property
    def log(self) -> str:
        """What `backfill ui` has printed so far, and Dagster through it."""
        return (self.shell.folder / "ui.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """`backfill ui`, in a session of its own, unless it is up."""
        if self._ui is not None and self._ui.poll() is None:
            return
        with (self.shell.folder / "ui.log").open("ab") as log:
            self._ui = psutil.Popen(
                [str(BIN / "backfill"), "ui", "--port", str(self.port)],
                cwd=self.shell.folder,
                env=self.shell.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def answers(self) -> bool:
        """Whether the webserver does, with the definitions loaded."""
        try:
            told = ask(self.port, _LOCATIONS)
        except OSError:
            return False
        entries = told["workspaceOrError"].get("locationEntries", [])
        return [entry["locationOrLoadError"]["__typename"] for entry in entries] == ["RepositoryLocation"]

    def family(self) -> list[psutil.Process]:
        """Every process of the session that `backfill ui` leads: orphans stay in it."""
        assert self._ui is not None
        mine = []
        for process in psutil.process_iter():
            with suppress(OSError):
                if os.getsid(process.pid) == self._ui.pid:
                    mine.append(process)
        return mine

    def victims(self, victim: Victim) -> list[psutil.Process]:
        """The processes in that role now: none or several of the runs and code servers."""
        assert self._ui is not None
        if victim == "ui":
            return [self._ui]
        if victim == "machine":
            return [*self.family(), *self.victims("database")]
        if victim == "database":
            pid = status(self.home).pid
            return [] if pid is None else [psutil.Process(pid)]
        return [process for process in self.family() if _role(process) == victim]

    def kill(self, victim: Victim) -> int:
        """kill -9 of all in that role; how many there were."""
        doomed = self.victims(victim)
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(doomed)

    def query(self, statement: str, *values: object, database: str = "market") -> list[tuple[object, ...]]:
        """Of a database that is up."""
        with closing(connect(self.url(database))) as conn, conn, conn.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        found = status(self.home)
        if found.pid is None or found.socket_dir is None:
            raise DatabaseError(f"the server of {self.home} is down")
        return EmbeddedServer(found.home, found.socket_dir, found.pid).url(database)

    def tables(self) -> Tables:
        with closing(connect(self.url("market"))) as conn:
            return tables(conn)

    def backfill_status(self, backfill_id: str) -> str:
        return str(self.query("SELECT status FROM bulk_actions WHERE key = %s", backfill_id, database="dagster")[0][0])

    def bars(self) -> int:
        count = self.query("SELECT count(*) FROM bars")[0][0]
        assert isinstance(count, int)
        return count

    def unfinished(self) -> list[str]:
        """Whatever looks as if somebody were still at it: runs, jobs, and locks that are held."""
        runs = self.query(
            "SELECT pipeline_name || ' ' || run_id || ' ' || status FROM runs"
            " WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')",
            database="dagster",
        )
        jobs = self.query(
            "SELECT 'job ' || id || ' ' || status FROM backfill_jobs WHERE status IN ('queued', 'running')"
        )
        locks = self.query(
            "SELECT 'lock ' || classid || ' of ' || application_name FROM pg_locks"
            " JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            " AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = 'market')"
        )
        return [str(row[0]) for row in (*runs, *jobs, *locks)]

    def colours(self, symbols: Sequence[str], days: Sequence[str]) -> dict[str, int]:
        """How many (asset, key) pairs of the minutes' chain have which colour in the UI."""
        with pytest.MonkeyPatch.context() as environment:
            for name, value in self.shell.variables.items():
                environment.setenv(name, value)
            partitions = chain_partitions(load_settings(), INTRADAY)
        keys = [f"{day}|{symbol}" for day in days for symbol in symbols]
        counted: Counter[str] = Counter()
        with self.shell.instance() as instance:
            for name in asset_names(INTRADAY):
                found = instance.get_status_by_partition(dg.AssetKey(name), keys, partitions) or {}
                colours = {str(key): colour.value for key, colour in found.items() if colour}
                counted.update(colours.get(key, "none") for key in keys)
        return dict(counted)

    def end(self) -> None:
        """End all that was started, the database too."""
        if self._ui is not None:
            with suppress(psutil.NoSuchProcess):
                self._ui.send_signal(signal.SIGINT)
            with suppress(psutil.TimeoutExpired):
                self._ui.wait(60)
            for process in self.family():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.shell.close()
        stop(self.home)


def _role(process: psutil.Process) -> Victim | None:
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    if "dagster_webserver" in words:
        return "webserver"
    if "dagster._daemon" in words:
        return "daemon"
    if "grpc" in words:
        return "code server"
    return "run" if any("spawn_main" in word for word in words) else None


@contextmanager
def installation(**variables: str) -> Iterator[Installation]:
    """An installation without symbols, not started; all of it is ended and removed, whatever becomes of the test."""
    with reachable_folder() as folder:
        made = Installation(Shell(folder, {"BACKFILL_HOME": str(folder / "home"), **variables}), free_port())
        try:
            yield made
        finally:
            made.end()


def struck(
    place: Installation,
    victim: Victim,
    moment: Moment,
    symbols: Sequence[str],
    days: Sequence[str],
    patience: float = 400.0,
) -> Healed:
    """Launch a backfill, kill all processes of a role in the middle of it, do what a person would do (start
    `backfill ui` again if it has ended), and wait until nothing is unfinished. AssertionError: that takes longer than
    `patience` seconds, or there was no middle.
    """
    _wait(place, place.answers, patience)
    before = place.bars()
    backfill_id = launch(place.port, symbols, days)
    _wait(place, lambda: place.bars() - before >= moment.bars, patience)
    time.sleep(moment.seconds)
    _wait(place, lambda: bool(place.victims(victim)), patience)
    assert place.backfill_status(backfill_id) == "REQUESTED", "it was over before anything was killed"
    killed, began = place.kill(victim), time.monotonic()

    def is_healed() -> bool:
        place.start()
        return place.backfill_status(backfill_id) not in _UNDER_WAY and not place.unfinished()

    _wait(place, is_healed, patience)
    took = time.monotonic() - began
    _wait(place, place.answers, patience)
    return Healed(killed, took, place.backfill_status(backfill_id), place.colours(symbols, days))


def _wait(place: Installation, reached: Callable[[], bool], seconds: float) -> None:
    """A database that is away for the moment has reached nothing."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(*_AWAY):
            if reached():
                return
        assert time.monotonic() < deadline, place.log[-5000:]
        time.sleep(0.5)
