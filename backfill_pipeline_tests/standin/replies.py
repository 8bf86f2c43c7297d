"""Calls and replies, and every error body in the words of its provider."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from .options import Options

Family = Literal["polygon", "tradier", "binance"]

JSON_TYPE, TEXT_TYPE, HTML_TYPE = "application/json", "text/plain; charset=utf-8", "text/html; charset=utf-8"
HTML_PAGE = b"<html>\n<head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body>\n</html>\n"
UPGRADE = "Please upgrade your plan at https://polygon.io/pricing"


@dataclass(frozen=True)
class Call:
    """A request as it arrived. `path` is still percent-encoded; `query` has the last value of each name."""

    method: str
    target: str
    headers: dict[str, str]
    origin: str  # this server's own scheme, host and port
    options: Options
    key: str = ""
    query: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def family(self) -> Family:
        if self.path.startswith("/v1/markets/"):
            return "tradier"
        return "binance" if self.path.startswith("/api/v3/") else "polygon"


@dataclass(frozen=True)
class Reply:
    """What is sent. `transport`: how sending goes wrong; empty for as it should."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)
    transport: str = ""
    seconds: float = 0.0


class RefusedError(Exception):
    """The handler's answer is an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body.decode())
        self.reply = reply


def parse_query(target: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))


def new_request_id() -> str:
    return uuid.uuid4().hex


def as_json(status: int, body: Any, **headers: str) -> Reply:
    """A JSON reply; header names with `_` for `-`. NaN is written as the bare word, as broken servers do."""
    text = json.dumps(body, separators=(",", ":"))
    return Reply(status, text.encode(), JSON_TYPE, {name.replace("_", "-"): value for name, value in headers.items()})


def as_text(status: int, text: str, **headers: str) -> Reply:
    return Reply(status, text.encode(), TEXT_TYPE, {name.replace("_", "-"): value for name, value in headers.items()})


def polygon_error(status: int, text: str, word: str = "") -> Reply:
    """`error` carries the text with 400, 401 and 429, `message` with 403 and 404."""
    word = word or {403: "NOT_AUTHORIZED", 404: "NOT_FOUND"}.get(status, "ERROR")
    key = "message" if status in (403, 404) else "error"
    return as_json(status, {"status": word, "request_id": new_request_id(), key: text})


TOO_MANY = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. "
    "https://polygon.io/pricing"
)
ORDER = "The parameter 'to' cannot be a time that occurs before 'from'"

POLYGON: dict[str, tuple[int, str]] = {
    "429": (429, TOO_MANY),
    "403_timeframe": (403, f"Your plan doesn't include this data timeframe. {UPGRADE}"),
    "403_today": (403, f"Attempted to request today's data before end of day. {UPGRADE}"),
    "403_entitled": (403, f"You are not entitled to this data. {UPGRADE}"),
    "401": (401, "Unknown API Key"),
    "400_order": (400, ORDER),
    "400_parameter": (400, "The parameter 'limit' cannot be greater than 50000"),
    "404": (404, "Data not found."),
    "500": (500, "Internal server error"),
    "501": (501, "Not implemented"),
    "503": (503, "Service unavailable"),
}


def polygon_fault(name: str) -> Reply:
    """The documented answer of that name; gateways (502, 504) answer in HTML, not JSON."""
    if name in POLYGON:
        return polygon_error(*POLYGON[name])
    return Reply(int(name), HTML_PAGE, HTML_TYPE)


def tradier_fault(name: str, now_ms: int) -> Reply:
    """Tradier speaks plain text, or JSON of its gateway."""
    faults = {
        "tradier_token_expired": (401, "Access Token expired", "keymanagement.service.access_token_expired"),
        "tradier_datastore": (500, "Datastore Error", "datastore.ErrorWhileAccessingDataStore"),
        "tradier_too_big": (502, "Body buffer overflow", "protocol.http.TooBigBody"),
    }
    if name in faults:
        status, text, code = faults[name]
        return as_json(status, {"fault": {"faultstring": text, "detail": {"errorcode": code}}})
    if name in ("429", "tradier_quota"):
        return as_text(429, f"Quota Violation: too many requests, try again after {now_ms // 60_000 * 60_000 + 60_000}")
    if name == "401":
        return as_text(401, "Invalid Access Token")
    if name.startswith("403"):
        return as_text(403, "Forbidden")
    if name.startswith("400") or name == "tradier_depth":
        return (
            tradier_too_deep("2026-02-27 00:00:00") if name != "400_order" else as_text(400, "Invalid parameter, end")
        )
    return Reply(int(name), HTML_PAGE, HTML_TYPE)


def tradier_too_deep(boundary: str) -> Reply:
    return as_text(400, f"Invalid parameter, start: must be on or after {boundary}.")


def binance_fault(name: str, now_ms: int) -> Reply:
    if name == "429":
        text = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
        return as_json(429, {"code": -1003, "msg": text}, Retry_After="1")
    if name == "418":
        text = f"Way too much request weight used; IP banned until {now_ms + 120_000}."
        return as_json(418, {"code": -1003, "msg": text}, Retry_After="120")
    if name.startswith("400"):
        return as_json(400, {"code": -1100, "msg": "Illegal characters found in a parameter."})
    if name.startswith(("401", "403", "404")):
        return as_json(int(name[:3]), {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
    return Reply(int(name), HTML_PAGE, HTML_TYPE)
