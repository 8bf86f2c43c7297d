"""One embedded PostgreSQL for the whole test session, all pytest-xdist workers included, and a fresh database
per test.

The first test that asks for it starts it; the process that started pytest stops it and deletes its home.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backfill_pipeline.storage.server import EmbeddedServer, ensure_running, reachable_home, stop
from backfill_pipeline_tests.databases import administer, database

HOME_VARIABLE = "BACKFILL_TEST_HOME"
HOME_PREFIX = f"backfill-tests-{os.geteuid()}-"


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # an xdist worker: the home comes from the process that started it
    # xdist would sort files by their number of tests: those of one or two, which wait for minutes, would come last.
    config.option.loadscopereorder = False
    _end_servers_of_killed_sessions()
    os.environ[HOME_VARIABLE] = str(Path(tempfile.gettempdir()) / f"{HOME_PREFIX}{os.getpid()}")


# The longest come first: a worker that begins one of them last keeps the others waiting at the end. Most of `cli` waits
# for Dagster's daemon, `steps` keeps a core busy: so they take turns. Each worker takes two files to begin with.
_LONGEST = (
    "cli/test_kills.py",
    "cli/test_ui_backfill.py",
    "steps/test_withheld.py",
    "cli/test_gap_daemon.py",
    "steps/test_withheld_orders.py",
    "cli/test_browser.py",
    "cli/test_run.py",
    "cli/test_nights.py",
    "cli/test_dead_network.py",
    "defs/test_nightly.py",
    "cli/test_operations.py",
    "cli/test_distributed.py",
    "cli/",
    "defs/",
    "steps/",
    "",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take files in this order."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(tests).as_posix() if item.path.is_relative_to(tests) else ""
        return next(n for n, start in enumerate(_LONGEST) if file.startswith(start))

    items.sort(key=place)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        _remove(Path(os.environ[HOME_VARIABLE]))


@pytest.fixture(scope="session")
def server() -> EmbeddedServer:
    """The session's server. Its commits are not flushed to disk: no test outlives the machine's power."""
    started = ensure_running(Path(os.environ[HOME_VARIABLE]))
    administer(
        started,
        "SELECT pg_advisory_lock(1)",  # xdist workers: ALTER SYSTEM one after the other
        *(f"ALTER SYSTEM SET {setting} = off" for setting in ("fsync", "synchronous_commit", "full_page_writes")),
        "SELECT pg_reload_conf()",
    )
    return started


@pytest.fixture
def database_url(server: EmbeddedServer) -> Iterator[str]:
    """URL of a new database that is migrated."""
    with database(server) as url:
        yield url


@pytest.fixture
def empty_database_url(server: EmbeddedServer) -> Iterator[str]:
    with database(server, "empty") as url:
        yield url


@pytest.fixture
def dagster_database_url(server: EmbeddedServer) -> Iterator[str]:
    """URL of a new database that holds Dagster's tables."""
    with database(server, "dagster") as url:
        yield url


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
