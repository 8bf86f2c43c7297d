"""What a look has found, for people: pure words and counts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from backfill_pipeline.domain.timeframe import Base, ChainName

Kind = Literal["changed", "unvouched", "forgotten", "derived", "features", "stray"]

_WORDS: dict[Kind, str] = {
    "changed": "changed by another hand: {}; nothing vouches for it any more, and it is to be asked for again",
    "unvouched": "the answer that vouched for it is gone; to be asked for again",
    "forgotten": "an answer covers it, and what became of it is gone; to be asked for again",
    "derived": "{} was not what the stored bars make it; derived again",
    "features": "features of {} were not those of its bars; computed again",
    "stray": "{} that no answer has brought; not counted, and not touched",
}


@dataclass(frozen=True)
class Finding:
    """`sessions` from `first` to `last` of one chain of a symbol that follow one another. `detail`: what was found."""

    symbol: str
    chain: ChainName
    kind: Kind
    first: date
    last: date
    sessions: int
    detail: str = ""

    def __str__(self) -> str:
        until = "" if self.first == self.last else f" to {self.last} ({self.sessions} sessions)"
        return f"{self.symbol} {self.chain} {self.first}{until}: {_WORDS[self.kind].format(self.detail)}"


@dataclass(frozen=True)
class Lacking:
    """`sessions` due ones between `first` and `last` lack bars of a base timeframe, of which nobody has looked at
    `unseen`; all in between are wanted.
    """

    symbol: str
    timeframe: Base
    first: date
    last: date
    sessions: int
    unseen: int


@dataclass
class Looked:
    """What a look has found and done. `complete`: at all that is stored. `sessions`: statuses held against the rows.
    `filled`: statuses of before sums were kept, which are kept now. `lacking`: what is wanted, due, and incomplete now.
    """

    complete: bool
    symbols: int = 0
    sessions: int = 0
    filled: int = 0
    findings: list[Finding] = field(default_factory=list)
    lacking: list[Lacking] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Everything is as it was written, and complete."""
        return not self.findings and not self.lacking

    @property
    def counts(self) -> dict[str, int]:
        """Sessions by what was found."""
        found: Counter[str] = Counter()
        for finding in self.findings:
            found[finding.kind] += finding.sessions
        return dict(found)

    @property
    def commands(self) -> list[str]:
        """What asks for all that is lacking, and makes nothing wanted that is not."""
        symbols: dict[tuple[Base, date, date], list[str]] = {}
        for one in self.lacking:
            symbols.setdefault((one.timeframe, one.first, one.last), []).append(one.symbol)
        return [
            f"backfill run --symbols {shlex.quote(','.join(names))} --timeframes {base} --start {first} --end {last}"
            for (base, first, last), names in symbols.items()
        ]


def joined(
    symbol: str, chain: ChainName, kind: Kind, details: Mapping[date, str], places: Sequence[int]
) -> list[Finding]:
    """One finding for each run of sessions that follow one another. `details`: by session, ascending; `places`: theirs
    in the calendar.
    """
    runs: list[list[date]] = []
    before = None
    for day, place in zip(details, places, strict=True):
        if before is None or place != before + 1:
            runs.append([])
        runs[-1].append(day)
        before = place
    return [
        Finding(symbol, chain, kind, run[0], run[-1], len(run), _one({details[day] for day in run})) for run in runs
    ]


def _one(details: set[str]) -> str:
    """The detail that sessions share; else an example of it."""
    return min(details) if len(details) == 1 else f"{min(details)}, and others"
