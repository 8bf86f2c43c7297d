"""From a request to an answer: the gate, the fault that strikes, the handler. No sockets here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from . import binance, polygon_reference, tradier
from .asking import AGGREGATES
from .damage import damaged, instead, rewritten
from .faults import CALL_FAULTS, Fault, Faults
from .gate import Gate, authorize, bearer, blotted, leaks
from .journal import Journal, Seen
from .market import Market
from .options import Options
from .polygon_aggs import GROUPED, Aggregates, grouped
from .replies import Call, RefusedError, Reply, as_text, parse_query, polygon_error, polygon_fault

_ROUTES: dict[str, Callable[[Call, Market], Reply]] = {
    **tradier.ROUTES,
    binance.KLINES: binance.klines,
    "/stocks/v1/splits": polygon_reference.splits,
    "/v3/reference/splits": polygon_reference.splits,
    "/stocks/v1/dividends": polygon_reference.dividends,
    "/v3/reference/dividends": polygon_reference.dividends,
    "/benzinga/v1/earnings": polygon_reference.earnings,
}
_PATTERNS = (
    (GROUPED, grouped),
    (polygon_reference.TICKER_EVENTS, polygon_reference.ticker_events),
    (polygon_reference.TICKER, polygon_reference.ticker),
)
_SILENT = ("connection_reset", "stalled_headers")


class Service:
    """Answers of one stand-in, and all that it remembers."""

    def __init__(self, market: Market, options: Options) -> None:
        self.market = market
        self.options = options
        self.faults = Faults()
        self.journal = Journal()
        self._gate = Gate()
        self._aggregates = Aggregates(market)

    def set(self, **changes: Any) -> None:
        self.options = self.options.changed(**changes)

    def reset(self) -> None:
        """Forgets requests, limits in use and faults; keeps options and the market."""
        self.faults.clear()
        self.journal.clear()
        self._gate.clear()

    def answer(self, method: str, target: str, headers: dict[str, str], origin: str) -> Reply:
        """The reply to a request that has just arrived; it is written down before it is sent."""
        arrived = time.time()
        call = Call(method, target, headers, origin, self.options, bearer(headers), parse_query(target))
        leak, limited, fault = leaks(call), False, ""
        try:
            authorize(call, leak=leak)
            extra = self._gate.limit(call)
            reply, fault = self._met(call)
            reply = replace(reply, headers={**extra, **reply.headers})
        except RefusedError as refused:
            reply, limited = refused.reply, refused.reply.status in (418, 429)
        status = 0 if reply.transport in _SILENT else reply.status
        path = blotted(target, self.options)
        self.journal.add(Seen(method, path, arrived, status, call.family, fault, limited, leak))
        return reply

    def _met(self, call: Call) -> tuple[Reply, str]:
        """The answer, and the name of the fault that struck it, if one did."""
        fault = self.faults.take(call.target)
        if fault is None or fault.name == "ok":
            return self._handled(call), ""
        reply = self._struck(call, fault)
        if reply is not None:
            return reply, fault.name
        self.faults.give_back(fault)
        return self._handled(call), ""

    def _struck(self, call: Call, fault: Fault) -> Reply | None:
        """None where the fault found nothing to damage."""
        reply = instead(fault, call)
        if reply is not None:
            return reply
        if fault.name not in CALL_FAULTS:
            return damaged(fault, call, self._handled(call))
        other = rewritten(fault, call)
        reply = self._handled(other) if other else None
        if reply is not None and fault.options.get("lie"):
            # Adjusted prices that say they are not.
            reply = replace(reply, body=reply.body.replace(b'"adjusted":true', b'"adjusted":false', 1))
        return reply

    def _handled(self, call: Call) -> Reply:
        if call.method != "GET":
            return as_text(405, "Method Not Allowed", Allow="GET")
        try:
            if call.family == "polygon" and any(text in call.path for text in call.options.not_entitled):
                return polygon_fault("403_entitled")
            return self._routed(call)
        except RefusedError as refused:
            return refused.reply

    def _routed(self, call: Call) -> Reply:
        if AGGREGATES.fullmatch(call.path):
            return self._aggregates.answer(call)
        if call.path in _ROUTES:
            return _ROUTES[call.path](call, self.market)
        for pattern, handler in _PATTERNS:
            if pattern.fullmatch(call.path):
                return handler(call, self.market)
        return polygon_error(404, "page not found") if call.family == "polygon" else as_text(404, "Not Found")
