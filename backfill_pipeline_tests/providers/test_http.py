"""Every way a server can fail, over a real socket: the error it becomes, how often it is asked, and no key anywhere."""

from __future__ import annotations

import gc
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from pydantic import SecretStr

from backfill_pipeline.providers import errors
from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.errors import (
    BeyondPlan,
    NeverServed,
    NotBelieved,
    NoTrading,
    NotYet,
    OddRefusal,
    PluginFault,
    ProviderError,
    ProviderStopped,
    RateLimited,
    Retryable,
    ServerTrouble,
    Unreachable,
)
from backfill_pipeline.providers.http import MOST_BYTES, Http, Patience, Reply, server_wait

KEY = "pk_live_0123456789abcdefXYZ"
QUICK = Patience(backoff=0.001, connect=1.0, silence=0.3, whole=1.0)
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a": 12}'

Answer = bytes | Callable[[socket.socket], None]


class Server:
    """Sends prepared bytes, one answer per connection, the last for ever; keeps what it was asked."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                asked = connection.recv(65536).decode()
                if not asked.startswith("GET"):
                    return
                self.asked.append(asked)
                answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
                try:
                    connection.sendall(answer) if isinstance(answer, bytes) else answer(connection)
                except OSError:
                    continue  # the client had enough

    def stop(self) -> None:
        with socket.create_connection(self._socket.getsockname()) as last:
            last.sendall(b"end")
        self._thread.join()
        self._socket.close()


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    server = Server(list(answers))
    try:
        yield server
    finally:
        server.stop()


def reply(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(server: Server, **settings: object) -> object:
    http = Http("polygon", server.url, SecretStr(KEY), NoBudget(), patience=QUICK)
    return http.get("/v2/x?limit=5", Reply.json, what="AAPL 1m", **settings)  # type: ignore[arg-type]  # tries only


def test_the_key_goes_in_a_header_and_nowhere_else() -> None:
    with serving(OK) as server:
        assert ask(server) == {"a": 12}
    assert server.asked[0].startswith("GET /v2/x?limit=5 HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}\r\n" in server.asked[0]
    assert server.asked[0].count(KEY) == 1


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.05)


def silence(connection: socket.socket) -> None:
    time.sleep(0.5)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    for _ in range(2 * MOST_BYTES >> 20):
        connection.sendall(b" " * (1 << 20))


CASES = [
    pytest.param(reply("500 Internal Server Error"), ServerTrouble, r"trouble \(500\)", 8, id="500"),
    pytest.param(reply("504 Gateway Timeout", b"<html>"), ServerTrouble, r"trouble \(504\)", 8, id="504"),
    pytest.param(reply("408 Request Timeout"), ServerTrouble, r"trouble \(408\)", 8, id="408"),
    pytest.param(reply("429 Too Many Requests"), RateLimited, r"too many requests \(429\)", 8, id="429"),
    pytest.param(reply("200 OK", b"<html>502</html>"), ServerTrouble, "no JSON but '<html>502</html>'", 8, id="HTML"),
    pytest.param(reply("200 OK"), ServerTrouble, "sent nothing", 8, id="empty"),
    pytest.param(reply("200 OK", b'{"a": [1, 2'), ServerTrouble, "broken or ends early", 8, id="cut JSON"),
    pytest.param(reply("200 OK", b'{"a": 1}')[:-3], Unreachable, "the connection broke", 8, id="cut body"),
    pytest.param(b"", Unreachable, "the connection broke", 8, id="hung up"),
    pytest.param(b"SSH-2.0-OpenSSH\r\n", Unreachable, "the connection broke", 8, id="not HTTP"),
    pytest.param(
        reply("200 OK", b"no gzip", Content_Encoding="gzip"), Unreachable, "the connection broke", 8, id="bad gzip"
    ),
    pytest.param(silence, Unreachable, "no answer in time", 2, id="silence"),
    pytest.param(drip, Unreachable, "larger than 64 MB or took over 1 s", 2, id="drip"),
    pytest.param(flood, Unreachable, "larger than 64 MB", 2, id="flood"),
    pytest.param(
        reply("302 Found", Location=f"https://login.example/?key={KEY}"),
        ProviderStopped,
        r"sends us on to login\.example \(302\)",
        1,
        id="redirect",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "line", "tries"), CASES)
def test_a_fault_is_classed_and_tried_as_often_as_it_deserves(
    answer: Answer, kind: type[ProviderError], line: str, tries: int
) -> None:
    with serving(answer) as server, pytest.raises(ProviderError, match=line) as caught:
        ask(server, tries=tries)
    assert type(caught.value) is kind
    assert str(caught.value).startswith("polygon: AAPL 1m: ")
    assert "\n" not in str(caught.value)
    assert len(server.asked) == tries


def test_every_kind_of_error_is_in_the_drawn_tree_and_no_other() -> None:
    drawn = {
        Retryable: ProviderError,
        Unreachable: Retryable,
        ServerTrouble: Retryable,
        RateLimited: Retryable,
        OddRefusal: Retryable,
        PluginFault: Retryable,
        NotYet: ProviderError,
        NoTrading: NotYet,
        NeverServed: ProviderError,
        BeyondPlan: NeverServed,
        NotBelieved: ProviderError,
        ProviderStopped: ProviderError,
    }
    assert {kind: kind.__base__ for kind in vars(errors).values() if isinstance(kind, type) and kind in drawn} == drawn
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProviderError)}
    assert defined == {ProviderError, *drawn}
    for kind in drawn:
        assert f" {kind.__name__} " in (errors.__doc__ or "")


def test_a_passing_fault_passes() -> None:
    answers = [reply("503 Service Unavailable"), b"", reply("429 Too Many Requests"), reply("200 OK", b"<p>"), OK]
    with serving(*answers) as server:
        assert ask(server) == {"a": 12}
    assert len(server.asked) == 5


def test_an_odd_refusal_is_asked_once_more() -> None:
    def refuse(said: Reply) -> None:
        raise OddRefusal(f"{said.where}: called invalid")

    with serving(OK) as server, pytest.raises(OddRefusal, match="tried 2 times"):
        Http("polygon", server.url, SecretStr(KEY), NoBudget(), patience=QUICK).get("/x", refuse, what="y")
    assert len(server.asked) == 2


def test_nothing_is_asked_after_a_provider_stopped() -> None:
    def stop(said: Reply) -> None:
        raise ProviderStopped(f"{said.where}: the key is not accepted")

    with serving(OK) as server:
        http = Http("polygon", server.url, SecretStr(KEY), NoBudget(), patience=QUICK)
        for what in ("AAPL", "MSFT"):
            with pytest.raises(ProviderStopped, match="polygon: AAPL: the key is not accepted"):
                http.get("/x", stop, what=what)
    assert len(server.asked) == 1


def test_nobody_at_the_address_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    http = Http("polygon", url, SecretStr(KEY), NoBudget(), patience=QUICK)
    with pytest.raises(Unreachable, match=rf"polygon: AAPL: {url}: connection refused; tried 3 times"):
        http.get("/x", Reply.json, what="AAPL", tries=3)


@pytest.mark.parametrize("key", ["", "two words", "line\nend", "schlüssel", "tab\t"])
def test_a_key_that_cannot_be_one_is_told_without_showing_it(key: str) -> None:
    with pytest.raises(ProviderStopped, match="the key is empty or holds a character") as caught:
        Http("polygon", "http://127.0.0.1:1", SecretStr(key), NoBudget())
    assert not key.strip() or key not in str(caught.value)


def test_a_server_that_says_wait_is_waited_for() -> None:
    with serving(reply("429 Too Many Requests", Retry_After="1"), OK) as server:
        begun = time.monotonic()
        assert ask(server) == {"a": 12}
    assert 0.9 < time.monotonic() - begun < 2


def test_the_last_request_of_a_window_holds_the_next_one_back() -> None:
    expiry = str(round((time.time() + 0.8) * 1000))
    spent = reply("200 OK", b"{}", X_Ratelimit_Available="0", X_Ratelimit_Expiry=expiry)
    budget = NoBudget()
    with serving(spent) as server:
        Http("tradier", server.url, SecretStr(KEY), budget, patience=QUICK).get("/x", Reply.json, what="y")
    assert 0.4 < budget.expected_wait("backfill") <= 0.8


DATE = format_datetime(datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC), usegmt=True)
LATER = format_datetime(datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC), usegmt=True)
NOON_MS = round(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "-7"}, 0),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": LATER, "Date": DATE}, 30),
        ({"Retry-After": DATE, "Date": LATER}, 0),
        ({"X-Ratelimit-Available": "0", "X-Ratelimit-Expiry": str(NOON_MS + 9000), "Date": DATE}, 9),
        ({"X-Ratelimit-Available": "3", "X-Ratelimit-Expiry": str(NOON_MS + 9000), "Date": DATE}, 0),
        ({"X-Ratelimit-Available": "0", "X-Ratelimit-Expiry": "later"}, 0),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert server_wait(headers) == pytest.approx(seconds)


@pytest.mark.parametrize("answer", [case.values[0] for case in CASES if case.id not in ("flood", "drip")])
def test_a_planted_key_is_found_nowhere(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    def telltale(connection: socket.socket) -> None:
        """The same answer from a server that repeats the key."""
        if isinstance(answer, bytes):
            connection.sendall(answer.replace(b"<html>", f"<html>{KEY} ".encode()))
        else:
            answer(connection)

    with serving(telltale) as server, caplog.at_level(logging.DEBUG):
        http = Http("polygon", server.url, SecretStr(KEY), NoBudget(), patience=QUICK)
        with pytest.raises(ProviderError) as caught:
            http.get("/v2/x", Reply.json, what="AAPL", tries=2)
    error: BaseException | None = caught.value
    seen = [caplog.text, repr(http), "".join(traceback.format_exception(caught.value))]
    while error is not None:
        seen += [str(error), repr(error), repr(vars(error))]
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "backfill_pipeline/" in frame.f_code.co_filename:
                seen += [repr(value) for value in frame.f_locals.values()]
        error = error.__cause__ or error.__context__
    gc.collect()
    assert not any(KEY in text for text in seen)


def test_the_scan_for_the_key_would_find_it() -> None:
    """The scan above is worth something: the server did get the key, and an echo of it reaches the error's words."""
    with serving(reply("200 OK", f"<html>{KEY}".encode())) as server, pytest.raises(ServerTrouble, match=r"\*\*\*"):
        ask(server, tries=1)
    assert KEY in server.asked[0]
