"""Which runs to start now: from partitions that need one, and those that runs are at, to few ranges for each run.

Pure: what is due and what is under way is observed elsewhere.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from .grain import Period
from .timeframe import CHAINS, Chain, ChainName

Place = tuple[str, ChainName]


@dataclass(frozen=True, order=True)
class Slot:
    """A partition that needs a run. `attempt`: the how-manieth time its bars would be asked for, from 1."""

    symbol: str
    chain: ChainName
    period: Period
    attempt: int = 1

    @property
    def place(self) -> Place:
        return self.symbol, self.chain


@dataclass(frozen=True, order=True)
class Stretch:
    """`partitions` slots of a symbol's chain from the day `first` to the day `last`, both included. `attempt`: the
    highest of theirs. Whoever repairs it leaves complete partitions between the slots alone.
    """

    symbol: str
    chain: ChainName
    first: date
    last: date
    attempt: int = 1
    partitions: int = 1

    @property
    def place(self) -> Place:
        return self.symbol, self.chain

    @property
    def of_chain(self) -> Chain:
        return next(chain for chain in CHAINS if chain.name == self.chain)

    def holds(self, period: Period) -> bool:
        """Whether they share a day."""
        return self.first <= period.last and period.first <= self.last

    def __str__(self) -> str:
        return f"{self.symbol} {self.chain} {self.first}..{self.last} attempt {self.attempt}"


@dataclass(frozen=True)
class Limits:
    """What is started at once: so many runs that ask, so many that ask nobody, and so many partitions in each."""

    runs: int = 3
    partitions: int = 500


@dataclass(frozen=True)
class Observation:
    """`due`: lack bars, and it is time to ask. `stale`: Dagster shows another colour than the tables say. `busy`: what
    not to touch, any partitions, with the reason. `resting`: what not to ask for again yet, likewise.
    """

    due: Collection[Slot] = ()
    stale: Collection[Slot] = ()
    busy: Mapping[Place, Mapping[Period, str]] = field(default_factory=dict)
    resting: Mapping[Place, Mapping[Period, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Left:
    """A slot that waits for another time, and why."""

    slot: Slot
    why: str


@dataclass(frozen=True)
class Plan:
    """`repairs` ask providers, `verifications` ask nobody: the stretches of each run. No two share a day of a symbol's
    chain, nor do they touch what is busy. What waits is `unasked` or `unverified`.
    """

    repairs: tuple[tuple[Stretch, ...], ...] = ()
    verifications: tuple[tuple[Stretch, ...], ...] = ()
    unasked: tuple[Left, ...] = ()
    unverified: tuple[Left, ...] = ()

    @property
    def left(self) -> tuple[Left, ...]:
        return (*self.unasked, *self.unverified)


def plan_runs(seen: Observation, limits: Limits) -> Plan:
    """Every slot is in a run or `left`; the same whatever order they come in. Newest stretches first."""
    repairs, waiting = _runs(seen.due, _both(seen.resting, seen.busy), limits, bridging=True)
    busy = _both(seen.busy, {})
    starting = [stretch for run in repairs for stretch in run]
    for slot in seen.stale:
        if any(one.place == slot.place and one.holds(slot.period) for one in starting):
            busy.setdefault(slot.place, {}).setdefault(slot.period, "a repair of it starts now")
    verifications, more = _runs(seen.stale, busy, limits, bridging=False)
    return Plan(repairs, verifications, tuple(waiting), tuple(more))


def _both(
    one: Mapping[Place, Mapping[Period, str]], other: Mapping[Place, Mapping[Period, str]]
) -> dict[Place, dict[Period, str]]:
    return {place: {**one.get(place, {}), **other.get(place, {})} for place in {*one, *other}}


def _runs(
    slots: Iterable[Slot], busy: Mapping[Place, Mapping[Period, str]], limits: Limits, *, bridging: bool
) -> tuple[tuple[tuple[Stretch, ...], ...], list[Left]]:
    """`bridging`: a stretch may span partitions that need nothing; a repair leaves them alone, and few long stretches
    read better than many. A verification takes every partition of its stretch.
    """
    by_place: dict[Place, list[Slot]] = {}
    left: list[Left] = []
    for slot in sorted(slots):
        why = busy.get(slot.place, {}).get(slot.period)
        if why is None:
            by_place.setdefault(slot.place, []).append(slot)
        else:
            left.append(Left(slot, why))
    groups = [
        group
        for place, mine in by_place.items()
        for group in _merged(mine, sorted(busy.get(place, {})), limits.partitions, bridging=bridging)
    ]
    groups.sort(key=lambda group: (-group[-1].period.last.toordinal(), group[0]))
    runs: list[list[Stretch]] = []
    room = 0
    for group in groups:
        stretch = _stretch(group)
        if stretch.partitions > room:
            if len(runs) == limits.runs:
                left += [Left(slot, f"no more than {limits.runs} runs are started at once") for slot in group]
                continue
            runs.append([])
            room = limits.partitions
        runs[-1].append(stretch)
        room -= stretch.partitions
    return tuple(map(tuple, runs)), left


def _merged(slots: Sequence[Slot], busy: Sequence[Period], most: int, *, bridging: bool) -> list[list[Slot]]:
    """One symbol's sorted slots, in groups of at most `most` that have nothing busy between them."""
    groups: list[list[Slot]] = []
    for slot in slots:
        before = groups[-1][-1].period if groups else None
        if before == slot.period:  # named twice: the later attempt counts
            groups[-1][-1] = slot
            continue
        adjacent = before is not None and before.last + timedelta(days=1) == slot.period.first
        free = before is not None and bisect(busy, before) == bisect(busy, slot.period)
        if not (free and (bridging or adjacent)) or len(groups[-1]) == most:
            groups.append([])
        groups[-1].append(slot)
    return groups


def _stretch(group: Sequence[Slot]) -> Stretch:
    first, last = group[0], group[-1]
    attempt = max(slot.attempt for slot in group)
    return Stretch(first.symbol, first.chain, first.period.first, last.period.last, attempt, len(group))
