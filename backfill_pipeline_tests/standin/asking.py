"""What an aggregates request asks for: its path, its parameters, and what the plan makes of its range."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import numpy as np

from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.windows import MINUTE, to_datetime

from .cursors import page_of
from .market import Market
from .replies import ORDER, Call, RefusedError, polygon_error, polygon_fault

AGGREGATES = re.compile(
    r"/v2/aggs/ticker/(?P<ticker>.+)/range/(?P<by>\d+)/(?P<span>[a-z]+)/(?P<low>[^/]+)/(?P<high>[^/]+)"
)
SPANS = ("minute", "hour", "day", "week", "month", "year")
DEFAULT_LIMIT, MAX_LIMIT = 5000, 50_000
_DAY_TEXT = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Asked:
    """`start` included, `end` excluded, microseconds UTC, snapped outward to the bars' own edges."""

    ticker: str
    path_ticker: str  # as it stood in the path
    multiplier: int
    span: str
    low: str
    high: str
    start: int
    end: int
    adjusted: bool
    descending: bool
    limit: int

    @property
    def of_minutes(self) -> bool:
        return self.span in ("minute", "hour")


def parse(call: Call, market: Market) -> Asked:
    """RefusedError: 404 for another path, 400 for a parameter that makes no sense."""
    match = AGGREGATES.fullmatch(call.path)
    if match is None or match["span"] not in SPANS:
        raise RefusedError(polygon_fault("404"))
    ticker, page = unquote(match["ticker"]), page_of(call)
    sessions = market.sessions(ticker)
    start, _ = _edges(match["low"], match["span"], sessions, "from")
    _, end = _edges(match["high"], match["span"], sessions, "to")
    if end <= start and "cursor" not in call.query:  # the last page may be left nothing to hold
        raise RefusedError(polygon_error(400, ORDER))
    sort = page.get("sort", "asc")
    if sort not in ("asc", "desc"):
        raise RefusedError(polygon_error(400, f"sort must be one of (asc, desc), got {sort}"))
    return Asked(
        ticker,
        match["ticker"],
        int(match["by"]) or 1,
        match["span"],
        match["low"],
        match["high"],
        start,
        end,
        call.query.get("adjusted", "true").lower() != "false",
        sort == "desc",
        _limit(page.get("limit", str(DEFAULT_LIMIT))),
    )


def within_plan(asked: Asked, call: Call, market: Market) -> Asked:
    """Clipped to the plan and to now; its end may then lie before its start. RefusedError: the plan's 403."""
    sessions, options = market.sessions(asked.ticker), call.options
    now = options.micros_now()
    today = today_in(sessions, now)
    asked = replace(asked, start=max(asked.start, oldest(asked.start, call, sessions, today)))
    midnight = _midnight(sessions, today)
    if options.today != "served" and asked.end > midnight:
        if options.today == "refused" or asked.start >= midnight:
            raise RefusedError(polygon_fault("403_today"))
        asked = replace(asked, end=midnight)
    return replace(asked, end=min(asked.end, now - now % MINUTE))


def oldest(start: int, call: Call, sessions: Sessions, today: date) -> int:
    """Where the plan's history begins, microseconds UTC. RefusedError where it refuses what begins before."""
    years = call.options.history_years
    if years is None:
        return start
    first = _midnight(sessions, today - timedelta(days=round(years * 365.25)))
    if start < first and call.options.too_old == "refused":
        raise RefusedError(polygon_fault("403_timeframe"))
    return first


def today_in(sessions: Sessions, now: int) -> date:
    return to_datetime(now).astimezone(ZoneInfo(sessions.zone)).date()


def _midnight(sessions: Sessions, day: date) -> int:
    return int(sessions.midnights(np.array([day], dtype="datetime64[D]"))[0])


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise RefusedError(polygon_error(400, f"The parameter 'limit' must be a number, got {text}"))
    if int(text) > MAX_LIMIT:
        raise RefusedError(polygon_error(400, f"The parameter 'limit' cannot be greater than {MAX_LIMIT}"))
    return int(text) or DEFAULT_LIMIT


def _edges(text: str, span: str, sessions: Sessions, name: str) -> tuple[int, int]:
    """Start and end of the day that is named, or of the minute, hour or day around the millisecond."""
    try:
        if _DAY_TEXT.fullmatch(text):
            day = date.fromisoformat(text)
        else:
            moment = datetime.fromtimestamp(int(text) / 1000, UTC)
            if span in ("minute", "hour"):
                unit = MINUTE if span == "minute" else 60 * MINUTE
                micros = int(text) * 1000
                return micros - micros % unit, micros - micros % unit + unit
            day = moment.astimezone(ZoneInfo(sessions.zone)).date()
    except (ValueError, OverflowError):
        raise RefusedError(
            polygon_error(400, f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps")
        ) from None
    return _midnight(sessions, day), _midnight(sessions, day + timedelta(days=1))
