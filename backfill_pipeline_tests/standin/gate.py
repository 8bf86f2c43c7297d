"""Who may ask, and how often: keys, leaks of keys, rate limits."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from . import binance
from .limits import AlignedLimit, SlidingLimit
from .options import Options
from .replies import (
    TOO_MANY,
    Call,
    RefusedError,
    Reply,
    as_text,
    binance_fault,
    polygon_error,
    polygon_fault,
    tradier_fault,
)

_KEY_IN_URL = re.compile(r"(?i)([?&](?:api_?key|token|access_token|key)=)[^&]*")
_BANNED_AFTER = 5  # refusals in one stretch, then Binance answers 418


class Gate:
    """Holds what each key has used up. Safe for many threads."""

    def __init__(self) -> None:
        self._polygon, self._tradier, self._binance = SlidingLimit(), AlignedLimit(), AlignedLimit()

    def clear(self) -> None:
        for limit in (self._polygon, self._tradier, self._binance):
            limit.clear()

    def limit(self, call: Call) -> dict[str, str]:
        """Headers that tell the state of the limit. RefusedError: over it."""
        if call.family == "polygon":
            options = call.options
            wait = self._polygon.take(call.key, options.requests_per_minute, options.window_seconds)
            if wait > 0:
                raise RefusedError(_too_many(options, wait))
            return {}
        return self._limit_tradier(call) if call.family == "tradier" else self._limit_binance(call.options)

    def _limit_tradier(self, call: Call) -> dict[str, str]:
        allowed = call.options.tradier_per_minute
        passes, used, ends = self._tradier.take(call.key, time.time(), allowed, call.options.window_seconds)
        names = ("Allowed", "Used", "Available", "Expiry")
        values = (allowed, used, allowed - used, round(ends * 1000))
        headers = {f"X-Ratelimit-{name}": str(value) for name, value in zip(names, values, strict=True)}
        if not passes:
            reply = as_text(429, f"Quota Violation: too many requests, try again after {round(ends * 1000)}")
            raise RefusedError(replace(reply, headers=headers))
        return headers

    def _limit_binance(self, options: Options) -> dict[str, str]:
        now, allowed = time.time(), options.binance_weight_per_minute
        passes, used, ends = self._binance.take("address", now, allowed, options.window_seconds, binance.WEIGHT)
        if not passes:
            banned = self._binance.refused("address") > _BANNED_AFTER
            reply = binance_fault("418" if banned else "429", round(now * 1000))
            raise RefusedError(replace(reply, headers={"Retry-After": str(max(1, round(ends - now)))}))
        return {"X-MBX-USED-WEIGHT-1M": str(used)}


def leaks(call: Call) -> bool:
    """Whether a key stands in the URL."""
    return bool(_KEY_IN_URL.search(call.target)) or any(key and key in call.target for key in call.options.keys)


def authorize(call: Call, *, leak: bool) -> None:
    """RefusedError: 401. Binance asks for no key."""
    if call.family == "binance" or (call.key in call.options.keys and not leak):
        return
    if call.family == "tradier":
        raise RefusedError(tradier_fault("401", 0))
    raise RefusedError(polygon_fault("401") if call.key or leak else polygon_error(401, "API Key was not provided"))


def blotted(target: str, options: Options) -> str:
    """The URL without the keys in it."""
    target = _KEY_IN_URL.sub(r"\1***", target)
    for key in filter(None, options.keys):
        target = target.replace(key, "***")
    return target


def bearer(headers: dict[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _too_many(options: Options, wait: float) -> Reply:
    reply = polygon_error(429, TOO_MANY)
    headers = {"Retry-After": str(int(wait) + 1)} if options.retry_after else {}
    return replace(reply, body=b"" if options.limit_body == "empty" else reply.body, headers=headers)
