"""The socket side: a threading HTTP/1.1 server that sends replies, whole or broken on purpose."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from .control import PREFIX, Control
from .faults import Fault, make_fault
from .journal import Seen
from .market import Market
from .options import Options
from .replies import Reply
from .service import Service

_GZIP = 31  # zlib's window bits for a gzip header
_NO_LINGER = struct.pack("ii", 1, 0)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, service: Service, ended: threading.Event) -> None:
        super().__init__((address, port), _Handler)
        self.service, self.control, self.ended = service, Control(service), ended
        self.origin = f"http://{address}:{self.server_address[1]}"
        self.mistakes: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in mid-answer are normal here; everything else is the stand-in's own mistake."""
        error = sys.exception()
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            self.mistakes.append(error)
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Ends connections that clients keep open, so that their threads end."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60.0

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Silent: the journal knows."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if self.path.startswith(PREFIX):
            self._send(self.server.control.answer(self.command, self.path, body))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        latency = self.server.service.options.latency_seconds
        reply = self.server.service.answer(self.command, self.path, headers, self.server.origin)
        if latency:
            self.server.ended.wait(latency)
        self._send(reply)

    do_GET = do_POST = do_DELETE = do_PUT = _answer  # noqa: N815  (http.server's names)

    def do_HEAD(self) -> None:
        self._answer()

    def _send(self, reply: Reply) -> None:
        if reply.transport == "connection_reset":
            self._reset()
            return
        if reply.transport == "stalled_headers":
            self._stall(reply.seconds)
            return
        body, headers = self._encoded(reply)
        if reply.transport == "truncated_gzip":
            body = body[: len(body) // 2]
        lines = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(body))}.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if reply.transport in ("stalled_body", "truncated_body"):
            self.wfile.write(head + body[: len(body) // 2])
            self._stall(reply.seconds if reply.transport == "stalled_body" else 0)
            return
        # One write: two would wait for the client's delayed acknowledgement, some 40 ms.
        self.wfile.write(head if self.command == "HEAD" else head + body)

    def _encoded(self, reply: Reply) -> tuple[bytes, dict[str, str]]:
        headers = {"Server": "standin", "Date": self.date_time_string(), "Content-Type": reply.content_type}
        headers |= reply.headers
        zips = "gzip" in self.headers.get("Accept-Encoding", "") and len(reply.body) > 200
        if not zips and reply.transport != "truncated_gzip":
            return reply.body, headers
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        return packer.compress(reply.body) + packer.flush(), headers | {"Content-Encoding": "gzip"}

    def _stall(self, seconds: float) -> None:
        self.server.ended.wait(seconds)
        self.close_connection = True

    def _reset(self) -> None:
        """A RST instead of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.connection.close()
        self.close_connection = True


class StandIn:
    """A stand-in in threads of this process; a context manager. See the package's text."""

    def __init__(
        self, market: Market | None = None, *, port: int = 0, address: str = "127.0.0.1", **options: Any
    ) -> None:
        self.market = Market() if market is None else market
        self.service = Service(self.market, Options().changed(**options))
        self._ended = threading.Event()
        self._server = _Server(address, port, self.service, self._ended)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="standin")

    @classmethod
    def from_config(cls, config: dict[str, Any], port: int | None = None) -> Self:
        """From JSON: options by name, `market` (Market's arguments and its verbs), `faults`, `port`."""
        options = dict(config)
        told = dict(options.pop("market", {}))
        arguments = {name: told.pop(name) for name in ("seed", "symbols", "fillers", "bare_share") if name in told}
        market = Market(**arguments)
        market.change(told)
        faults = options.pop("faults", [])
        configured = int(options.pop("port", 0))
        standin = cls(market, port=configured if port is None else port, **options)
        for fault in faults:
            standin.fault(**fault)
        return standin

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stalled answers are cut short, connections closed, threads joined, the port freed.

        RuntimeError: the stand-in made a mistake of its own while it ran.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        if self._server.mistakes and sys.exception() is None:  # a failing test tells its own reason first
            reason = "the stand-in itself failed; its client saw a dropped connection"
            raise RuntimeError(reason) from self._server.mistakes[0]

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return self._server.origin

    @property
    def tradier_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def binance_url(self) -> str:
        return self.url

    @property
    def key(self) -> str:
        return self.service.options.keys[0]

    @property
    def options(self) -> Options:
        return self.service.options

    def set(self, **changes: Any) -> None:
        """Changes options from the next request on."""
        self.service.set(**changes)

    def fault(self, name: str, **settings: Any) -> Fault:
        """Adds a rule; settings other than Fault's own fields become its options. The Fault tells `hit` later."""
        fault = make_fault(name, **settings)
        self.service.faults.add(fault)
        return fault

    def queue(self, *names: str) -> None:
        self.service.faults.enqueue([make_fault(name) for name in names])

    def clear_faults(self) -> None:
        self.service.faults.clear()

    @property
    def requests(self) -> list[Seen]:
        return self.service.journal.seen

    @property
    def leaks(self) -> list[Seen]:
        return self.service.journal.leaks

    @property
    def provoked_429(self) -> int:
        return self.service.journal.provoked_429

    def counters(self) -> dict[str, Any]:
        return self.service.journal.counters()

    def reset(self) -> None:
        """Forgets requests, limits in use and faults; keeps options and the market."""
        self.service.reset()
