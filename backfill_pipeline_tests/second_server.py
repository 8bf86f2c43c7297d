"""A second real PostgreSQL, as a team has one: over TCP on loopback, with logins and passwords (scram).

The packaged server is built without TLS, so a front of its own speaks it: what libpq asks for, PostgreSQL's SSLRequest
and then TLS, is answered by `TlsFront`, which passes the rest on.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2

from backfill_pipeline.storage.server_places import Layout, server_binaries, server_user
from backfill_pipeline.storage.server_process import run_program

ADMIN = "admin"
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
CONFIG = """
unix_socket_directories = ''
fsync = off
synchronous_commit = off
full_page_writes = off
"""


@dataclass(frozen=True)
class SecondServer:
    port: int
    password: str  # of `admin`, a superuser
    address: str = "127.0.0.1"

    def url(self, database: str, user: str = ADMIN, password: str | None = None, **parameters: str) -> str:
        query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in parameters.items())
        login = f"{user}:{quote(password or self.password, safe='')}"
        return f"postgresql://{login}@{self.address}:{self.port}/{database}{'?' if query else ''}{query}"

    def query(self, url: str, statement: str) -> list[tuple[object, ...]]:
        """In autocommit: statements that may not stand in a transaction work too."""
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def second_server(address: str = "127.0.0.1") -> Iterator[SecondServer]:
    """`address`: where it listens; with other hosts on its network where that is no loopback."""
    folder = Path(tempfile.mkdtemp(prefix="backfill-second-"))
    user = server_user(Layout(folder))
    binaries, data = server_binaries(user), folder / "data"
    password, port = secrets.token_hex(8), free_port()
    (folder / "password").write_text(password, encoding="ascii")
    for place in (folder, folder / "password"):
        os.chown(place, user.uid, user.gid)
    access = ["--auth=scram-sha-256", f"--username={ADMIN}", f"--pwfile={folder / 'password'}"]
    locale = ["--encoding=UTF8", "--locale=C"]
    try:
        _run(run_program(binaries / "initdb", ["-D", str(data), *access, *locale], user, timeout=60))
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"{CONFIG}\nlisten_addresses = '{address}'\nport = {port}\n")
        with (data / "pg_hba.conf").open("a", encoding="utf-8") as file:
            file.write("host all all samenet scram-sha-256\n")
        log = ["-l", str(folder / "log")]
        _run(run_program(binaries / "pg_ctl", ["start", "-w", "-D", str(data), *log], user, timeout=60))
        try:
            yield SecondServer(port, password, address)
        finally:
            _run(run_program(binaries / "pg_ctl", ["stop", "-m", "fast", "-D", str(data)], user, timeout=60))
    finally:
        shutil.rmtree(folder)


def _run(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, with its key beside it, and another one that signed nothing."""
    for name in ("mine", "other"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt", "-days", "2"),
                *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            check=True,
            capture_output=True,
        )
    return folder / "mine.crt", folder / "other.crt"


class TlsFront:
    """Listens on loopback, speaks TLS with who asks for it as libpq does, refuses others, and passes on to `port`."""

    def __init__(self, port: int, certificate: Path) -> None:
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.encrypted = 0  # connections that were
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return
            client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as inside,
                socket.create_connection(("127.0.0.1", self._target)) as server,
            ):
                self.encrypted += 1
                _pass_on(inside, server)


def _pass_on(inside: ssl.SSLSocket, server: socket.socket) -> None:
    """Both ways in one thread: OpenSSL's connections are not made for two at once."""
    while True:
        ready = [inside] if inside.pending() else select.select([inside, server], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (server if source is inside else inside).sendall(data)
