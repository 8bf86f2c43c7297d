"""Plain requests, for the stand-in's own tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import requests

NOW = datetime(2026, 8, 7, 1, 0, tzinfo=UTC)  # Thursday 2026-08-06, 21:00 in New York


class Reader:
    """Plain requests with the key in the header."""

    def __init__(self, standin: Any) -> None:
        self.standin = standin
        self.timeout = 10.0
        self.headers = {"Authorization": f"Bearer {standin.key}", "Accept": "application/json"}

    def get(self, path: str, **params: Any) -> requests.Response:
        return requests.get(self.standin.url + path, params=params, headers=self.headers, timeout=self.timeout)

    def json(self, path: str, **params: Any) -> dict[str, Any]:
        reply = self.get(path, **params)
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        return body
