"""Splits and dividends: the basis of a bar, and bringing bars and features from one basis to another.

A split of ratio 4 (new shares per old) makes four shares of one at its ex-date: from that session's first bar
on, pre-market included, prices are a quarter. Stored bars keep the basis of their own day. A dividend scales the
prices before its ex-date by 1 - cash / close and leaves volume alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backfill_pipeline.domain.bars import Micros
from backfill_pipeline.domain.feature_list import FEATURES
from backfill_pipeline.domain.resample import iso_monday
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import DAY

Floats = NDArray[np.float64]
Dates = NDArray[np.datetime64]

PRICE_COLUMNS = frozenset({"open", "high", "low", "close", "vwap", *(f.name for f in FEATURES if f.price_unit)})
SHARE_COLUMNS = frozenset({"volume"})


@dataclass(frozen=True)
class Split:
    """One split: 4.0 for 4:1, 0.1 for a 1:10 reverse split. Raises ValueError for a ratio that is none."""

    ex_date: date
    ratio: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ratio) and self.ratio > 0 and self.ratio != 1):
            raise ValueError(
                f"split of {self.ex_date}: ratio {self.ratio!r} is not one; "
                "give new shares per old, for example 4.0 for 4:1 or 0.1 for 1:10"
            )


@dataclass(frozen=True)
class Dividend:
    """A cash payment per share of its ex-date, in `currency` (`USD`)."""

    ex_date: date
    cash: float
    currency: str


@dataclass(frozen=True)
class DividendStep:
    """What the payments of one ex-date do: prices of the sessions before it are multiplied by `factor`, in (0, 1)."""

    ex_date: date
    factor: float


def split_factors(sessions: Dates, splits: Sequence[Split], as_of: date | None = None) -> Floats:
    """Price factor, float64[n], that brings each bar to the basis of `as_of` (None: after the last split).

    `sessions` are datetime64[D], non-decreasing. The factor is the product of 1 / ratio over the splits with
    session < ex_date <= as_of, so bars later than `as_of` keep the basis they have. Raises ValueError where two
    splits of one date disagree.
    """
    shares = np.ones(sessions.size)
    known = [split for split in _in_order(splits) if as_of is None or split.ex_date <= as_of]
    for split, before in zip(known, _bars_before(sessions, known), strict=True):
        shares[:before] *= split.ratio
    return 1.0 / shares


def dividend_steps(
    dividends: Sequence[Dividend], closes: Mapping[date, tuple[date, float]], splits: Sequence[Split], currency: str
) -> tuple[list[DividendStep], list[str]]:
    """The step of each ex-date in order, and a line for each payment that gives none.

    factor = 1 - cash / close, where close is the last one before the ex-date on the share basis of the ex-date: on
    one day the split comes first. Payments of one day add up. `closes`: by ex-date, the last session before it and
    its unadjusted close. Refused: another currency than `currency`, cash that is none or not below the close, and
    an ex-date without a close.
    """
    refused = [f"{_told(paid)} is not in {currency}" for paid in dividends if paid.currency.upper() != currency]
    by_date: dict[date, float] = {}
    for paid in dividends:
        if paid.currency.upper() == currency:
            by_date[paid.ex_date] = by_date.get(paid.ex_date, 0.0) + paid.cash
    steps = []
    for ex_date, cash in sorted(by_date.items()):
        told = _told(Dividend(ex_date, cash, currency))
        if ex_date not in closes:
            refused.append(f"{told}: no close of a session before it is stored")
            continue
        session, raw = closes[ex_date]
        close = raw * float(split_factors(np.array([session], dtype="datetime64[D]"), splits, ex_date)[0])
        if 0 < cash < close:
            steps.append(DividendStep(ex_date, 1 - cash / close))
        else:
            refused.append(f"{told} is not between 0 and the close before it, {close:g}")
    return steps, refused


def dividend_factors(sessions: Dates, steps: Sequence[DividendStep], as_of: date | None = None) -> Floats:
    """Price factor, float64[n]: the product over the steps with session < ex_date <= as_of (None: all of them).

    `sessions` as for `split_factors`; the two factors multiply.
    """
    factors = np.ones(sessions.size)
    known = [step for step in steps if as_of is None or step.ex_date <= as_of]
    for step, before in zip(known, _bars_before(sessions, known), strict=True):
        factors[:before] *= step.factor
    return factors


def basis_sessions(ts: Micros, sessions: Sessions, timeframe: Timeframe) -> Dates:
    """The day whose share basis each bar is on, datetime64[D]: its session; of a week its Sunday, where it closes.

    `ts`: starts of bars of `timeframe`, ascending, any segment.
    """
    if timeframe == "1w":
        return iso_monday(((ts + DAY) // DAY).astype("datetime64[D]")) + np.timedelta64(6, "D")
    return sessions.session[np.searchsorted(sessions.day_start, ts, side="right") - 1]


def split_basis(sessions: Dates, splits: Sequence[Split]) -> Floats:
    """Shares that one share of the first bar has become, float64[n]: 1.0, and 4.0 from a 4:1 ex-date on.

    `sessions` as for `split_factors`. Counted forward, so a new split changes nothing before its ex-date.
    """
    basis = np.ones(sessions.size)
    known = _in_order(splits)
    for split, before in zip(known, _bars_before(sessions, known), strict=True):
        if before > 0:
            basis[before:] *= split.ratio
    return basis


def own_basis(basis: Floats) -> Floats | None:
    """The same basis counted from the first bar of this piece of it; None where it never changes.

    A quotient of two products may miss the ratio by a rounding error that tells what came before the piece;
    the nearest fraction with a denominator of up to a million is the same whatever came before.
    """
    changes = np.flatnonzero(basis[1:] != basis[:-1]) + 1
    if not changes.size:
        return None
    own = np.ones(basis.size)
    for change in changes:
        own[change:] *= _as_fraction(float(basis[change] / basis[change - 1]))
    return own


def apply_factors(
    columns: Mapping[str, NDArray[Any]], factors: Floats, dividends: Floats | None = None
) -> dict[str, NDArray[Any]]:
    """Bars or features, column by column, on another basis; nothing given is changed in place.

    PRICE_COLUMNS (prices, vwap and the features in units of price) are multiplied by the splits' factor, and by that
    of `dividends`; SHARE_COLUMNS (volume) divided by the splits' factor alone, because a payment makes no shares;
    trades, returns, ratios, dollar volume and all others stay.
    """
    price_factors = factors if dividends is None else factors * dividends
    adjusted = {}
    for name, values in columns.items():
        if name in PRICE_COLUMNS:
            adjusted[name] = values * price_factors
        elif name in SHARE_COLUMNS:
            adjusted[name] = values / factors
        else:
            adjusted[name] = values
    return adjusted


def _in_order(splits: Sequence[Split]) -> list[Split]:
    """By ex-date, equal duplicates once."""
    by_date: dict[date, Split] = {}
    for split in splits:
        other = by_date.setdefault(split.ex_date, split)
        if other != split:
            raise ValueError(
                f"two splits of {split.ex_date} disagree: {other.ratio!r} and {split.ratio!r}; accept one of them"
            )
    return [by_date[day] for day in sorted(by_date)]


def _told(paid: Dividend) -> str:
    return f"dividend of {paid.ex_date}: {paid.cash:g} {paid.currency}"


def _bars_before(sessions: Dates, events: Sequence[Split | DividendStep]) -> list[int]:
    """How many bars have a session before each ex-date."""
    ex_dates = np.array([event.ex_date for event in events], dtype="datetime64[D]")
    return [int(place) for place in np.searchsorted(sessions.astype("datetime64[D]"), ex_dates, side="left")]


def _as_fraction(ratio: float) -> float:
    fraction = float(Fraction(ratio).limit_denominator(1_000_000))
    return fraction if abs(fraction - ratio) <= 4 * np.finfo(np.float64).eps * ratio else ratio
