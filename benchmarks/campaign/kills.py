"""kill -9 at random moments: of the work itself, of `backfill run` and of the database under it; of the daemon,
the webserver, the code server, runs and the whole machine under `backfill ui`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
import psycopg2

from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.storage.connection import DatabaseError
from backfill_pipeline.storage.server import ensure_running, status, stop
from backfill_pipeline_tests.killing import VICTIMS, Installation, Moment, Victim, struck
from backfill_pipeline_tests.shell import reachable_folder
from backfill_pipeline_tests.steps.one_run import NOW
from backfill_pipeline_tests.steps.one_run import run as one_run
from backfill_pipeline_tests.steps.test_look_killed import PARTS
from backfill_pipeline_tests.steps.warehouses import empty, opened, query
from backfill_pipeline_tests.tables import Tables, differences, tables

from .commands import Command
from .places import DAYS, PATIENCE, Part, command, groups_of, installed, market, undisturbed

KILLS = 6  # in a round, at most; then the same command is left alone
MISSES = 3  # backfills in a campaign that may be over before their victim dies; others take their place
AWAY = (psycopg2.Error, DatabaseError)
LATENCY = 0.4  # seconds of each answer: a round's eight requests keep a run at work


def run(rounds: int, seed: int) -> Part:
    """A round: the same command again and again, killed each time; in the end once more."""
    part, chance = Part("kills"), Random(f"kills {seed}")
    groups = groups_of("K", rounds + 1, 2)
    with market(groups) as standin:
        clean = undisturbed(standin, groups)
        standin.set(latency_seconds=LATENCY)
        with installed(standin, [symbol for group in groups for symbol in group]) as place:
            took = _timed(part, place, groups[-1])
            for number, group in enumerate(groups[:-1]):
                for _ in range(KILLS):
                    if not _killed(part, place, group, chance, chance.uniform(0.1, 0.95) * took):
                        break
                part.ended_well(Command(place.shell, *command(group)), f"round {number}, left alone")
                part.judge(place, clean, group, f"round {number}", settled=False)
            part.settle(place)
    part.measured["seconds of a run left alone"] = took
    return part


def _timed(part: Part, place: Installation, group: Sequence[str]) -> float:
    began = time.monotonic()
    part.ended_well(Command(place.shell, *command(group)), "the first run")
    return time.monotonic() - began


def _killed(part: Part, place: Installation, group: Sequence[str], chance: Random, seconds: float) -> bool:
    """Start the command, kill after so many seconds; False: it was over before."""
    process = Command(place.shell, *command(group))
    if process.ended(seconds):
        part.counted["over before the kill"] += 1
        return False
    if chance.random() < 0.25:
        return _database_killed(part, place, process)
    _count_middle(part, place, group)
    if chance.random() < 0.5:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.ended(PATIENCE)
    part.counted["kills of a run"] += 1
    return True


def _database_killed(part: Part, place: Installation, process: Command) -> bool:
    """The run must end by itself, with a line for a person and no traceback."""
    part.counted["kills of the database"] += _kill_database(place.home)
    if not process.ended(PATIENCE) or "Traceback" in process.output:
        part.wrong.append(f"a run that lost its database: {process.output[-6000:]}")
    return True


def _count_middle(part: Part, place: Installation, group: Sequence[str]) -> None:
    """Whether the kill falls between the first bar and the last job."""
    with suppress(*AWAY):
        stored = place.query(
            "SELECT count(DISTINCT symbol_id) FROM bars JOIN symbols USING (symbol_id) WHERE symbol = ANY(%s)", [*group]
        )[0][0]
        part.counted["of them with bars of some symbols stored"] += bool(stored)


def _kill_database(home: Path) -> bool:
    """kill -9 of the postmaster; whether there was one."""
    pid = status(home).pid
    if pid is not None:
        psutil.Process(pid).kill()
    return pid is not None


@contextmanager
def _database_home() -> Iterator[tuple[Path, str]]:
    """A home of its own and the URL of an empty database there."""
    with reachable_folder() as folder:
        home = folder / "home"
        server = ensure_running(home)
        try:
            with closing(psycopg2.connect(server.url("postgres"))) as admin:
                admin.autocommit = True
                admin.cursor().execute("CREATE DATABASE work")
            yield home, server.url("work")
        finally:
            stop(home)


def doomed_run(url: str) -> None:
    """In a process of its own. That its database is away is what is meant."""
    with suppress(*AWAY):
        one_run(url, PARTS)


def work(rounds: int, seed: int) -> Part:
    """Kills of a process that does nothing but the steps, without the seconds that a command takes to start: a child
    or the database under it, several times, then one run that is left alone.
    """
    part, chance = Part("kills of the steps"), Random(f"work {seed}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["backfill_pipeline_tests.steps.one_run"])
    with _database_home() as (home, url):
        with opened(url, SyntheticProvider(), NOW) as warehouse:
            warehouse.sessions("XNYS")
            began = time.monotonic()
            one_run(url, PARTS)
            took, clean = time.monotonic() - began, tables(warehouse.conn)
            empty(warehouse)
        for number in range(rounds):
            for _ in range(chance.randint(1, 3)):
                child = context.Process(target=doomed_run, args=(url,))
                child.start()
                child.join(chance.uniform(0.05, 1) * took)
                part.counted["over before the kill"] += not child.is_alive()
                if chance.random() < 0.3:
                    part.counted["kills of the database"] += _kill_database(home)
                    child.join(60)
                    ensure_running(home)
                else:
                    part.counted["kills of a run"] += child.is_alive()
                if child.is_alive():
                    child.kill()
                child.join()
            one_run(url, PARTS)
            with opened(url, SyntheticProvider(), NOW) as warehouse:
                held = query(warehouse, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
                found = [f"still there: a lock of {pid}" for (pid,) in held]
                part.note([*found, *differences(tables(warehouse.conn), clean, most=3)], f"round {number}")
                empty(warehouse)
    return part


def strikes(rounds: int, seed: int) -> Part:
    """A backfill of the UI each, of which all processes of one role are killed; every role in its turn."""
    part, chance = Part("kills under the UI"), Random(f"strikes {seed}")
    groups = groups_of("U", rounds + MISSES, 3)
    victims = [*VICTIMS]
    chance.shuffle(victims)
    with market(groups) as standin:
        clean = undisturbed(standin, groups, "1m")
        standin.set(latency_seconds=3.0)  # one run has stored its bars, others wait for theirs
        with installed(standin, [symbol for group in groups for symbol in group]) as place:
            place.start()
            waiting = iter(groups)
            for number in range(rounds):
                victim = victims[number % len(victims)]
                while not _struck(part, place, victim, next(waiting, None), chance, clean):
                    part.counted["over before the kill"] += 1
    return part


def _struck(
    part: Part, place: Installation, victim: Victim, group: Sequence[str] | None, chance: Random, clean: Tables
) -> bool:
    """One backfill, and the victim in the middle of it; False: there was no middle. Without a group none is left."""
    if group is None:
        part.wrong.append(f"the {victim}: {MISSES + 1} backfills were over before anything was killed")
        return True
    moment = Moment(bars=1, seconds=chance.uniform(0, 2))
    try:
        healed = struck(place, victim, moment, group, [str(day) for day in DAYS], PATIENCE)
    except AssertionError as error:
        if "over before" in str(error):
            return False
        part.note([str(error)[-800:]], f"the {victim}")
        return True
    part.counted[f"kills of the {victim}"] += healed.killed
    slowest = part.measured.get("slowest until all was done, s", 0.0)
    part.measured["slowest until all was done, s"] = max(slowest, healed.seconds)
    if healed.status != "COMPLETED_SUCCESS" or set(healed.colours) != {"MATERIALIZED"}:
        part.wrong.append(f"the {victim}: {healed}")
    part.judge(place, clean, group, f"the {victim}")
    return True
