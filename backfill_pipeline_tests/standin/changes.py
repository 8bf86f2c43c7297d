"""The verbs by which a test changes the market; see the package's text."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

from backfill_pipeline.domain.windows import Window, to_micros

from .events import Dividend, Earnings, Events, Name, Split

_COLUMNS = frozenset({"open", "high", "low", "close", "volume", "vwap", "trades"})
_VERBS = (
    "withhold",
    "silence",
    "restate",
    "restate_day",
    "unknown",
    "list_from",
    "rename",
    "split",
    "dividend",
    "earnings",
)
_ISO = re.compile(r"\d{4}-\d\d-\d\d(T.+)?")


def is_crypto(symbol: str) -> bool:
    """Traded around the clock: `X:BTCUSD`, `C:EURUSD`, and Binance's pairs."""
    return symbol.startswith(("X:", "C:")) or (symbol.endswith("USDT") and len(symbol) > 4)


class Changes:
    """What was changed, by symbol, and the verbs that change it."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.version = 0
        self.withheld: dict[str, list[Window]] = {}
        self.silenced: dict[str, list[Window]] = {}
        self.restated: dict[str, dict[int, dict[str, Any]]] = {}
        self.restated_days: dict[str, dict[int, dict[str, Any]]] = {}

    def forget(self) -> None:
        """Everything worked out before a change is void."""
        self.version += 1

    def withhold(self, symbol: str, start: datetime, end: datetime) -> None:
        self.withheld.setdefault(symbol, []).append(Window(to_micros(start), to_micros(end)))
        self.forget()

    def silence(self, symbol: str, start: datetime, end: datetime) -> None:
        self.silenced.setdefault(symbol, []).append(Window(to_micros(start), to_micros(end)))
        self.forget()

    def restate(self, symbol: str, at: datetime, **columns: float) -> None:
        self.restated.setdefault(symbol, {}).setdefault(to_micros(at), {}).update(_checked(columns))
        self.forget()

    def restate_day(self, symbol: str, day: date, **columns: float) -> None:
        start = self._day_start(symbol, day)
        self.restated_days.setdefault(symbol, {}).setdefault(start, {}).update(_checked(columns))
        self.forget()

    def unknown(self, symbol: str) -> None:
        self.events.unknown.add(symbol)
        self.forget()

    def list_from(self, symbol: str, first: date | None = None, last: date | None = None) -> None:
        self.events.lifetimes[symbol] = (first, last)
        self.forget()

    def rename(self, old: str, new: str, on: date) -> None:
        """The instrument keeps the name of its first ticker in `symbols`, splits and lifetimes."""
        names = self.events.names
        before = next((name for name in names if name.ticker == old and name.last is None), Name(old, old))
        if before in names:
            names.remove(before)
        names.append(Name(before.instrument, old, before.first, on - timedelta(days=1)))
        names.append(Name(before.instrument, new, on))
        self.forget()

    def split(
        self,
        symbol: str,
        ex_date: date,
        split_from: float,
        split_to: float,
        *,
        phantom: bool = False,
        hidden: bool = False,
    ) -> None:
        self.events.splits.append(Split(symbol, ex_date, split_from, split_to, phantom, hidden))
        self.forget()

    def dividend(
        self,
        symbol: str,
        ex_date: date,
        cash_amount: float,
        *,
        hidden: bool = False,
        currency: str = "USD",
        **others: Any,
    ) -> None:
        self.events.dividends.append(Dividend(symbol, ex_date, cash_amount, hidden, currency, others))
        self.forget()

    def earnings(self, symbol: str, day: date, **others: Any) -> None:
        self.events.earnings.append(Earnings(symbol, day, others))
        self.forget()

    def change(self, description: dict[str, list[Any]]) -> None:
        """Verbs with a list of calls; a call is a list of positional arguments or an object of named ones."""
        for verb, calls in description.items():
            if verb not in _VERBS:
                raise ValueError(f"the market has no verb {verb!r}; use one of {', '.join(_VERBS)}")
            for call in calls:
                named = call if isinstance(call, dict) else {}
                placed = [call] if isinstance(call, str) else [] if named else call
                getattr(self, verb)(*map(_moment, placed), **{name: _moment(value) for name, value in named.items()})

    def _day_start(self, symbol: str, day: date) -> int:
        raise NotImplementedError


def _moment(value: Any) -> Any:
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return value
    return datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)


def _checked(columns: dict[str, float]) -> dict[str, float]:
    if wrong := columns.keys() - _COLUMNS:
        raise ValueError(f"bars have no column {', '.join(sorted(wrong))}; use {', '.join(sorted(_COLUMNS))}")
    return columns
