"""What each fault does to a request or its answer. Damage to single bars stands in row_damage.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from .asking import AGGREGATES, DEFAULT_LIMIT
from .cursors import next_url, page_cursor, page_of
from .faults import CALL_FAULTS, ROW_FAULTS, STATUS_FAULTS, TRADIER_STATUS_FAULTS, Fault
from .replies import (
    HTML_PAGE,
    HTML_TYPE,
    TOO_MANY,
    Call,
    Reply,
    as_json,
    binance_fault,
    parse_query,
    polygon_error,
    polygon_fault,
    tradier_fault,
)
from .row_damage import damaged_rows

Body = dict[str, Any]


def instead(fault: Fault, call: Call) -> Reply | None:
    """The error that a fault of a status answers with, without asking the handler; None for other faults."""
    if fault.name not in STATUS_FAULTS and fault.name not in TRADIER_STATUS_FAULTS:
        return None
    now_ms = call.options.micros_now() // 1000
    if fault.name.startswith("429"):
        return _too_many(fault, call, now_ms)
    if call.family == "tradier" or fault.name in TRADIER_STATUS_FAULTS:
        return tradier_fault(fault.name, now_ms)
    return binance_fault(fault.name, now_ms) if call.family == "binance" else polygon_fault(fault.name)


def _too_many(fault: Fault, call: Call, now_ms: int) -> Reply:
    """429 with the body and Retry-After that the fault's name or options say."""
    empty = fault.name == "429_empty" or fault.options.get("body") == "empty"
    seconds = fault.options.get("retry_after", 1 if fault.name == "429_retry_after" else None)
    if call.family == "polygon":
        reply = polygon_error(429, TOO_MANY)
    else:
        reply = tradier_fault("429", now_ms) if call.family == "tradier" else binance_fault("429", now_ms)
    headers = reply.headers if seconds is None else {**reply.headers, "Retry-After": str(seconds)}
    return replace(reply, body=b"" if empty else reply.body, headers=headers)


def rewritten(fault: Fault, call: Call) -> Call | None:
    """The request that is answered in place of the one that came; None where the fault finds nothing to change."""
    if fault.name not in CALL_FAULTS or call.family != "polygon" or not call.path.startswith("/v2/aggs/"):
        return None
    parts = urlsplit(call.target)
    if fault.name == "other_symbol":
        match = AGGREGATES.fullmatch(call.path)
        if match is None:
            return None
        other = str(fault.options.get("symbol", "MSFT"))
        path = parts.path.replace(f"/ticker/{match['ticker']}/", f"/ticker/{other}/", 1)
        return replace(call, target=parts._replace(path=path).geturl())
    if fault.name == "adjusted_page_2" and "cursor" not in call.query:
        return None
    query = {**parse_query(call.target), "adjusted": "true"}
    return replace(call, target=parts._replace(query=urlencode(query)).geturl(), query={**call.query, **query})


def damaged(fault: Fault, call: Call, reply: Reply) -> Reply | None:
    """The handler's answer with the damage done; None where there is nothing to damage."""
    if fault.name in ("html_200", "empty_200"):
        return Reply(200, HTML_PAGE if fault.name == "html_200" else b"", HTML_TYPE)
    if fault.name == "truncated_json":
        return replace(reply, body=reply.body[: len(reply.body) // 2])
    if fault.name in _TRANSPORTS:
        return replace(reply, transport=fault.name, seconds=float(fault.options.get("seconds", 30.0)))
    if reply.status != 200 or not reply.content_type.startswith("application/json"):
        return None
    body = json.loads(reply.body)
    if fault.name in ROW_FAULTS:
        return damaged_rows(fault, call, reply, body)
    changed = _BODIES[fault.name](body, call)
    return None if changed is None else replace(reply, body=as_json(200, changed).body)


_TRANSPORTS = ("connection_reset", "stalled_headers", "stalled_body", "truncated_gzip", "truncated_body")


def _emptied(spelling: str) -> Callable[[Body, Call], Body | None]:
    def change(body: Body, call: Call) -> Body | None:
        if call.family != "polygon" or not body.get("results"):
            return None
        body = {name: value for name, value in body.items() if name not in ("results", "next_url")}
        body |= {"queryCount": 0, "resultsCount": 0, "count": 0} if "queryCount" in body else {}
        return body if spelling == "absent" else body | {"results": None if spelling == "null" else []}

    return change


def _same_page_again(call: Call) -> str:
    """A next_url that leads to where this page began."""
    asked = page_of(call)
    limit = int(asked.get("limit", DEFAULT_LIMIT))
    return next_url(call, call.path, page_cursor(limit, descending=asked.get("sort") == "desc"))


def _without_results(body: Body, call: Call) -> Body | None:
    """The bars come with the next page: nothing is lost to a client that goes on."""
    if "queryCount" not in body or not body.get("results") or not call.path.startswith("/v2/aggs/ticker/"):
        return None
    body = {name: value for name, value in body.items() if name != "results"}
    return body | {"queryCount": 0, "resultsCount": 0, "count": 0, "next_url": _same_page_again(call)}


def _looping(body: Body, call: Call) -> Body | None:
    return None if "next_url" not in body else body | {"next_url": _same_page_again(call)}


def _other_host(body: Body, call: Call) -> Body | None:
    if "next_url" not in body:
        return None
    parts = urlsplit(body["next_url"])
    return body | {"next_url": parts._replace(scheme="https", netloc="elsewhere.invalid").geturl()}


def _ends_early(body: Body, call: Call) -> Body | None:
    return None if "next_url" not in body else {name: value for name, value in body.items() if name != "next_url"}


def _tradier(change: Callable[[str, str, Body], Body | None]) -> Callable[[Body, Call], Body | None]:
    """Applied with the names of the outer and inner object (series, data; history, day) of an answer with rows."""

    def apply(body: Body, call: Call) -> Body | None:
        for outer, inner in (("series", "data"), ("history", "day")):
            if call.family == "tradier" and isinstance(body.get(outer), dict) and body[outer].get(inner):
                return change(outer, inner, body)
        return None

    return apply


def _single(outer: str, inner: str, body: Body) -> Body:
    rows = body[outer][inner]
    return {outer: {inner: rows[0] if isinstance(rows, list) else rows}}


def _null_prices(outer: str, inner: str, body: Body) -> Body | None:
    """Pre-market rows without prices, as timesales has sent them."""
    rows = body[outer][inner] if isinstance(body[outer][inner], list) else [body[outer][inner]]
    early = [row for row in rows if row.get("time", "")[11:16] < "09:30" and "time" in row]
    for row in early:
        row.update(dict.fromkeys(("open", "high", "low", "close"), None))
    return {outer: {inner: rows}} if early else None


_BODIES: dict[str, Callable[[Body, Call], Body | None]] = {
    "empty_absent": _emptied("absent"),
    "empty_null": _emptied("null"),
    "empty_list": _emptied("list"),
    "page_without_results": _without_results,
    "next_url_loop": _looping,
    "next_url_other_host": _other_host,
    "full_page_without_next_url": _ends_early,
    "tradier_single": _tradier(_single),
    "tradier_null": _tradier(lambda outer, _inner, _body: {outer: None}),
    "tradier_text_null": _tradier(lambda outer, _inner, _body: {outer: "null"}),
    "tradier_missing": _tradier(lambda _outer, _inner, _body: {}),
    "tradier_data_null": _tradier(lambda outer, inner, _body: {outer: {inner: None}}),
    "tradier_null_prices": _tradier(_null_prices),
    "tradier_unmatched": lambda body, call: (
        {"series": None, "unmatched_symbols": {"symbol": call.query.get("symbol", "")}}
        if call.family == "tradier" and "series" in body
        else None
    ),
}
