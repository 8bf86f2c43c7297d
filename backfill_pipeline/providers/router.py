"""Which provider serves what: by asset class, date and capability, in a stated order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import to_micros

from .base import Lifetime, Provider, Served

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Route:
    """The providers of one instrument's base timeframe, the preferred first, and what each can serve as known now."""

    sessions: Sessions
    providers: tuple[Provider, ...]
    served: tuple[Served, ...]

    @property
    def reason(self) -> str:
        """What can be served and why no more, for people."""
        return "; ".join(dict.fromkeys(served.reason for served in self.served))

    def due_at(self) -> npt.NDArray[np.int64]:
        """Per session, microseconds UTC from which the answer of the first provider that serves it is believed."""
        due = self.providers[0].settle.due_at(self.sessions)
        undecided = ~self._within(0)
        for i in range(1, len(self.providers)):
            mine = undecided & self._within(i)
            due = np.where(mine, self.providers[i].settle.due_at(self.sessions), due)
            undecided &= ~mine
        return due

    def choose(self, now: datetime, refused: Mapping[str, Mask] | None = None) -> npt.NDArray[np.int64]:
        """Per session, the place of the provider to ask at `now`; -1 where none is left. `refused`: by name, sessions
        not to ask a provider for again.

        A session that is not due yet goes to a provider made for running sessions, where there is one.
        """
        running = self.due_at() > to_micros(now)
        chosen = np.full(len(self.sessions), -1, dtype=np.int64)
        able = [self._within(i) for i in range(len(self.providers))]
        for i, provider in enumerate(self.providers):
            if refused is not None and provider.name in refused:
                able[i] = able[i] & ~refused[provider.name]
        for i in (i for i, provider in enumerate(self.providers) if provider.live):
            chosen[(chosen < 0) & running & able[i]] = i
        for i, mask in enumerate(able):
            chosen[(chosen < 0) & mask] = i
        return chosen

    def _within(self, i: int) -> Mask:
        window = self.served[i].window
        if window is None:
            return np.zeros(len(self.sessions), dtype=bool)
        start = self.sessions.day_start
        return (start >= window.start) & (start < window.end)


class Router:
    """`providers`: in the order of preference, at least one."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = tuple(providers)

    def route(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Route:
        """Those that serve the instrument at all; where none does, the first, whose reason says why."""
        every = [(p, p.served(instrument, timeframe, sessions)) for p in self.providers]
        able = [(p, served) for p, served in every if served.window is not None] or every[:1]
        return Route(sessions, tuple(p for p, _ in able), tuple(served for _, served in able))

    def lifetime(self, symbol: str) -> tuple[Lifetime, str] | None:
        """What the first provider that knows the symbol says, and its name. Raises ProviderError."""
        for provider in self.providers:
            found = provider.lifetime(symbol)
            if found is not None:
                return found, provider.name
        return None
