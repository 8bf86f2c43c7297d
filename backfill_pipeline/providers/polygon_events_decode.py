"""What Polygon's (now Massive's) lists of splits, dividends and earnings say. No requests here."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from backfill_pipeline.domain.actions import DividendEvent, EarningsEvent, SplitEvent

from .errors import ServerTrouble
from .http import Reply
from .polygon_decode import error_of, read_object

logger = logging.getLogger(__name__)

Row = dict[str, Any]
E = TypeVar("E", SplitEvent, DividendEvent, EarningsEvent)


@dataclass(frozen=True)
class EventPage(Generic[E]):
    """`rows`: how many the page held, those without a ticker or a date included, which are left out of `events`."""

    events: tuple[tuple[str, E], ...]
    rows: int
    next_target: str | None


def read_events(reply: Reply, read_row: Callable[[Row], E]) -> EventPage[E]:
    """One page of a list. Raises ProviderError."""
    body = read_object(reply)
    if body.get("status") in ("ERROR", "NOT_AUTHORIZED", "NOT_FOUND"):
        raise error_of(reply, body)
    rows = body.get("results")
    rows = [] if rows is None else rows
    if not isinstance(rows, list):
        raise ServerTrouble(f"{reply.where}: `results` is no list")
    events = []
    for row in rows:
        try:
            events.append((_ticker(row), read_row(row)))
        except ValueError:
            logger.warning(f"{reply.where}: a row without a ticker or a date is left out: {str(row)[:200]}")
    return EventPage(tuple(events), len(rows), _next_target(body.get("next_url")))


def split_of(row: Row) -> SplitEvent:
    return SplitEvent(
        _day(row, "execution_date"),
        _number(row, "split_from") or 0.0,
        _number(row, "split_to") or 0.0,
        _text(row, "adjustment_type"),
        _text(row, "id"),
    )


def dividend_of(row: Row) -> DividendEvent:
    return DividendEvent(
        _day(row, "ex_dividend_date"),
        _number(row, "cash_amount") or 0.0,
        _text(row, "currency").upper(),
        _day_or_none(row, "declaration_date"),
        _day_or_none(row, "record_date"),
        _day_or_none(row, "pay_date"),
        _text(row, "distribution_type"),
        _count(row, "frequency"),
        _text(row, "id"),
    )


def earnings_of(row: Row) -> EarningsEvent:
    return EarningsEvent(
        _day(row, "date"),
        _text(row, "time"),
        _text(row, "date_status"),
        _count(row, "fiscal_year"),
        _text(row, "fiscal_period"),
        _text(row, "currency").upper(),
        _number(row, "actual_eps"),
        _number(row, "estimated_eps"),
        _number(row, "actual_revenue"),
        _number(row, "estimated_revenue"),
        _text(row, "benzinga_id"),
    )


def _next_target(next_url: object) -> str | None:
    """Path and query of a `next_url`: its cursor is opaque and stays as it is; a key, should there be one, goes."""
    if not isinstance(next_url, str) or not next_url:
        return None
    parts = urlsplit(next_url)
    pairs = [pair for pair in parts.query.split("&") if pair.partition("=")[0].lower() not in ("apikey", "api_key")]
    return f"{parts.path}?{'&'.join(pairs)}"


def _ticker(row: object) -> str:
    ticker = row.get("ticker") if isinstance(row, dict) else None
    if not isinstance(ticker, str) or not ticker:
        raise ValueError("no ticker")
    return ticker


def _day(row: Row, name: str) -> date:
    """Raises ValueError."""
    text = row.get(name)
    if not isinstance(text, str):
        raise ValueError(f"no {name}")
    return date.fromisoformat(text[:10])


def _day_or_none(row: Row, name: str) -> date | None:
    try:
        return _day(row, name)
    except ValueError:
        return None


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(row: Row, name: str) -> int | None:
    number = _number(row, name)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**31 else None


def _text(row: Row, name: str) -> str:
    """Without NUL, which PostgreSQL has no place for."""
    value = row.get(name)
    return value.replace("\0", "") if isinstance(value, str) else ""
