"""Polygon's (now Massive's) reference: since when an instrument is listed, and what it was called. One request each.

Both are optional: what the provider does not know, or the plan does not have, is unknown, and no fault.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from .base import Lifetime
from .errors import NeverServed
from .http import Http
from .polygon_decode import read_object
from .polygon_pages import in_path

# Whoever wants to know can go on without: a server in trouble is not waited for.
_TRIES = 2


def read_lifetime(http: Http, ticker: str) -> Lifetime | None:
    """GET /v3/reference/tickers/{ticker}: who has the ticker now. None where it says nothing. Raises ProviderError."""
    found = _results(http, "/v3/reference/tickers/", ticker, "", f"lifetime of {ticker}")
    if found is None or found.get("ticker", ticker) != ticker:
        return None
    figi = found.get("composite_figi")
    known = figi if isinstance(figi, str) and figi else None
    return Lifetime(_date(found.get("list_date")), _date(found.get("delisted_utc")), known)


def read_changes(http: Http, instrument_id: str) -> tuple[tuple[date, str], ...]:
    """GET /vX/reference/tickers/{id}/events: (day, ticker from that day on), in any order; empty where it says nothing.

    To be asked by composite FIGI: by ticker, it tells of whoever has the ticker now. Raises ProviderError.
    """
    target = "/vX/reference/tickers/", instrument_id, "/events?types=ticker_change"
    found = _results(http, *target, f"names of {instrument_id}")
    events = found.get("events") if found is not None else None
    changes = [_change(event) for event in events] if isinstance(events, list) else []
    return tuple(change for change in changes if change is not None)


def _results(http: Http, before: str, name: str, after: str, what: str) -> dict[str, Any] | None:
    try:
        found = http.get(f"{before}{in_path(name)}{after}", read_object, what=what, tries=_TRIES).get("results")
    except NeverServed:
        return None
    return found if isinstance(found, dict) else None


def _change(event: object) -> tuple[date, str] | None:
    if not isinstance(event, dict) or event.get("type", "ticker_change") != "ticker_change":
        return None
    day, told = _date(event.get("date")), event.get("ticker_change")
    ticker = told.get("ticker") if isinstance(told, dict) else None
    return (day, ticker) if day is not None and isinstance(ticker, str) and ticker else None


def _date(text: object) -> date | None:
    """The date of `2024-03-01` or `2024-03-01T00:00:00Z`; None for anything else."""
    try:
        return date.fromisoformat(text[:10]) if isinstance(text, str) else None
    except ValueError:
        return None
