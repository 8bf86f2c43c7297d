"""The Protocol that every source of bars follows. No HTTP and no storage here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.actions import DividendEvent, EarningsEvent, SplitEvent
from backfill_pipeline.domain.asking import Days
from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MICROSECOND, Window


@dataclass(frozen=True)
class Settle:
    """When an answer about a session may be believed: `delay` after its last segment's close or its day's end."""

    after: Literal["close", "day"]
    delay: timedelta

    def due_at(self, sessions: Sessions) -> npt.NDArray[np.int64]:
        """Per session, microseconds UTC from which it is due."""
        over = sessions.post_close if self.after == "close" else sessions.day_end
        return over + self.delay // timedelta(microseconds=MICROSECOND)


@dataclass(frozen=True)
class Served:
    """What a provider can serve of one instrument and timeframe. `window` None: nothing. `reason`: for people."""

    window: Window | None
    reason: str


@dataclass(frozen=True)
class Lifetime:
    """First and last day an instrument was listed, in its own calendar; None where the provider does not know.

    `instrument_id`: the provider's id of the instrument (composite FIGI), which stays when the ticker changes.
    """

    first: date | None
    last: date | None
    instrument_id: str | None = None


@dataclass(frozen=True)
class Request:
    """Unadjusted bars of one instrument over `window`: whole sessions' days (the last may be cut by now)."""

    instrument: Instrument
    timeframe: Base
    window: Window
    sessions: Sessions


@dataclass(frozen=True)
class Answer:
    """A piece of the answer to a Request, pieces ascending.

    `bars`: labelled by their start in UTC, otherwise as sent: unsorted, duplicated or nonsensical rows are left in
    for validation. `answered`: the stretches about which this piece is complete; bars outside them are provisional
    (an unfinished bar, a page cut short). `note`: for people, why less was answered than asked; empty otherwise.
    """

    bars: Bars
    answered: tuple[Window, ...]
    note: str = ""


@dataclass(frozen=True)
class MarketRequest:
    """Unadjusted bars of the session `day` of every instrument in `tickers`, all of one market and calendar."""

    market: str
    timeframe: Base
    day: date
    tickers: frozenset[str]
    sessions: Sessions


class Provider(Protocol):
    """A source of bars. Implementations hold no state that a second process would need; threads may share one."""

    @property
    def name(self) -> str:
        """The word that bars, coverage and settings know it by."""
        ...

    @property
    def settle(self) -> Settle: ...

    @property
    def live(self) -> bool:
        """Made for the session that still runs: its bars give way to another provider's that has the session later."""
        ...

    def page_rows(self, timeframe: Base) -> int | None:
        """Bars that one request can bring at most; None where requests cost nothing."""
        ...

    def expected_wait(self, requests: int) -> float:
        """Seconds until the last of so many further requests could be sent, if nobody more urgent comes."""
        ...

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        """What it can serve, without a request where that is possible."""
        ...

    def lifetime(self, symbol: str) -> Lifetime | None:
        """Of whoever has the ticker now; None where it does not know it. Raises ProviderError."""
        ...

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        """The bars asked for, piece by piece. `now`: aware; nothing after it exists. Raises ProviderError."""
        ...


@runtime_checkable
class MarketProvider(Provider, Protocol):
    """A provider that also has whole markets by the day: one request, or one file, for all instruments at once."""

    def market(self, instrument: Instrument, timeframe: Base) -> str | None:
        """The market that the instrument's days come with; None: it can only be asked for one by one."""
        ...

    def fetch_market(self, request: MarketRequest, now: datetime) -> Mapping[str, Answer]:
        """By ticker, an answer for each that was asked. One the day does not have is answered with no bars. `now` as
        in `fetch`. Raises ProviderError, and then nothing of the day is answered.
        """
        ...


@runtime_checkable
class HasToday(Provider, Protocol):
    """A provider of history that may, by its plan, have a session while it runs, too."""

    def serves_today(self, instrument: Instrument) -> bool:
        """False once it is known not to; asks nothing."""
        ...


@runtime_checkable
class NamingProvider(Provider, Protocol):
    """A provider that also knows what instruments were called."""

    def ticker_changes(self, instrument_id: str) -> tuple[tuple[date, str], ...]:
        """(day, ticker from that day on) of the instrument, in any order; empty where it does not know. Raises
        ProviderError.
        """
        ...


@runtime_checkable
class EventSource(Protocol):
    """Whole markets' corporate actions by date, each with the ticker of its day. Nothing but the asking: what is told
    may be doubled, contradictory or wrong. All iterators raise ProviderError; one that does has told nothing.
    """

    @property
    def name(self) -> str: ...

    @property
    def account(self) -> str:
        """Who is asked as whom, in words that are no secret: what was asked of one account another may not have."""
        ...

    @property
    def answered(self) -> int:
        """Requests that were answered so far."""
        ...

    def splits(self, days: Days) -> Iterator[tuple[str, SplitEvent]]: ...

    def dividends(self, days: Days) -> Iterator[tuple[str, DividendEvent]]: ...

    def earnings(self, days: Days) -> Iterator[tuple[str, EarningsEvent]]:
        """Raises NeverServed, without a request once that is known, where the plan has none."""
        ...


@runtime_checkable
class HasEvents(Protocol):
    """A provider that also has corporate actions."""

    @property
    def events(self) -> EventSource: ...
