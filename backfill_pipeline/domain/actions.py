"""Splits, dividends and earnings as providers tell them, and which to believe. How they change prices: adjust.py.

Providers tell splits twice, with a ratio of 1:1, or dated before the price moved. So a split is held against the
stored prices: the open of its ex-date over the close before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

Kind = Literal["splits", "dividends", "earnings"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Smaller ratios cannot be told from news. Of 12,146 nights of five large stocks, splits aside (bokeh_sampledata, from
# 2000 to 2013), 23 moved prices by more than 11.8 %, half way to 1.25; 149 by more than 4.9 %, half way to 1.1.
SMALL_RATIO = 1.25
# A price may halve or double in the night of a split, and no more.
_MOST_NEWS = math.log(2)
# The close before and the open after may lie so many days from the ex-date: longer than any holiday, shorter than a
# stretch that nobody asked for.
NEAR = timedelta(days=10)
# A split is dated wrongly by a few sessions at most.
_NEIGHBOURS = 5
# What the stocks of a calendar are paid in.
_CURRENCIES = {"XNYS": "USD"}


@dataclass(frozen=True)
class SplitEvent:
    """`split_to` new shares for `split_from` old ones; 0 where the provider told no number."""

    ex_date: date
    split_from: float
    split_to: float
    adjustment_type: str = ""
    provider_id: str = ""

    @property
    def day(self) -> date:
        return self.ex_date

    @property
    def ratio(self) -> float | None:
        """New shares per old; None where it is none."""
        if not (0 < self.split_from < math.inf and 0 < self.split_to < math.inf) or self.split_from == self.split_to:
            return None
        return self.split_to / self.split_from

    def __str__(self) -> str:
        return f"{self.split_to:g}:{self.split_from:g}"


@dataclass(frozen=True)
class DividendEvent:
    """`cash_amount` in `currency` per share of the ex-date; 0 where the provider told no number."""

    ex_date: date
    cash_amount: float
    currency: str = ""
    declaration_date: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    distribution_type: str = ""
    frequency: int | None = None
    provider_id: str = ""

    @property
    def day(self) -> date:
        return self.ex_date

    def __str__(self) -> str:
        return f"{self.cash_amount:g} {self.currency}".rstrip()


@dataclass(frozen=True)
class EarningsEvent:
    """A report, past or announced; amounts in `currency`, earnings per share."""

    report_date: date
    report_time: str = ""
    date_status: str = ""
    fiscal_year: int | None = None
    fiscal_period: str = ""
    currency: str = ""
    actual_eps: float | None = None
    estimated_eps: float | None = None
    actual_revenue: float | None = None
    estimated_revenue: float | None = None
    provider_id: str = ""

    @property
    def day(self) -> date:
        return self.report_date


Event = SplitEvent | DividendEvent | EarningsEvent


@dataclass(frozen=True)
class Judgement:
    """`accepted` None: cannot be judged yet, and is judged again by the next run. `reason`: for people."""

    accepted: bool | None
    reason: str


UNJUDGED = Judgement(None, "not judged yet")


def accept(reason: str) -> Judgement:
    return Judgement(accepted=True, reason=reason)


def refuse(reason: str) -> Judgement:
    return Judgement(accepted=False, reason=reason)


def postpone(reason: str) -> Judgement:
    return Judgement(accepted=None, reason=reason)


@dataclass(frozen=True)
class Day:
    """A stored session's first and last price, unadjusted."""

    session: date
    open: float
    close: float


def judge_splits(told: Sequence[SplitEvent], prices: Mapping[date, Sequence[Day]], today: date) -> list[Judgement]:
    """Which of one instrument's splits to believe, in the order given. `prices`: by ex-date, the days around it.

    Told twice alike, a split counts once; told differently for one day, none of them does.
    """
    ratios: dict[date, set[float]] = {}
    for split in told:
        if split.ratio is not None:
            ratios.setdefault(split.ex_date, set()).add(split.ratio)
    judged, seen = [], set()
    for split in told:
        if split.ratio is None:
            judgement = refuse(f"{split} is no split")
        elif len(ratios[split.ex_date]) > 1:
            others = " and ".join(sorted({str(s) for s in told if s.ex_date == split.ex_date and s.ratio is not None}))
            judgement = refuse(f"{others} are told for the same day; neither is used")
        elif (split.ex_date, split.ratio) in seen:
            judgement = refuse("told twice; the other row counts")
        else:
            judgement = _against_prices(split, split.ratio, prices.get(split.ex_date, ()), today)
            seen.add((split.ex_date, split.ratio))
        judged.append(judgement)
    return judged


def _against_prices(split: SplitEvent, ratio: float, days: Sequence[Day], today: date) -> Judgement:
    """`days`: ascending; those far from the ex-date count for nothing."""
    if split.ex_date > today:
        return postpone(f"{split} lies ahead")
    if max(ratio, 1 / ratio) < SMALL_RATIO:
        return accept(
            f"taken as told: prices cannot show {split}, a ratio under {SMALL_RATIO} is lost in a night's moves"
        )
    after = next((i for i, day in enumerate(days) if day.session >= split.ex_date), len(days))
    if after == 0 or split.ex_date - days[after - 1].session > NEAR:
        return postpone(f"{split} cannot be checked: no bar in the {NEAR.days} days before it")
    if after == len(days) or days[after].session - split.ex_date > NEAR:
        return postpone(f"{split} cannot be checked: no bar in the {NEAR.days} days from it on")
    before, first = days[after - 1], days[after]
    figures = (
        f"close {before.close:g} ({before.session}), open {first.open:g} ({first.session}):"
        f" a factor of {_jump(days, after):.3g} where {split} makes {1 / ratio:.3g}"
    )
    if _fits(days, after, ratio):
        return accept(figures)
    near = range(max(1, after - _NEIGHBOURS), min(len(days), after + _NEIGHBOURS + 1))
    moved = min((i for i in near if _fits(days, i, ratio)), key=lambda i: abs(i - after), default=None)
    where = "no session near it shows one" if moved is None else f"prices moved so on {days[moved].session}"
    return refuse(f"{figures}; {where}")


def _jump(days: Sequence[Day], i: int) -> float:
    return days[i].open / days[i - 1].close


def _fits(days: Sequence[Day], i: int, ratio: float) -> bool:
    """Whether the night before `days[i]` looks like the split: on a scale of logarithms nearer to it than to no split,
    and than to twice it; and the rest is no more than news can do.
    """
    rest = abs(math.log(_jump(days, i) * ratio))
    return rest <= min(abs(math.log(ratio)) / 2, _MOST_NEWS)


def judge_dividends(told: Sequence[DividendEvent], calendar: str, today: date) -> list[Judgement]:
    """Which of one instrument's payments to believe, in the order given. A regular and a special one of the same day
    both count; two regular ones that differ do not.
    """
    amounts: dict[tuple[date, str], set[tuple[float, str]]] = {}
    for one in told:
        if one.cash_amount > 0:
            amounts.setdefault((one.ex_date, one.distribution_type), set()).add((one.cash_amount, one.currency))
    currency = _CURRENCIES.get(calendar)
    judged = []
    for one in told:
        if not 0 < one.cash_amount < math.inf:
            judgement = refuse(f"a payment of {one} is none")
        elif currency is not None and one.currency != currency:
            judgement = refuse(f"{one} is not in {currency}, which {calendar} trades in")
        elif len(amounts[one.ex_date, one.distribution_type]) > 1:
            others = " and ".join(f"{a:g} {c}" for a, c in sorted(amounts[one.ex_date, one.distribution_type]))
            judgement = refuse(f"{others} are told for the same day; neither is used")
        elif one.ex_date > today:
            judgement = postpone(f"{one} lies ahead")
        else:
            judgement = accept("as told")
        judged.append(judgement)
    return judged
