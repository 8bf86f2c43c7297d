"""What a person or a schedule asks to be backfilled, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from backfill_pipeline.domain.instruments import check_symbol
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.domain.timeframe import CHAINS, TIMEFRAMES, Chain, Timeframe, chain_of, parse_timeframe

MOST_SYMBOLS = 100


class RequestError(ValueError):
    """One line that names the wrong argument, its value and what is allowed."""


@dataclass(frozen=True)
class BackfillRequest:
    """Session dates `start` to `end`, both included, of the chains that `timeframes` belong to.

    `as_followed`: nobody named timeframes; of each symbol only the chains it is followed in.
    """

    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    start: date
    end: date
    as_followed: bool = False

    @property
    def chains(self) -> tuple[Chain, ...]:
        chosen = {chain_of(timeframe).name for timeframe in self.timeframes}
        return tuple(chain for chain in CHAINS if chain.name in chosen)


def parse_request(
    symbols: Sequence[object],
    timeframes: Sequence[object] | None,
    *,
    days: int | None,
    start: str | None,
    end: str | None,
    today: date,
    most: int | None = MOST_SYMBOLS,
) -> BackfillRequest:
    """Check and normalise. `timeframes` None: as the symbols are followed. `days`: the last so many calendar days,
    `today` (UTC) included. `most`: symbols at most; None where nobody wrote them down. Raises RequestError.
    """
    try:
        names = tuple(dict.fromkeys(check_symbol(symbol) for symbol in symbols))
        frames = tuple(dict.fromkeys(parse_timeframe(str(timeframe)) for timeframe in timeframes or ()))
    except ValueError as error:
        raise RequestError(str(error)) from None
    if not names or (most is not None and len(names) > most):
        raise RequestError(f"{len(names)} symbols given; give 1 to {MOST_SYMBOLS}, or none for all that are followed")
    if timeframes is not None and not frames:
        raise RequestError("no timeframes given; give one or more of 1m 5m 15m 30m 1h 4h 1d 1w")
    first, last = _dates(days, start, end, today)
    return BackfillRequest(names, frames or TIMEFRAMES, first, last, as_followed=timeframes is None)


def _dates(days: int | None, start: str | None, end: str | None, today: date) -> tuple[date, date]:
    if days is not None:
        if start is not None or end is not None:
            raise RequestError("give either days or start and end, not both")
        if days < 1:
            raise RequestError(f"days is {days}; give 1 or more")
        most = (today - FIRST_DAY).days + 1
        if days > most:
            raise RequestError(f"days is {days}; give {most} at most: calendars start {FIRST_DAY}")
        return today - timedelta(days=days - 1), today
    if start is None or end is None:
        raise RequestError("give days, or both start and end, as in 2024-03-01")
    first, last = parse_date("start", start), parse_date("end", end)
    if first < FIRST_DAY:
        raise RequestError(f"start {first} is before {FIRST_DAY}, where calendars start; start later")
    if last > today:
        raise RequestError(f"end {last} is in the future; today is {today} (UTC)")
    if first > last:
        raise RequestError(f"start {first} is after end {last}; swap them")
    return first, last


def parse_date(name: str, text: object) -> date:
    """An ISO date. RequestError names the argument and the text."""
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise RequestError(f"{name} {text!r} is not a date; write it as 2024-03-01") from None
