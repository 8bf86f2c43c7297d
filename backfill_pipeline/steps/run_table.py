"""What a run did, as a Markdown table: a row a symbol of a chain. Counting is `RunCounts`', telling is the caller's."""

from __future__ import annotations

from collections import Counter

from backfill_pipeline.domain.completeness import State
from backfill_pipeline.domain.timeframe import Chain

from .window import Work

# Rows of a table, about 100 bytes each; beyond it those with incomplete partitions come first.
MOST_SYMBOLS = 100

_STATES: tuple[State, ...] = ("complete", "incomplete", "in progress", "not served")


class RunCounts:
    """How many partitions of each symbol and chain ended in which state. Takes microseconds a partition."""

    def __init__(self) -> None:
        self._counts: dict[Chain, dict[str, Counter[State]]] = {}

    def note(self, chain: Chain, symbol: str, state: State) -> None:
        self._counts.setdefault(chain, {}).setdefault(symbol, Counter())[state] += 1

    @property
    def chains(self) -> list[Chain]:
        return list(self._counts)

    def table(self, chain: Chain, work: Work) -> str:
        """Partitions by state, bars fetched (of the base timeframe), and bars written of each timeframe: written are
        only those that were new or differed.
        """
        of = self._counts[chain]
        shown = sorted(sorted(of, key=lambda symbol: (-of[symbol]["incomplete"], symbol))[:MOST_SYMBOLS])
        heads = [
            "symbol",
            *_STATES,
            f"{chain.base} fetched",
            *(f"{timeframe} written" for timeframe in chain.timeframes),
        ]
        lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
        for symbol in shown:
            written = [work.written_of[symbol, timeframe] for timeframe in chain.timeframes]
            numbers = [*(of[symbol][state] for state in _STATES), work.received_of[symbol, chain.base], *written]
            lines.append(f"| `{symbol}` | {' | '.join(f'{number:,}' for number in numbers)} |")
        if len(shown) < len(of):
            lines += ["", f"{len(shown)} of {len(of)} symbols, incomplete ones first."]
        return "\n".join(lines)
