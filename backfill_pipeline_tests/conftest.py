"""One embedded PostgreSQL for the whole test session, all pytest-xdist workers included, and a fresh database
per test.

The first test that asks for it starts it; the process that started pytest stops it and deletes its home.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from backfill_pipeline.storage.server import EmbeddedServer, ensure_running, reachable_home, stop

HOME_VARIABLE = "BACKFILL_TEST_HOME"
HOME_PREFIX = f"backfill-tests-{os.geteuid()}-"


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # an xdist worker: the home comes from the process that started it
    _end_servers_of_killed_sessions()
    os.environ[HOME_VARIABLE] = str(Path(tempfile.gettempdir()) / f"{HOME_PREFIX}{os.getpid()}")


# The folders with the longest files: a worker that begins one of these last keeps the others waiting at the end.
_LONGEST = ("cli", "steps", "defs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take files in this order."""
    items.sort(key=lambda item: _LONGEST.index(item.path.parent.name) if item.path.parent.name in _LONGEST else 9)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        _remove(Path(os.environ[HOME_VARIABLE]))


@pytest.fixture(scope="session")
def server() -> EmbeddedServer:
    """The session's server. Its commits are not flushed to disk: no test outlives the machine's power."""
    started = ensure_running(Path(os.environ[HOME_VARIABLE]))
    connection = psycopg2.connect(started.url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")  # xdist workers: ALTER SYSTEM one after the other
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            cursor.execute(f"ALTER SYSTEM SET {setting} = off")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    return started


@pytest.fixture
def database_url(server: EmbeddedServer) -> Iterator[str]:
    """URL (libpq form) of an empty database of a random name, dropped after the test whoever is still
    connected.
    """
    name = f"test_{secrets.token_hex(8)}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE template0")
    yield server.url(name)
    _administer(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _administer(server: EmbeddedServer, statement: str) -> None:
    connection = psycopg2.connect(server.url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def _end_servers_of_killed_sessions() -> None:
    for home in Path(tempfile.gettempdir()).glob(f"{HOME_PREFIX}*"):
        pid = home.name.removeprefix(HOME_PREFIX)
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            _remove(home)


def _remove(home: Path) -> None:
    home, _ = reachable_home(home)
    if home.exists():
        stop(home)
        shutil.rmtree(home)
