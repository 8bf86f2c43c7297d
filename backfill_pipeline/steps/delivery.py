"""Messages to the addresses that a person has set: a try each, a few of them, and the address in no line.

What is said is in messages.py. An address is a secret: whoever has it can write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import requests
from pydantic import SecretStr
from urllib3.exceptions import HTTPError, LocationParseError

from backfill_pipeline.providers.causes import cause

# Seconds to wait after each try but the last: four tries in about half a minute, a minute where nobody answers.
WAITS = (2.0, 6.0, 20.0)
# Seconds for a connection, and for the head of the reply.
_PATIENCE = (3.0, 7.0)
_UNUSABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    LocationParseError,
    UnicodeError,  # a name with a part longer than 63 characters
)
# Letters that wait at once at most; a place that takes nothing for long is not to fill the sensor's cursor.
_MOST_LETTERS = 20


@dataclass(frozen=True)
class Refusal:
    """Why nothing was delivered, without the address. `final`: trying again would not help."""

    why: str
    final: bool = False


def send(url: SecretStr, body: bytes | None) -> Refusal | None:
    """One try: POST of the JSON `body`, or GET without one. None: it was taken. Never raises for what the network does,
    and follows no redirection.
    """
    try:
        with requests.request(
            "GET" if body is None else "POST",
            url.get_secret_value(),
            data=body,
            headers={"User-Agent": "backfill_pipeline"} | ({"Content-Type": "application/json"} if body else {}),
            timeout=_PATIENCE,
            allow_redirects=False,
            stream=True,  # the reply's body is nobody's business
        ) as reply:
            status = reply.status_code
    except _UNUSABLE:
        return Refusal("it is no usable address", final=True)
    except (requests.RequestException, HTTPError, OSError) as error:
        return Refusal(cause(error))
    if 200 <= status < 300:
        return None
    passing = status >= 500 or status in (requests.codes.too_many_requests, requests.codes.request_timeout)
    return Refusal(f"the server answers {status}", final=not passing)


def deliver(url: SecretStr, body: bytes | None, waits: Sequence[float] | None = None) -> str | None:
    """Try until it is taken, `waits` (WAITS) seconds apart. None: it was; else why not, without the address."""
    for tried, wait in enumerate((*(WAITS if waits is None else waits), None), start=1):
        refusal = send(url, body)
        if refusal is None:
            return None
        if refusal.final or wait is None:
            return _given_up(refusal, tried)
        time.sleep(wait)
    raise AssertionError("the last wait is None")


def _given_up(refusal: Refusal, tried: int) -> str:
    return f"{refusal.why}; tried {tried} time{'s' * (tried > 1)}"


@dataclass(frozen=True)
class Letter:
    """A message on its way. `body`: its JSON. `next_at`: seconds since 1970, when it is tried next."""

    title: str
    body: str
    tries: int = 0
    next_at: float = 0.0


def post(
    letters: Sequence[Letter], try_once: Callable[[bytes], Refusal | None], now: float
) -> tuple[list[Letter], list[str]]:
    """Try every letter that is due once: those that wait for another try, and a line for each that was given up.

    One that nobody takes now holds up those behind it, untried: a dead server costs one time-out a call.
    """
    left: list[Letter] = []
    lines: list[str] = []
    is_down = False
    for letter in letters:
        if is_down or letter.next_at > now:
            left.append(letter)
            continue
        refusal = try_once(letter.body.encode())
        if refusal is None:
            continue
        is_down = not refusal.final
        tries = letter.tries + 1
        if refusal.final or tries > len(WAITS):
            lines.append(f"{letter.title!r} was not delivered: {_given_up(refusal, tries)}")
        else:
            left.append(replace(letter, tries=tries, next_at=now + WAITS[tries - 1]))
    lines += [f"{letter.title!r} was not delivered: too many wait" for letter in left[:-_MOST_LETTERS]]
    return left[-_MOST_LETTERS:], lines
