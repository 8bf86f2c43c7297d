"""next_url: where an answer goes on. Opaque to the client, without the key and without `adjusted`."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

from .replies import Call, RefusedError, polygon_error


def next_url(call: Call, path: str, cursor: str) -> str:
    return f"{call.options.next_url_host or call.origin}{path}?cursor={cursor}"


def page_cursor(limit: int, *, descending: bool) -> str:
    """An aggregates cursor: it decodes to `limit=…&sort=…` and to nothing more."""
    text = f"limit={limit}&sort={'desc' if descending else 'asc'}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def page_of(call: Call) -> dict[str, str]:
    """`limit` and `sort`: the cursor's if there is one, else the query's."""
    cursor = call.query.get("cursor")
    if cursor is None:
        return call.query
    try:
        return dict(parse_qsl(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()))
    except ValueError:
        raise RefusedError(polygon_error(400, "The parameter 'cursor' is not one")) from None


def list_cursor(state: dict[str, Any]) -> str:
    """A cursor of the reference lists: holds `-`, and `=` at its end where the padding gives none."""
    text = base64.urlsafe_b64encode(json.dumps(state, separators=(",", ":")).encode()).decode()
    return f"YXA9-{text}{'' if text.endswith('=') else '='}"


def list_state(cursor: str) -> dict[str, Any]:
    try:
        text = cursor.removeprefix("YXA9-").rstrip("=")
        state = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        raise RefusedError(polygon_error(400, "The parameter 'cursor' is not one")) from None
    assert isinstance(state, dict)
    return state
