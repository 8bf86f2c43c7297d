"""GET requests through the shared budget: a slot, a time limit and a size limit for every try, and no key anywhere.

What a reply means is the provider's to say: it passes a reader that returns a value or raises a ProviderError.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson
import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util.retry import Retry

from .budget import Budget, Priority
from .causes import cause, was_connected
from .errors import ProviderStopped, RateLimited, Retryable, ServerTrouble, Unreachable

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A full page of 50,000 bars is 6 MB.
MOST_BYTES = 64 << 20
# A server may ask for a longer wait; it is asked again after this many seconds all the same.
MOST_WAIT = 900.0
# Seconds after which an address at which nobody was ever found is given up: a wrong one, or there is no network.
_PATIENCE_WITH_NOBODY = 5.0
# A shorter key could be part of an honest number.
_SHORTEST_SCRUBBED = 8
_MOST_WORDS = 200


@dataclass(frozen=True)
class Patience:
    """`tries` of one request, waiting 0, 2, 4, … × `backoff` seconds (60 at most) and a random share of it more.

    `connect`, `silence`: seconds without a connection, or without a byte. `whole`: seconds for a whole reply.
    """

    tries: int = 8
    backoff: float = 1.0
    connect: float = 10.0
    silence: float = 60.0
    whole: float = 300.0


@dataclass(frozen=True)
class Reply:
    """`where`: the provider and what was asked, which every error line starts with."""

    where: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. ServerTrouble where it is none: looked at first, for a page of HTML is common."""
        if self.body.lstrip()[:1] not in (b"{", b"["):
            what = "nothing" if not self.body.strip() else f"no JSON but {self.words()!r}"
            raise ServerTrouble(f"{self.where}: the server sent {what} ({self.status})")
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            pass
        try:
            return json.loads(self.body)  # slower, and takes the bare NaN that some servers write
        except (ValueError, RecursionError):
            raise ServerTrouble(f"{self.where}: the server's JSON is broken or ends early ({self.status})") from None

    def words(self) -> str:
        """The start of the body as one line for people."""
        return " ".join(self.body[:4096].decode("utf-8", "replace").split())[:_MOST_WORDS]


class _Bearer(AuthBase):
    """As an auth object and not a header, because requests puts ~/.netrc over headers."""

    def __init__(self, key: SecretStr | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return request


class Http:
    """A provider's server. `base_url` without a slash at its end. Threads may share one.

    `key` None: the server asks for none. `refuse`: raises what a reply says in the provider's own words, before its
    status is looked at.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        key: SecretStr | None,
        budget: Budget,
        *,
        priority: Priority = "backfill",
        patience: Patience | None = None,
        refuse: Callable[[Reply], None] | None = None,
    ) -> None:
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self.budget = budget
        self._priority = priority
        self._patience = patience or Patience()
        self._refuse = refuse
        self._key = key
        self._stopped: str | None = None
        self._connected = False
        self._alone_since: float | None = None
        word = "none" if key is None else key.get_secret_value()
        if not word or not (word.isascii() and word.isprintable()) or " " in word:
            # As a header it would be refused with its text in the error.
            raise ProviderStopped(f"{provider}: the key is empty or holds a character no key has; copy it again")
        self._session = requests.Session()
        self._session.headers.update({"Accept": "application/json", "User-Agent": "backfill_pipeline"})
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=16, max_retries=Retry(0, read=False)))

    def get(self, target: str, read: Callable[[Reply], T], *, what: str, tries: int | None = None) -> T:
        """`read` of the reply to GET base_url + `target` (path and query). `what`: the question, for error lines.

        Passing faults are tried again, each time with a slot of the budget. Raises ProviderError; after a
        ProviderStopped everything else raises it too, unasked.
        """
        where = f"{self.provider}: {what}"
        most = tries or self._patience.tries
        policy = Retry(
            most - 1, backoff_factor=self._patience.backoff, backoff_max=60, backoff_jitter=self._patience.backoff
        )
        tried = 0
        while True:
            if self._stopped is not None:
                raise ProviderStopped(self._stopped)
            self.budget.take(self._priority)
            outcome = self._try(target, read, where)
            if not isinstance(outcome, Retryable):
                return outcome
            tried += 1
            if self._is_alone():
                most = tried
            policy = self._after(outcome, policy, tried, min(most, outcome.most_tries or most))

    def _is_alone(self) -> bool:
        """Whether nobody was found at the address by any request, and it has been tried long enough, and twice."""
        first, self._alone_since = self._alone_since, self._alone_since or time.monotonic()
        return not self._connected and first is not None and time.monotonic() - first > _PATIENCE_WITH_NOBODY

    def _after(self, fault: Retryable, policy: Retry, tried: int, most: int) -> Retry:
        """Wait as the fault deserves; the policy for the next try. Raises the fault if there is none."""
        try:
            policy = policy.increment("GET", "", error=fault)
            given_up = tried >= most
        except MaxRetryError:
            given_up = True
        wait = policy.get_backoff_time()
        if isinstance(fault, RateLimited):
            self.budget.hold(wait or self._patience.backoff)
        if given_up:
            raise type(fault)(f"{fault}; tried {tried} time{'s' * (tried > 1)}, ask again later") from None
        logger.debug(f"{fault}; try {tried + 1}")
        if not isinstance(fault, RateLimited):
            time.sleep(wait)
        return policy

    def _try(self, target: str, read: Callable[[Reply], T], where: str) -> T | Retryable:
        """One request. Faults are returned, not raised, so that no error drags a request with its key along."""
        reply = self._send(target, where)
        if isinstance(reply, Retryable):
            return reply
        # Whatever the reply turns out to say, the server's limits hold for the next request.
        if wait := server_wait(reply.headers):
            self.budget.hold(min(wait, MOST_WAIT))
        try:
            if self._refuse is not None:
                self._refuse(reply)
            _refuse_generally(reply)
            return read(reply)
        except Retryable as error:
            return error.with_traceback(None)
        except ProviderStopped as error:
            self._stopped = str(error)
            raise

    def _send(self, target: str, where: str) -> Reply | Unreachable:
        problem: str
        try:
            with self._session.get(
                self.base_url + target,
                auth=_Bearer(self._key),
                timeout=(self._patience.connect, self._patience.silence),
                allow_redirects=False,
                stream=True,
            ) as response:
                self._connected = True
                body = self._body(response)
                if body is not None:
                    return self._scrubbed(Reply(where, response.status_code, response.headers, body))
                problem = f"the reply is larger than {MOST_BYTES >> 20} MB or took over {self._patience.whole:.0f} s"
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, InvalidHeader):
            problem = ""
        except (requests.RequestException, HTTPError, OSError) as error:
            problem = cause(error)
            self._connected |= was_connected(error)
        if not problem:
            raise ProviderStopped(f"{where}: {self.base_url} is no usable address; correct it")
        return Unreachable(f"{where}: {self.base_url}: {problem}")

    def _body(self, response: requests.Response) -> bytes | None:
        """The whole body, unzipped; None when it is too large or too slow."""
        end = time.monotonic() + self._patience.whole
        pieces, size = [], 0
        # read1 returns what has come: a server that trickles is seen to, which a wait for a full chunk is not.
        while piece := response.raw.read1(1 << 16, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES or time.monotonic() > end:
                return None
        return b"".join(pieces)

    def _scrubbed(self, reply: Reply) -> Reply:
        """The reply without the key, which a server may repeat."""
        if self._key is None:
            return reply
        key = self._key.get_secret_value()
        if len(key) < _SHORTEST_SCRUBBED and reply.status == requests.codes.ok:
            return reply
        headers = {name: value.replace(key, "***") for name, value in reply.headers.items()}
        body = reply.body.replace(key.encode(), b"***")
        return replace(reply, headers=CaseInsensitiveDict(headers), body=body)


def _refuse_generally(reply: Reply) -> None:
    """What means the same from every server."""
    status = reply.status
    if status == requests.codes.too_many_requests:
        raise RateLimited(f"{reply.where}: too many requests (429): does something else use the key?")
    if status >= 500 or status == requests.codes.request_timeout:
        raise ServerTrouble(f"{reply.where}: the server has trouble ({status})")
    if 300 <= status < 400:
        host = urlsplit(reply.headers.get("Location", "")).netloc or "another address"
        raise ProviderStopped(f"{reply.where}: the server sends us on to {host} ({status}); correct the base URL")


def server_wait(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks everybody to wait: Retry-After, or X-Ratelimit-Available 0 until -Expiry (epoch ms).

    0 for none, or for nonsense. Times of day are compared with the server's own Date, where it sends one.
    """
    wait = 0.0
    after = headers.get("Retry-After", "").strip()
    if after:
        try:
            wait = float(after)
        except ValueError:
            wait = _moment(after) - _server_now(headers)
    elif headers.get("X-Ratelimit-Available", "").strip() == "0":
        expiry = headers.get("X-Ratelimit-Expiry", "").strip()
        if expiry.isdecimal():
            wait = int(expiry) / 1000 - _server_now(headers)
    return wait if 0 < wait < float("inf") else 0.0


def _server_now(headers: Mapping[str, str]) -> float:
    return _moment(headers.get("Date", "")) or time.time()


def _moment(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
