"""Runs on several machines: two workers with homes of their own, one PostgreSQL with a password, one Redis, a daemon.

Takes more than a minute: Dagster's daemon looks for backfills every 30 s.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from typing import TypeVar

import dagster as dg
import psutil
import pytest
import redis
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher import LaunchRunContext

from backfill_pipeline.defs import workers
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.broker import broker
from backfill_pipeline_tests.cli.test_ui import ask
from backfill_pipeline_tests.cli.test_ui_backfill import finished, launch, ui
from backfill_pipeline_tests.second_server import second_server
from backfill_pipeline_tests.shell import BIN, Shell, one_line, reachable_folder, shell
from backfill_pipeline_tests.tables import differences, tables

T = TypeVar("T")
SYMBOLS = ("C0", "C1", "C2", "C3")
FIRST = date(2026, 6, 1)
DAYS = [str(FIRST + timedelta(days=n)) for n in range(60)]
OPTIONS = {"BACKFILL_PROVIDER": "synthetic", "BACKFILL_INTRADAY_START": str(FIRST)}
LOADED = "{workspaceOrError {... on Workspace {locationEntries {locationOrLoadError {__typename}}}}}"
PASSED_ON = "SELECT run_id, event FROM event_logs WHERE event LIKE '%Started process for run (pid%'"


@pytest.fixture(scope="module")
def desk() -> Iterator[Shell]:
    """The machine with webserver and daemon."""
    with second_server() as server, broker() as url, reachable_folder() as folder:
        there = {"DATABASE_URL": server.url("market"), "DAGSTER_DATABASE_URL": server.url("dagster")}
        made = Shell(folder, {"BACKFILL_HOME": str(folder / "home"), **OPTIONS, **there, "BACKFILL_BROKER": url})
        try:
            added = made.quick("symbols", "add", *SYMBOLS, "--bars", "1m")
            assert added.returncode == 0, added.stderr
            yield made
        finally:
            made.close()


@contextmanager
def worker(desk: Shell, name: str, *options: str) -> Iterator[psutil.Popen]:
    """`backfill worker` on a machine of its own: another home."""
    variables = {**desk.environment, "BACKFILL_HOME": str(desk.folder / name)}
    with (desk.folder / f"{name}.log").open("wb") as log:
        started = psutil.Popen(
            [str(BIN / "backfill"), "worker", *options], cwd=desk.folder, env=variables, stdout=log, stderr=log
        )
    try:
        yield started
    finally:
        kill(started)
        started.wait(20)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)] if process.is_running() else []


def kill(process: psutil.Process) -> None:
    """All at once, as a machine dies."""
    for one in family(process):
        one.kill()


def wait(reached: Callable[[], T | None], seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def at_work(desk: Shell, *machines: psutil.Process) -> str | None:
    """A run that the first machine is in the middle of, while each of the others is, too."""
    now, begun = statuses(desk), begun_by(desk)
    runs = []
    for machine in machines:
        pids = {process.pid for process in family(machine)}
        runs.append(next((run for run in begun if now[run] == "STARTED" and begun[run][0] in pids), None))
    return runs[0] if all(runs) else None


def begun_by(desk: Shell) -> dict[str, list[int]]:
    """Run → the processes that took it up."""
    found: dict[str, list[int]] = {}
    for run, event in desk.dagster_query(PASSED_ON):
        found.setdefault(str(run), []).append(int(re.findall(r"run \(pid: (\d+)", str(event))[0]))
    return found


def statuses(desk: Shell) -> dict[str, str]:
    return {str(run): str(status) for run, status in desk.dagster_query("SELECT run_id, status FROM runs ORDER BY id")}


def is_loaded(port: int) -> bool:
    entries = ask(port, LOADED)["workspaceOrError"].get("locationEntries", [])
    return [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries] == ["RepositoryLocation"]


@pytest.mark.timeout(600)
def test_two_machines_finish_a_backfill_of_which_one_dies_in_the_middle(desk: Shell, server: EmbeddedServer) -> None:
    with ui(desk) as port, worker(desk, "one") as one, worker(desk, "two") as two:
        wait(lambda: is_loaded(port), 60)
        backfill_id = launch(port, SYMBOLS, DAYS)
        lost = wait(lambda: at_work(desk, one, two), 120)
        kill(one)
        wait(lambda: statuses(desk)[lost] != "STARTED", 60)
        assert finished(port, backfill_id)["status"] == "COMPLETED_SUCCESS"

    assert statuses(desk)[lost] == "FAILURE"
    runs = desk.dagster_query("SELECT pipeline_name, status FROM runs")
    mine = [status for name, status in runs if name != "repair_gaps"]  # the daemon's, on a slow machine
    assert Counter(mine) == {"SUCCESS": len(SYMBOLS), "FAILURE": 1}, runs
    with shell(server, **OPTIONS) as single:
        single.quick("symbols", "add", *SYMBOLS, "--bars", "1m")
        days = ("--start", DAYS[0], "--end", DAYS[-1])
        ran = single.quick("run", "--symbols", ",".join(SYMBOLS), "--timeframes", "1m", *days)
        assert ran.returncode == 0, ran.stderr
        ours, theirs = connect(desk.variables["DATABASE_URL"]), connect(single.variables["DATABASE_URL"])
        with closing(ours), closing(theirs):
            assert differences(tables(ours), tables(theirs)) == []


@pytest.fixture
def instance(desk: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The desk's, without a daemon; what is in the broker from before is gone."""
    monkeypatch.setenv("BACKFILL_BROKER", desk.variables["BACKFILL_BROKER"])
    monkeypatch.setattr(workers, "PATIENCE", 0.0)
    with redis.Redis.from_url(desk.variables["BACKFILL_BROKER"]) as client:
        client.flushdb()
    with desk.instance() as made:
        yield made


def send(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run of a job that is through soon, sent to the workers."""
    job = ReconstructableRepository.for_module("backfill_pipeline.definitions", "defs").get_reconstructable_job(
        "reconcile"
    )
    run = instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
    return instance.launch_run(run.run_id, None)  # type: ignore[arg-type]  # the launcher needs no workspace


def launcher_of(instance: dg.DagsterInstance) -> workers.WorkerRunLauncher:
    assert isinstance(instance.run_launcher, workers.WorkerRunLauncher)
    return instance.run_launcher


def attend(instance: dg.DagsterInstance) -> list[str]:
    sent = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    return launcher_of(instance).attend(sent)


def failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE
    return [event.message for event in instance.all_logs(run.run_id, dg.DagsterEventType.RUN_FAILURE)][-1]


def test_a_run_that_no_worker_listens_to_fails_with_the_next_step(instance: dg.DagsterInstance) -> None:
    run = send(instance)

    attend(instance)

    assert "no worker listens to queue general; next, on any machine: backfill worker --queues general" in failure(
        instance, run
    )


def test_a_run_is_done_once_however_often_and_late_its_word_comes(desk: Shell, instance: dg.DagsterInstance) -> None:
    run, launcher = send(instance), launcher_of(instance)
    word = LaunchRunContext(run, workspace=None)
    with redis.Redis.from_url(desk.variables["BACKFILL_BROKER"]) as client:
        client.flushdb()  # Redis has lost its memory
    with worker(desk, "three", "--queues", "general", "--runs-at-once", "2") as three:
        wait(lambda: "general" in launcher._attended(), 60)
        assert attend(instance) == [f"run {run.run_id} was sent to queue general again"]
        launcher.launch_run(word)
        wait(lambda: statuses(desk)[run.run_id] == "SUCCESS", 60)
        launcher.launch_run(word)
        after = send(instance)
        wait(lambda: statuses(desk)[after.run_id] == "SUCCESS", 60)
        its_processes = family(three)
        three.terminate()
        assert three.wait(60) == 0
        assert psutil.wait_procs(its_processes, 20)[1] == []

    assert len(begun_by(desk)[run.run_id]) == 1
    assert statuses(desk)[run.run_id] == "SUCCESS"


def test_a_broker_that_is_away_is_one_line_without_its_password(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = send(instance)
    monkeypatch.setattr(launcher_of(instance), "celery", workers.celery_app("redis://:hush@127.0.0.1:1/0"))

    with pytest.raises(workers.BrokerError, match=r"redis://:\*\*@127.0.0.1:1/0 cannot be reached") as told:
        send(instance)
    attend(instance)

    assert "\n" not in str(told.value)
    assert "hush" not in str(told.value)
    assert "cannot be reached" in failure(instance, run)
    assert "hush" not in failure(instance, run)


@pytest.mark.parametrize(
    ("options", "variables", "told"),
    [
        pytest.param([], {"BACKFILL_BROKER": ""}, "BACKFILL_BROKER is not set; one like redis://", id="no broker"),
        pytest.param(
            [], {"BACKFILL_BROKER": "amqp://u:hush@h"}, "BACKFILL_BROKER has a wrong value", id="another kind"
        ),
        pytest.param([], {"DATABASE_URL": "", "BACKFILL_BROKER": "redis://h"}, "set DATABASE_URL", id="no database"),
        pytest.param(["--queues", "polygon"], {}, "polygon is not of general, synthetic", id="an unknown queue"),
    ],
)
def test_a_worker_that_cannot_be_says_why(
    desk: Shell, options: list[str], variables: dict[str, str], told: str
) -> None:
    line = one_line(desk.quick("worker", *options, **variables))

    assert told in line
    assert "hush" not in line


def test_the_password_of_the_broker_stands_in_no_file(desk: Shell) -> None:
    password = desk.variables["BACKFILL_BROKER"].split("@")[0].rpartition(":")[2]
    written = (desk.folder / "home" / "dagster" / "dagster.yaml").read_text()

    assert "WorkerRunLauncher" in written
    assert password not in written
    assert password in desk.quick("env").stdout
    desk.quick("env", BACKFILL_BROKER="")
    assert "WorkerRunLauncher" not in (desk.folder / "home" / "dagster" / "dagster.yaml").read_text()
