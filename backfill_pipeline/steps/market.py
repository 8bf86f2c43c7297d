"""Sessions asked for by the day for a whole market, where that needs fewer requests than symbol by symbol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial

import numpy as np

from backfill_pipeline.domain.planning import Rows, days_for_the_market, rows_per_session, spans
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.providers.base import Answer, MarketProvider, MarketRequest
from backfill_pipeline.providers.errors import ProviderError, ProviderStopped, Unreachable

from .fetching import Answers, Fetching, Unit, at_once, believe
from .job import Job

# Days asked for before any is written: five minutes of the free plan's requests, and bars in memory (100 bytes each).
_MOST_DAYS = 25
_MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Market:
    """One provider's market. `calendar`: of its instruments."""

    provider: MarketProvider
    name: str
    base: Base
    calendar: str

    @property
    def key(self) -> str:
        return f"{self.provider.name} {self.name} {self.base} {self.calendar}"


@dataclass(frozen=True, eq=False)
class MarketDay:
    """What a market gave for one session: an answer by ticker, or why there is none."""

    row: int
    answers: Mapping[str, Answer]
    failure: ProviderError | None
    fetched_at: datetime


def markets(jobs: Sequence[Job]) -> list[Market]:
    """Those that any of the jobs' needed sessions could come from."""
    return list(dict.fromkeys(market for job in jobs for market in _of(job)))


def _of(job: Job) -> Iterator[Market]:
    base, instrument = job.task.chain.base, job.task.instrument
    for place in np.unique(job.chosen[job.needed]).tolist():
        provider = job.subject.route.providers[place]
        if isinstance(provider, MarketProvider):
            name = provider.market(instrument, base)
            if name is not None:
                yield Market(provider, name, base, instrument.calendar)


def days_to_ask(market: Market, jobs: Sequence[Job], due: Rows) -> list[Rows]:
    """The sessions to ask the market for, in batches: all of them where requests cost nothing (the oldest first), else
    those that make requests fewest in all (the newest first). `due`: the only sessions it can have.
    """
    page = market.provider.page_rows(market.base)
    mine = [job for job in jobs if _has(job, market)]
    if not mine:
        return []
    needs = [np.intersect1d(job.needed_of(market.provider), due) for job in mine]
    per_session = rows_per_session(mine[0].subject.sessions, market.base)
    if page is None:
        days = np.unique(np.concatenate(needs))
    else:
        days = days_for_the_market(needs, [len(spans(rows, per_session, page)) for rows in needs])[::-1]
    length = max(1, min(_MOST_DAYS, int(_MOST_ROWS / (len(needs) * per_session))))
    return [days[low : low + length] for low in range(0, len(days), length)]


def _has(job: Job, market: Market) -> bool:
    return market in set(_of(job))


def ask_market(
    market: Market,
    days: Rows,
    sessions: Sessions,
    tickers: Callable[[date], frozenset[str]],
    now: datetime,
    *,
    heard: bool,
) -> list[MarketDay]:
    """The days' answers, asked side by side. The first alone where the provider was not `heard` yet: if it cannot be
    reached, or says stop, no further one is asked.
    """
    fetching: Fetching[MarketDay] = Fetching(at_once(market.provider))
    waiting: list[int] = days.tolist()
    found: list[MarketDay] = []
    while waiting or fetching.flying:
        while waiting and fetching.flying < (fetching.most if heard else 1):
            row = waiting.pop(0)
            day: date = sessions.session[row].astype(object)
            request = MarketRequest(market.name, market.base, day, tickers(day), sessions)
            fetching.start(partial(_ask, market.provider, request, row, now))
        found.append(fetching.next())
        heard = heard or not isinstance(found[-1].failure, Unreachable)
        if isinstance(found[-1].failure, ProviderStopped) or not heard:
            waiting.clear()
    return found


def _ask(provider: MarketProvider, request: MarketRequest, row: int, now: datetime) -> MarketDay:
    try:
        return MarketDay(row, provider.fetch_market(request, now), None, now)
    except ProviderError as error:
        return MarketDay(row, {}, error, now)


def answers_for(job: Job, market: Market, days: Sequence[MarketDay]) -> Answers | None:
    """What the market's days say of one job's open sessions, as if it had been asked for alone; None for nothing."""
    mine = job.around_of(market.provider)
    good = sorted((day for day in days if day.failure is None and day.row in mine), key=lambda day: day.row)
    if not good:
        return None
    rows = np.array([day.row for day in good], dtype=np.int64)
    unit = Unit(job.subject, market.provider, rows, ())
    sessions = job.subject.sessions
    pieces = []
    for day in good:
        ticker = job.called.on(market.provider, sessions.session[day.row].astype(object))
        if ticker is not None and ticker in day.answers:
            pieces.append(day.answers[ticker])
    return Answers(unit, believe(unit, pieces, None, good[0].fetched_at), None)
