"""The eight timeframes, which base each derives from, and the two chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .windows import DAY, MINUTE

Timeframe = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"]
Base = Literal["1m", "1d"]
ChainName = Literal["intraday", "daily"]

TIMEFRAMES: tuple[Timeframe, ...] = get_args(Timeframe)
BASES: tuple[Base, ...] = get_args(Base)

# Nominal length in microseconds; the last bar of a segment may be shorter.
LENGTH: dict[Timeframe, int] = {
    "1m": MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": 60 * MINUTE,
    "4h": 240 * MINUTE,
    "1d": DAY,
    "1w": 7 * DAY,
}


@dataclass(frozen=True)
class Chain:
    """A base timeframe and all that derives from it, each timeframe after the one it is built from."""

    name: ChainName
    base: Base
    derived: tuple[Timeframe, ...]

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        return (self.base, *self.derived)


INTRADAY = Chain("intraday", "1m", ("5m", "15m", "30m", "1h", "4h"))
DAILY = Chain("daily", "1d", ("1w",))
CHAINS: tuple[Chain, ...] = (INTRADAY, DAILY)


def parse_timeframe(text: str) -> Timeframe:
    """The timeframe that `text` names. ValueError names the text and the known ones."""
    for timeframe in TIMEFRAMES:
        if text == timeframe:
            return timeframe
    raise ValueError(f"timeframe {text!r} is not known; use one of {' '.join(TIMEFRAMES)}")


def chain_of(timeframe: Timeframe) -> Chain:
    return INTRADAY if timeframe in INTRADAY.timeframes else DAILY
