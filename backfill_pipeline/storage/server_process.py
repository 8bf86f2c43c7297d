"""The embedded server's processes: what is alive, running PostgreSQL's programs, ending what a crash left
behind.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from backfill_pipeline.storage.server_config import PORT
from backfill_pipeline.storage.server_places import Layout, ServerError, ServerUser

PROGRAMS = ("postgres", "initdb", "pg_ctl")
CHANGE_TIMEOUT_SECONDS = 180  # recovering 2 GB of WAL after a crash takes about a minute on a slow disk
ORPHAN_TIMEOUT_SECONDS = 5  # a postmaster gives its own children as long
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says. `state` is `starting`, `ready` or `stopping`; nothing says that the process
    lives.
    """

    pid: int
    started_at: float  # seconds since 1970-01-01 UTC
    socket_dir: Path | None  # None: it has not opened a socket yet
    state: str


def read_postmaster(layout: Layout) -> Postmaster | None:
    """Read data/postmaster.pid. None: there is no such file, or it is not one (empty after a power cut)."""
    try:
        lines = (layout.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        pid, started_at = int(lines[0]), float(lines[2])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    socket_dir = Path(lines[4]) if len(lines) > 4 and lines[4] else None
    return Postmaster(pid, started_at, socket_dir, lines[7].strip() if len(lines) > 7 else "starting")


def listens(socket_dir: Path) -> bool:
    """Whether a server accepts connections on the socket in this folder."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(socket_dir / f".s.PGSQL.{PORT}"))
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
    return True


def is_alive(postmaster: Postmaster, layout: Layout) -> bool:
    """Whether the process of that number is a PostgreSQL server on these data, not somebody who got the
    number later.
    """
    try:
        process = psutil.Process(postmaster.pid)
        return process.name().startswith("postgres") and Path(process.cwd()).samefile(layout.data)
    except (psutil.Error, OSError):
        return False


def run_program(
    program: Path,
    arguments: Sequence[str],
    user: ServerUser,
    *,
    timeout: float,
    keep: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the server's user, apart from the caller's terminal and
    environment.

    `keep` are file descriptors for it to inherit. No PG… variable reaches it, and it starts in /, because the
    caller's folder may be closed to that user.
    """
    drops = not user.is_caller
    try:
        return subprocess.run(  # noqa: S603  the program is the wheel's own
            [str(argument) for argument in (program, *arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            umask=0o077,
            user=user.uid if drops else None,
            group=user.gid if drops else None,
            extra_groups=[] if drops else None,
            pass_fds=keep,
            start_new_session=True,  # Ctrl-C at the caller's terminal is not meant for it
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServerError(f"{program.name} did not finish within {timeout:.0f} s") from None


@contextlib.contextmanager
def alive_lock(layout: Layout) -> Iterator[int]:
    """Hold the lock that the server's processes inherit: while it is held here, none of an earlier server is
    alive.

    Unlike process numbers and shared memory, which another container does not see, the kernel keeps this one
    for all that share the folder: two servers on the same data destroy them. What a killed postmaster left
    behind is ended first. Yields the descriptor to hand on.
    """
    descriptor = os.open(layout.alive_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(descriptor) and not _end_orphans(layout, lambda: _try_lock(descriptor)):
            raise ServerError(
                f"the server of {layout.home} cannot be seen from here: it runs in another container, say; "
                "give each its own BACKFILL_HOME, or set DATABASE_URL"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphans(layout: Layout, all_gone: Callable[[], bool]) -> bool:
    """End what outlived its postmaster or initdb's starter, as a postmaster does after a crash: SIGQUIT, then
    SIGKILL.
    """
    orphans = [process for process in psutil.process_iter() if _belongs(process, layout)]
    for how in (signal.SIGQUIT, signal.SIGKILL):
        for orphan in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.send_signal(how)  # psutil refuses when the number belongs to another process by now
        if wait_until(all_gone, ORPHAN_TIMEOUT_SECONDS):
            return True
    return False


def _belongs(process: psutil.Process, layout: Layout) -> bool:
    try:
        if not process.name().startswith(PROGRAMS):
            return False
        if any(argument.startswith(f"{layout.folder}{os.sep}") for argument in process.cmdline()):
            return True
        return Path(process.cwd()).samefile(layout.data)
    except (psutil.Error, OSError):
        return False


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Ask every 50 ms until it is done; False when it is not after that many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
