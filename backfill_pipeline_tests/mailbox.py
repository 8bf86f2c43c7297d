"""A web server on loopback that takes messages as a chat or a watchdog would, and answers as a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr


@dataclass
class Mailbox:
    """`secret` is in every path. `answers`: statuses of the next requests, 200 when they are used up."""

    port: int
    secret: str
    answers: list[int] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)  # method and path
    messages: list[dict[str, Any]] = field(default_factory=list)  # bodies that were taken

    def url(self, name: str = "hook") -> SecretStr:
        return SecretStr(f"http://127.0.0.1:{self.port}/{name}/{self.secret}")

    def heartbeats(self) -> int:
        return len([path for method, path in self.calls if method == "GET" and path.startswith("/beat/")])

    def take(self, method: str, path: str, body: bytes) -> int:
        self.calls.append((method, path))
        status = self.answers.pop(0) if self.answers else 200
        if body and status == 200:
            self.messages.append(json.loads(body))
        return status


@contextmanager
def mailbox(secret: str = "planted-hook-0123456789") -> Iterator[Mailbox]:
    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(box.take(self.command, self.path, body))
            self.send_header("Location", f"http://127.0.0.1:{box.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _take  # noqa: N815  (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    box = Mailbox(server.server_port, secret)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
