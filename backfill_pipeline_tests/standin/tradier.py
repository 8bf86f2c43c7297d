"""Tradier: timesales, history and calendar, with their quirks. Times are New York's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate, make_bars
from backfill_pipeline.domain.sessions import REGULAR
from backfill_pipeline.domain.windows import MINUTE, SECOND, Window, to_datetime, to_micros

from .asking import today_in
from .bars import merged
from .market import Market
from .replies import Call, RefusedError, Reply, as_json, as_text, tradier_too_deep

NEW_YORK = ZoneInfo("America/New_York")
_MINUTES = {"1min": 1, "5min": 5, "15min": 15}
_DEPTH_DAYS = {"1min": {"open": 20, "all": 10}, "5min": {"open": 40, "all": 18}, "15min": {"open": 40, "all": 18}}
Row = dict[str, Any]


def timesales(call: Call, market: Market) -> Reply:
    query, symbol = call.query, call.query.get("symbol", "")
    interval, session = query.get("interval", "1min"), query.get("session_filter", "all")
    if interval not in _MINUTES or session not in ("all", "open"):
        raise RefusedError(as_text(400, f"Invalid parameter, interval: {interval} {session}."))
    now = call.options.micros_now()
    today = today_in(market.sessions("A"), now)
    start = _time(query.get("start", f"{today} 00:00"), "start")
    end = _time(query.get("end", f"{today} 23:59"), "end")
    if call.options.tradier_depth:
        oldest = _midnight_before(today, _DEPTH_DAYS[interval][session])
        if start < oldest:
            raise RefusedError(tradier_too_deep(f"{to_datetime(oldest).astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}"))
    if symbol in market.events.unknown:
        return _json(call, {"series": None, "unmatched_symbols": {"symbol": symbol}})
    end = min(end + MINUTE, now - now % MINUTE)
    bars = _minutes(market, symbol, start, end, session, night=call.options.tradier_night)
    length = _MINUTES[interval] * MINUTE
    bars = merged(bars, bars.ts // length * length) if length > MINUTE else bars
    return _json(call, _wrapped(call, "series", "data", _rows(bars)))


def history(call: Call, market: Market) -> Reply:
    """Split-adjusted days; no weekly or monthly ones."""
    query, symbol = call.query, call.query.get("symbol", "")
    if query.get("interval", "daily") != "daily":
        raise RefusedError(as_text(400, "Invalid parameter, interval: only daily is served here."))
    sessions, now = market.sessions(symbol), call.options.micros_now()
    today = today_in(sessions, now)
    try:
        first = date.fromisoformat(query.get("start", today.isoformat()))
        last = min(date.fromisoformat(query.get("end", today.isoformat())), today)
    except ValueError as error:
        raise RefusedError(as_text(400, f"Invalid parameter, {error}.")) from error
    rows: list[Row] = []
    chosen = sessions.rows_between(first, last)
    for row in range(chosen.start, chosen.stop):
        over = int(sessions.post_close[row]) <= now
        bar = market.day(symbol, row, adjusted=True, until=None if over else now - now % MINUTE)
        if len(bar):
            rows.append({"date": market.ticker_day(symbol, row).isoformat()} | _prices(bar, 0))
    return _json(call, _wrapped(call, "history", "day", rows))


def calendar(call: Call, market: Market) -> Reply:
    now = to_datetime(call.options.micros_now()).astimezone(NEW_YORK)
    month, year = int(call.query.get("month", now.month)), int(call.query.get("year", now.year))
    sessions, day = market.sessions("A"), date(year, month, 1)
    days: list[Row] = []
    while day.month == month:
        found = sessions.rows_between(day, day)
        known: Row = {"date": day.isoformat(), "status": "closed", "description": "Market is closed"}
        if found.stop > found.start:
            opens, close, end = (
                f"{to_datetime(int(column[found.start])).astimezone(NEW_YORK):%H:%M}"
                for column in (sessions.open, sessions.close, sessions.post_close)
            )
            known |= {
                "status": "open",
                "description": "Market is open",
                "premarket": {"start": "07:00", "end": "09:24"},
                "open": {"start": opens, "end": close},
                "postmarket": {"start": close, "end": end},
            }
        days.append(known)
        day += timedelta(days=1)
    return _json(call, {"calendar": {"month": month, "year": year, "days": {"day": days}}})


ROUTES: dict[str, Callable[[Call, Market], Reply]] = {
    "/v1/markets/timesales": timesales,
    "/v1/markets/history": history,
    "/v1/markets/calendar": calendar,
}


def _time(text: str, name: str) -> int:
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            wall = datetime.strptime(text, form).replace(tzinfo=NEW_YORK)
        except ValueError:
            continue
        micros = to_micros(wall)
        return micros - micros % MINUTE
    raise RefusedError(as_text(400, f"Invalid parameter, {name}: must be in the format of YYYY-MM-DD HH:MM."))


def _midnight_before(today: date, days: int) -> int:
    return to_micros(datetime.combine(today - timedelta(days=days), datetime.min.time(), NEW_YORK))


def _minutes(market: Market, symbol: str, start: int, end: int, session: str, *, night: bool) -> Bars:
    if end <= start:
        return make_bars([], [], [], [], [], [])
    sessions, pieces = market.sessions(symbol), []
    for row in market.rows(symbol, Window(start, end)):
        bars = market.session_minutes(symbol, row)
        if session == "open":
            part = sessions.parts.locate(bars.ts)
            bars = bars.take(sessions.parts.segment[part] == REGULAR)
        elif night and len(bars):
            pieces.append(_night(bars, int(sessions.day_start[row])))
        pieces.append(bars)
    return concatenate(pieces).between(start, end)


def _night(bars: Bars, midnight: int) -> Bars:
    """A bar each half hour from 00:00 to 04:00 at the morning's first price, outside of every session."""
    ts = np.arange(midnight, min(midnight + 240 * MINUTE, int(bars.ts[0])), 30 * MINUTE)
    price = np.full(len(ts), bars.open[0])
    return make_bars(ts, price, price, price, price, np.full(len(ts), 100.0), price, np.ones(len(ts)))


def _prices(bars: Bars, place: int) -> Row:
    names = ("open", "high", "low", "close", "volume")
    return {name: float(getattr(bars, name)[place]) for name in names}


def _rows(bars: Bars) -> list[Row]:
    rows = []
    for place, ts in enumerate(bars.ts.tolist()):
        prices, vwap = _prices(bars, place), float(bars.vwap[place])
        rows.append(
            {
                "time": f"{to_datetime(ts).astimezone(NEW_YORK):%Y-%m-%dT%H:%M:%S}",
                "timestamp": ts // SECOND,
                "price": (prices["high"] + prices["low"]) / 2,  # never the close
                **prices,
                "vwap": None if np.isnan(vwap) else vwap,
            }
        )
    return rows


def _wrapped(call: Call, outer: str, inner: str, rows: list[Row]) -> dict[str, Any]:
    """A list of one becomes the one; an empty list one of the four spellings of empty."""
    if rows:
        return {outer: {inner: rows if len(rows) > 1 else rows[0]}}
    spellings: dict[str, dict[str, Any]] = {
        "null": {outer: None},
        "text": {outer: "null"},
        "missing": {},
        "data": {outer: {inner: None}},
    }
    return spellings[call.options.tradier_empty]


def _json(call: Call, body: dict[str, Any]) -> Reply:
    if "json" in call.headers.get("accept", ""):
        return as_json(200, body)
    return Reply(200, ('<?xml version="1.0"?>' + _xml(body)).encode(), "application/xml")


def _xml(value: Any) -> str:
    """What is sent to those who do not ask for JSON."""
    if not isinstance(value, dict):
        return "" if value is None else escape(str(value))
    parts = [(name, one) for name, many in value.items() for one in (many if isinstance(many, list) else [many])]
    return "".join(f"<{name}>{_xml(one)}</{name}>" for name, one in parts)
