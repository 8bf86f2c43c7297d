"""Polygon's reference lists: splits, dividends, earnings, tickers and their events."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import unquote

from .changes import is_crypto
from .cursors import list_cursor, list_state, next_url
from .events import Dividend, Split
from .market import Market
from .replies import Call, RefusedError, Reply, as_json, new_request_id, polygon_error, polygon_fault

Row = dict[str, Any]
TICKER = re.compile(r"/v3/reference/tickers/(?P<ticker>.+)")
TICKER_EVENTS = re.compile(r"/vX/reference/tickers/(?P<id>.+)/events")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "any_of": lambda value, wanted: value in wanted.split(","),
}


def identifier(*words: object) -> str:
    return "E" + hashlib.sha256(repr(words).encode()).hexdigest()


def figi(instrument: str) -> str:
    """The composite FIGI of an instrument: the same whatever it is called."""
    return "BBG" + hashlib.sha256(instrument.encode()).hexdigest()[:9].upper()


def splits(call: Call, market: Market) -> Reply:
    rows = [split_row(market, number) for number, split in enumerate(market.events.splits) if not split.hidden]
    if call.path.startswith("/v3/"):
        old = ("id", "execution_date", "split_from", "split_to", "ticker")
        return _listed(call, [{name: row[name] for name in old} for row in rows], "execution_date", 10, 1000)
    return _listed(call, rows, "execution_date", 100, 5000)


def split_row(market: Market, number: int) -> Row:
    split = market.events.splits[number]
    told = [s for s in market.events.splits if s.symbol == split.symbol and not s.hidden and s.ex_date >= split.ex_date]
    factor = 1.0
    for one in {s.ex_date: s for s in told}.values():
        factor *= one.price_factor
    return {
        "id": identifier("split", number, split),
        "ticker": market.events.ticker(split.symbol, split.ex_date),
        "execution_date": split.ex_date.isoformat(),
        "split_from": split.split_from,
        "split_to": split.split_to,
        "adjustment_type": _split_kind(split),
        "historical_adjustment_factor": factor,
    }


def _split_kind(split: Split) -> str:
    if split.split_to < split.split_from:
        return "reverse_split"
    return "forward_split" if split.split_to >= 1.25 * split.split_from else "stock_dividend"


def dividends(call: Call, market: Market) -> Reply:
    rows = [dividend_row(market, number) for number, one in enumerate(market.events.dividends) if not one.hidden]
    if call.path.startswith("/v3/"):
        new = ("distribution_type", "split_adjusted_cash_amount", "historical_adjustment_factor")
        rows = [
            {name: value for name, value in row.items() if name not in new} | {"dividend_type": "CD"} for row in rows
        ]
        return _listed(call, rows, "ex_dividend_date", 10, 1000)
    return _listed(call, rows, "ex_dividend_date", 100, 5000)


def dividend_row(market: Market, number: int) -> Row:
    one = market.events.dividends[number]
    later = [d for d in market.events.dividends if d.symbol == one.symbol and not d.hidden and d.ex_date >= one.ex_date]
    factor = 1.0
    for other in later:
        factor *= _dividend_factor(market, other)
    row = {
        "id": identifier("dividend", number, one.symbol, one.ex_date, one.cash_amount),
        "ticker": market.events.ticker(one.symbol, one.ex_date),
        "ex_dividend_date": one.ex_date.isoformat(),
        "declaration_date": (one.ex_date - timedelta(days=21)).isoformat(),
        "record_date": (one.ex_date + timedelta(days=1)).isoformat(),
        "pay_date": (one.ex_date + timedelta(days=14)).isoformat(),
        "cash_amount": one.cash_amount,
        "split_adjusted_cash_amount": one.cash_amount * market.events.adjusts(one.symbol, one.ex_date),
        "currency": one.currency,
        "distribution_type": "recurring",
        "frequency": 4,
        "historical_adjustment_factor": factor,
    }
    # A field told as None is missing from the row, as declaration_date sometimes is.
    return {name: value for name, value in (row | one.others).items() if value is not None}


def _dividend_factor(market: Market, one: Dividend) -> float:
    """1 - amount / close before the ex-date, both in the shares of the ex-date."""
    ticker = market.events.ticker(one.symbol, one.ex_date - timedelta(days=1))
    close = market.previous_close(ticker, one.ex_date)
    if close is None:
        return 1.0
    basis = market.events.adjusts(one.symbol, one.ex_date - timedelta(days=1)) / market.events.adjusts(
        one.symbol, one.ex_date
    )
    return 1 - one.cash_amount / (close * basis)


def earnings(call: Call, market: Market) -> Reply:
    rows = [
        {"ticker": market.events.ticker(one.symbol, one.day), "date": one.day.isoformat()} | one.others
        for one in market.events.earnings
    ]
    return _listed(call, rows, "date", 100, 50_000)


def ticker(call: Call, market: Market) -> Reply:
    match = TICKER.fullmatch(call.path)
    name = unquote(match["ticker"]) if match else ""
    instrument = market.events.instruments(name)[-1]
    if name in market.events.unknown:
        raise RefusedError(polygon_fault("404"))
    first, last = market.events.lifetimes.get(instrument, (None, None))
    found: Row = {
        "ticker": name,
        "name": f"{name} Made-up Company",
        "market": "crypto" if is_crypto(name) else "stocks",
        "locale": "us",
        "primary_exchange": "XNAS",
        "type": "CS",
        "active": last is None and market.events.ticker(instrument, date.max) == name,
        "currency_name": "usd",
        "composite_figi": figi(instrument),
    }
    if first is not None:
        found["list_date"] = first.isoformat()
    if last is not None:
        found["delisted_utc"] = f"{last.isoformat()}T04:00:00Z"
    return as_json(200, {"request_id": new_request_id(), "results": found, "status": "OK"})


def ticker_events(call: Call, market: Market) -> Reply:
    """By ticker or by composite FIGI; oldest name last, as the provider lists them."""
    match = TICKER_EVENTS.fullmatch(call.path)
    asked = unquote(match["id"]) if match else ""
    known = {figi(name.instrument): name.instrument for name in market.events.names}
    instrument = known.get(asked) or market.events.instruments(asked)[-1]
    names = [name for name in market.events.names if name.instrument == instrument]
    if asked in market.events.unknown or not names:
        raise RefusedError(polygon_fault("404"))
    listed = market.events.lifetimes.get(instrument, (None, None))[0]
    changes = [
        {"ticker_change": {"ticker": name.ticker}, "type": "ticker_change", "date": first.isoformat()}
        for name in names
        if (first := name.first or listed) is not None
    ]
    body = {"name": f"{instrument} Made-up Company", "composite_figi": figi(instrument), "events": changes[::-1]}
    return as_json(200, {"results": body, "status": "OK", "request_id": new_request_id()})


def _listed(call: Call, rows: list[Row], by: str, default: int, most: int) -> Reply:
    """Filtered, sorted, and cut into pages whose next_url holds everything in its cursor."""
    first: dict[str, Any] = {"at": 0, "q": call.query}
    state = list_state(call.query["cursor"]) if "cursor" in call.query else first
    query, at = state["q"], state["at"]
    limit = query.get("limit", str(default))
    if not limit.isdecimal() or not 0 < int(limit) <= most:
        raise RefusedError(polygon_error(400, f"The parameter 'limit' must be between 1 and {most}"))
    for text, wanted in query.items():
        name, _, word = text.partition(".")
        if name not in ("limit", "sort", "order", "apiKey"):
            rows = _filtered(rows, text, name, word, wanted)
    # v1 writes `sort=execution_date.desc`, v3 `sort=execution_date&order=desc`; the newest come first by default.
    column, _, order = query.get("sort", by).partition(".")
    order = order or query.get("order", "asc" if "sort" in query else "desc")
    rows = sorted(rows, key=lambda row: (str(row.get(column, "")), row["ticker"]), reverse=order == "desc")
    page = rows[at : at + int(limit)]
    body: Row = {"status": "OK", "request_id": new_request_id(), "results": page}
    if at + len(page) < len(rows):
        body["next_url"] = next_url(call, call.path, list_cursor({"at": at + len(page), "q": query}))
    return as_json(200, body)


def _filtered(rows: list[Row], text: str, name: str, word: str, wanted: str) -> list[Row]:
    compare = _OPERATORS.get(word)
    if compare is None or (rows and not any(name in row for row in rows)):
        raise RefusedError(polygon_error(400, f"The parameter '{text}' is not known"))

    def fits(row: Row) -> bool:
        if name not in row:
            return False
        value = row[name]
        return compare(value, wanted if isinstance(value, str) or word == "any_of" else float(wanted))

    return [row for row in rows if fits(row)]
