"""Asks a provider for sessions and validates what it sends. No database here: several threads do it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from queue import SimpleQueue
from typing import Generic, TypeVar, cast

import numpy as np

from backfill_pipeline.domain.bars import concatenate
from backfill_pipeline.domain.completeness import is_covered
from backfill_pipeline.domain.planning import Rows
from backfill_pipeline.domain.validate import Validated, validate
from backfill_pipeline.domain.windows import Window, intersect, to_micros, union
from backfill_pipeline.providers.base import Answer, Provider, Request
from backfill_pipeline.providers.errors import ProviderError

from .warehouse import Subject

T = TypeVar("T")

# Questions under way in one run: pages in memory, 5 MB each with what they are decoded from. More decode at once
# and hold up the thread that writes: with 8 a backfill took 1.39 times as long as writing alone, with 3 it took 1.28.
MOST = 3


@dataclass(frozen=True, eq=False)
class Unit:
    """What is asked at once: open sessions `rows` (ascending) of one subject.

    `tickers`: how the provider calls the instrument, by period: (ticker, first day, last day), ascending.
    """

    subject: Subject
    provider: Provider
    rows: Rows
    tickers: tuple[tuple[str, date, date], ...]


@dataclass(frozen=True, eq=False)
class Fetched:
    """A provider's answer about consecutive sessions `rows`, validated. `answered`: what it vouches for. `by_hand`: a
    person wants these bars, whoever else has some.
    """

    provider: str
    window: Window
    rows: Rows
    validated: Validated
    answered: tuple[Window, ...]
    received: int
    fetched_at: datetime
    notes: tuple[str, ...]
    by_hand: bool = False


@dataclass(frozen=True, eq=False)
class Answers:
    """All that came of a unit: what was answered before `failure`, if there was one, counts."""

    unit: Unit
    fetched: list[Fetched]
    failure: ProviderError | None

    def unanswered(self, now: datetime) -> Rows:
        """The unit's sessions that are not answered until their last segment's close, or until `now`."""
        answered = union([stretch for fetched in self.fetched for stretch in fetched.answered])
        missing: Rows = self.unit.rows[~is_covered(self.unit.subject.sessions, self.unit.rows, answered, now)]
        return missing


def consecutive(rows: Rows) -> list[Rows]:
    """Ascending places cut where one is left out."""
    return np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []


def days_window(subject: Subject, rows: Rows, now: datetime) -> Window:
    """From the start of the first session's day to the end of the last one's, or to now."""
    sessions = subject.sessions
    return Window(int(sessions.day_start[rows[0]]), min(int(sessions.day_end[rows[-1]]), to_micros(now)))


def ask(unit: Unit, now: datetime) -> Answers:
    """Ask for everything between the unit's first and last session, and keep what is about its sessions."""
    subject = unit.subject
    window = days_window(subject, unit.rows, now)
    pieces: list[Answer] = []
    failure: ProviderError | None = None
    try:
        for ticker, first, last in unit.tickers:
            for part in intersect([window], [subject.sessions.days_window(first, last)]):
                called = replace(subject.instrument, symbol=ticker)
                request = Request(called, subject.chain.base, part, subject.sessions)
                pieces.extend(unit.provider.fetch(request, now))  # keeps what came before an error
    except ProviderError as error:
        failure = error
    return Answers(unit, believe(unit, pieces, failure, now), failure)


def believe(unit: Unit, pieces: Sequence[Answer], failure: ProviderError | None, now: datetime) -> list[Fetched]:
    """The pieces validated, one Fetched for each run of consecutive sessions. What lies between them is left out; what
    lies outside of all is with the first, to be refused there.
    """
    subject = unit.subject
    received = concatenate([piece.bars for piece in pieces])
    answered = [stretch for piece in pieces for stretch in piece.answered]
    notes = dict.fromkeys([piece.note for piece in pieces if piece.note] + ([str(failure)] if failure else []))
    runs = consecutive(unit.rows)
    windows = [days_window(subject, run, now) for run in runs]
    fetched = []
    for i, (run, window) in enumerate(zip(runs, windows, strict=True)):
        mine = (received.ts >= window.start) & (received.ts < window.end)
        if i == 0:
            mine |= (received.ts < windows[0].start) | (received.ts >= windows[-1].end)
        bars = received if mine.all() else received.take(mine)
        validated = validate(bars, subject.chain.base, window, subject.sessions)
        vouched = tuple(union(intersect([window], answered)))
        said = (*notes, *_refusals(validated))
        fetched.append(Fetched(unit.provider.name, window, run, validated, vouched, len(bars), now, said))
    return fetched


def session_window(subject: Subject, fetched: Fetched, first: int, last: int) -> Window:
    """What the answer speaks of with its sessions `first` to `last`: the nights and closed days after each are its."""
    starts = subject.sessions.day_start
    end = fetched.window.end if last == fetched.rows[-1] else int(starts[last + 1])
    return Window(int(starts[first]), end)


def pieces(subject: Subject, fetched: Fetched, rows: Rows) -> Iterator[Fetched]:
    """The answer about its sessions `rows` (ascending), those that follow one another together."""
    validated = fetched.validated
    for run in consecutive(rows):
        window = session_window(subject, fetched, int(run[0]), int(run[-1]))
        low, high = np.searchsorted(validated.bars.ts, [window.start, window.end])
        mine = slice(int(low), int(high))
        kept = replace(validated, bars=validated.bars.take(mine), part=validated.part[mine])
        answered = tuple(intersect([window], fetched.answered))
        yield replace(fetched, window=window, rows=run, validated=kept, answered=answered)


def _refusals(validated: Validated) -> list[str]:
    count, reasons = len(validated.refused), list(dict.fromkeys(one.reason for one in validated.refused))
    return [f"{count} row{'s' * (count > 1)} in quarantine: {', '.join(reasons[:3])}"] if count else []


class Fetching(Generic[T]):
    """Questions asked in threads of their own, at most `most` at once; answers are taken in the order they come.

    The threads are daemons: a run that is stopped does not wait for the slot that one of them is waiting for.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.flying = 0
        self._done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def start(self, question: Callable[[], T]) -> None:
        self.flying += 1
        threading.Thread(target=self._work, args=(question,), name="fetch", daemon=True).start()

    def next(self) -> T:
        """Wait for the next answer. Raises what its question raised."""
        answer, error = self._done.get()
        self.flying -= 1
        if error is not None:
            raise error
        return cast("T", answer)

    def _work(self, question: Callable[[], T]) -> None:
        try:
            self._done.put((question(), None))
        except BaseException as error:  # noqa: BLE001  (told by `next`, in the thread that waits for it)
            self._done.put((None, error))


def at_once(provider: Provider) -> int:
    """Requests worth having under way: as many as the budget lets through while one is answered, some two seconds."""
    if provider.page_rows("1m") is None:
        return 2  # whole half years in memory, and no network to wait for
    wait = provider.expected_wait(2) - provider.expected_wait(1)
    return MOST if wait <= 0 else max(2, min(MOST, int(2 / wait)))
