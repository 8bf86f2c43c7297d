"""Which ticker an instrument has when and where, and whose a ticker is. Days, both ends included; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from .instruments import Instrument

# Stated of no provider in particular: holds where nothing is stated of the one that is asked.
ANY_PROVIDER = "*"
# Ends of a period without one.
EVER, FOREVER = date.min, date.max
_DAY = timedelta(days=1)

# Absent sessions in a row that raise the question whether the instrument had this ticker then; at the end, 3 do.
_LONG_ABSENCE, LONG_SILENCE = 5, 3

Days = tuple[date, date]
Piece = tuple[str, date, date]


@dataclass(frozen=True)
class Name:
    """`provider` calls the instrument `ticker` from `first` to `last`. `by_hand`: a person said so."""

    symbol_id: int
    provider: str
    ticker: str
    first: date = EVER
    last: date = FOREVER
    by_hand: bool = False

    @property
    def days(self) -> Days:
        return self.first, self.last


def cut(names: Iterable[Name], holes: Iterable[Days]) -> list[Name]:
    """The parts of `names` that lie in none of the holes."""
    left = list(names)
    for start, end in holes:
        outside = [name for name in left if end < name.first or name.last < start]
        touched = [name for name in left if name.first <= end and start <= name.last]
        outside += [replace(name, last=start - _DAY) for name in touched if name.first < start]
        outside += [replace(name, first=end + _DAY) for name in touched if end < name.last]
        left = outside
    return sorted(left, key=lambda name: name.first)


def joined(names: Iterable[Name]) -> list[Name]:
    """Ascending; neighbours that say the same are one."""
    found: list[Name] = []
    for name in sorted(names, key=lambda name: name.first):
        if found and name.first > EVER and replace(name, first=found[-1].first, last=name.first - _DAY) == found[-1]:
            found[-1] = replace(found[-1], last=name.last)
        else:
            found.append(name)
    return found


class NameBook:
    """What one provider calls instruments. `names`: all that is stated of them, of this provider and of any.

    What is stated of the provider goes before what is stated of any, and this before a symbol's own text. A ticker is
    one instrument's a day: that of whom it is stated first. Outside of its known lifetime an instrument has none.
    """

    def __init__(self, instruments: Iterable[Instrument], names: Sequence[Name], provider: str) -> None:
        self._names: dict[int, list[Name]] = {}
        self._holders: dict[str, list[Name]] = {}
        self._instruments = {instrument.symbol_id: instrument for instrument in instruments}
        for of in (provider, ANY_PROVIDER):
            self._add([name for name in names if name.provider == of])
        self._add([Name(one.symbol_id, "", one.symbol) for one in self._instruments.values()])

    def _add(self, names: Sequence[Name]) -> None:
        found: list[Name] = []
        for name in names:
            if name.symbol_id in self._instruments:
                before = [*self._names.get(name.symbol_id, ()), *self._holders.get(name.ticker, ())]
                unlisted = _unlisted(self._instruments[name.symbol_id])
                found += cut([name], [*(other.days for other in before), *unlisted])
        for name in found:
            self._names.setdefault(name.symbol_id, []).append(name)
            self._holders.setdefault(name.ticker, []).append(name)

    def tickers(self, symbol_id: int, first: date, last: date) -> list[Piece]:
        """(ticker, first day, last day) of [first, last], ascending and disjoint. Days on which the instrument is not
        listed, or its symbol is another's ticker, are in none.
        """
        names = [replace(name, provider="", by_hand=False) for name in self._names.get(symbol_id, ())]
        inside = cut(names, _outside(first, last))
        return [(name.ticker, name.first, name.last) for name in joined(inside)]

    def resolve(self, ticker: str, day: date) -> int | None:
        """The instrument that has the ticker on that day."""
        for name in self._holders.get(ticker, ()):
            if name.first <= day <= name.last:
                return name.symbol_id
        return None


def _unlisted(instrument: Instrument) -> list[Days]:
    return _outside(instrument.first_date or EVER, instrument.last_date or FOREVER)


def _outside(first: date, last: date) -> list[Days]:
    before = [] if first == EVER else [(EVER, first - _DAY)]
    return before if last == FOREVER else [*before, (last + _DAY, FOREVER)]


def names_of_changes(
    symbol_id: int, provider: str, changes: Iterable[tuple[date, str]], since: date | None
) -> list[Name]:
    """Periods of a list of (day, ticker from that day on). The first one reaches back to `since` (None: for ever)."""
    ordered = sorted(dict(sorted(changes)).items())
    ends = [*(day - _DAY for day, _ in ordered[1:]), FOREVER]
    names = [Name(symbol_id, provider, t, day, end) for (day, t), end in zip(ordered, ends, strict=False)]
    if names:
        names[0] = replace(names[0], first=EVER if since is None else min(since, names[0].first))
    return joined(names)


def renamed(names: Sequence[Name], old: str, new: str, on: date) -> list[Name]:
    """What is stated of an instrument at one provider, `old` becoming `new` on that day; other tickers stay."""
    found = []
    for name in names:
        if name.ticker == old and name.last >= on:
            found += cut([name], [(on, FOREVER)])
            found.append(replace(name, ticker=new, first=max(on, name.first), by_hand=True))
        else:
            found.append(name)
    return joined(found)


def renamed_anywhere(stated: Sequence[Name], old: Name, new: Name) -> list[Name]:
    """What is stated of an instrument at one provider, `new` from its first day on. Where nothing is stated before, the
    symbol itself was meant: that is `old`, and is stated from now on.
    """
    kept = cut(stated, [new.days])
    return joined([*kept, *cut([old], [*(name.days for name in kept), new.days]), new])


def is_doubtful(present: npt.NDArray[np.bool_]) -> bool:
    """Whether an answer is reason to ask who the instrument is: it lacks 5 sessions in a row, or the last 3.

    `present`: of each session asked for that is due and in the known lifetime, ascending, whether there is a bar.
    """
    if not present.all() and not present[-LONG_SILENCE:].any():
        return len(present) >= LONG_SILENCE
    runs = np.diff(np.flatnonzero(np.concatenate([[True], present, [True]])))
    return bool((runs > _LONG_ABSENCE).any())
