"""What a repair is for: stretches of symbols' chains, as the config of a run has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backfill_pipeline.domain.grain import Period, stretches
from backfill_pipeline.domain.instruments import check_symbol
from backfill_pipeline.domain.repairing import Place, Stretch
from backfill_pipeline.domain.timeframe import chain_of, parse_timeframe

from .requests import BackfillRequest, RequestError, parse_date


def as_ranges(stretches: Iterable[Stretch]) -> list[dict[str, str]]:
    """Plain text: one mapping for each."""
    return [
        {"symbol": s.symbol, "timeframe": s.of_chain.base, "start": str(s.first), "end": str(s.last)} for s in stretches
    ]


def stretched(place: Place, periods: Iterable[Period]) -> list[Stretch]:
    """Periods of a symbol's chain as stretches of days that follow one another."""
    return [Stretch(*place, group[0].first, group[-1].last, 1, len(group)) for group in stretches(periods)]


def parse_ranges(ranges: Iterable[Mapping[str, Any]]) -> list[Stretch]:
    """Back from text; a timeframe stands for its chain. Raises RequestError."""
    found = []
    for one in ranges:
        try:
            symbol, chain = check_symbol(one["symbol"]), chain_of(parse_timeframe(str(one["timeframe"])))
            first, last = parse_date("start", one["start"]), parse_date("end", one["end"])
        except KeyError as error:
            raise RequestError(f"a range has no {error}; give symbol, timeframe, start and end") from None
        except ValueError as error:
            raise RequestError(str(error)) from None
        if first > last:
            raise RequestError(f"range of {symbol}: start {first} is after end {last}; swap them")
        found.append(Stretch(symbol, chain.name, first, last))
    return found


def stretches_of(request: BackfillRequest) -> list[Stretch]:
    """The request's days, of each of its symbols in each of its chains."""
    return [
        Stretch(symbol, chain.name, request.start, request.end)
        for symbol in request.symbols
        for chain in request.chains
    ]
