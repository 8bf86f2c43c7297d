"""What happens to instruments: splits, dividends, earnings, lifetimes, names. Kept in lists, asked by the market."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Split:
    """`phantom`: dated, but prices do not move. `hidden`: prices move, but nobody is told."""

    symbol: str
    ex_date: date
    split_from: float
    split_to: float
    phantom: bool = False
    hidden: bool = False

    @property
    def price_factor(self) -> float:
        """What a price before it is multiplied by to compare with prices after it: 0.25 for 4:1."""
        return self.split_from / self.split_to


@dataclass(frozen=True)
class Dividend:
    symbol: str
    ex_date: date
    cash_amount: float
    hidden: bool = False
    currency: str = "USD"
    others: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Earnings:
    symbol: str
    day: date
    others: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Name:
    """`instrument` is called `ticker` from `first` to `last`, both included; None: open."""

    instrument: str
    ticker: str
    first: date | None = None
    last: date | None = None

    def holds(self, day: date) -> bool:
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


@dataclass
class Events:
    """Everything that was announced or happened, in the order it was told to the market."""

    splits: list[Split] = field(default_factory=list)
    dividends: list[Dividend] = field(default_factory=list)
    earnings: list[Earnings] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    lifetimes: dict[str, tuple[date | None, date | None]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def happened_to_prices(self, instrument: str, day: date) -> float:
        """The factor on a made-up price of `day`: that of every real split on or before it."""
        real = {s.ex_date: s.price_factor for s in self.splits if s.symbol == instrument and not s.phantom}
        return _product(factor for ex_date, factor in real.items() if ex_date <= day)

    def adjusts(self, instrument: str, day: date) -> float:
        """The provider's factor on a raw price of `day`: that of every split it tells, after that day."""
        told = {s.ex_date: s.price_factor for s in self.splits if s.symbol == instrument and not s.hidden}
        return _product(factor for ex_date, factor in told.items() if ex_date > day)

    def instrument(self, ticker: str, day: date) -> str | None:
        """Whose bars the ticker shows on that day; None for nobody's."""
        named = [name for name in self.names if name.ticker == ticker]
        if not named:
            return ticker
        return next((name.instrument for name in named if name.holds(day)), None)

    def instruments(self, ticker: str) -> list[str]:
        """All that ever bore the ticker, itself where it was never changed."""
        return [name.instrument for name in self.names if name.ticker == ticker] or [ticker]

    def ticker(self, instrument: str, day: date) -> str:
        """What the instrument was called on that day."""
        named = [name for name in self.names if name.instrument == instrument and name.holds(day)]
        return named[-1].ticker if named else instrument

    def listed(self, instrument: str, day: date) -> bool:
        first, last = self.lifetimes.get(instrument, (None, None))
        return (first is None or first <= day) and (last is None or day <= last)


def _product(factors: Any) -> float:
    total = 1.0
    for factor in factors:
        total *= factor
    return total
