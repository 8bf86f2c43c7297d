"""Does a provider keep the promises of `base.Provider`? For a test of whoever writes one; asks it real questions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import date, datetime

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate, no_bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import horizon, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE, Window, intersect, to_micros, union

from .base import Lifetime, Provider, Request, Settle
from .errors import ProviderError

_UNKNOWN = "NO.SUCH.TICKER"
_KINDS = {field.name: getattr(no_bars(), field.name).dtype for field in fields(Bars)}


def complaints(
    provider: Provider, instrument: Instrument, timeframe: Base, first: date, last: date, now: datetime
) -> list[str]:
    """What it does otherwise than promised, a line each; empty: nothing was found.

    Asks for the sessions `first` to `last`, two at least, which it must have whole: some ten times. `now`: aware, after
    them. Whatever else than a ProviderError it raises is not caught: the traceback shows the place.
    """
    sessions = load_sessions(instrument.calendar, horizon(now.date()))
    trial = _Trial(provider, Request(instrument, timeframe, sessions.days_window(first, last), sessions), now)
    return [*_words(trial), *_served(trial), *_answers(trial), *_repeats(trial), *_strangers(trial)]


@dataclass(frozen=True)
class _Trial:
    provider: Provider
    request: Request
    now: datetime

    def ask(self, **changes: object) -> tuple[Bars, list[Window]]:
        """The bars, sorted, and what is answered for."""
        answers = list(self.provider.fetch(replace(self.request, **changes), self.now))  # type: ignore[arg-type]  # by name
        bars = concatenate([answer.bars for answer in answers]).sorted()
        return bars, union(stretch for answer in answers for stretch in answer.answered)


def _words(trial: _Trial) -> Iterator[str]:
    provider, timeframe = trial.provider, trial.request.timeframe
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", provider.name):
        yield f"name {provider.name!r}: small letters, digits, - and _, a letter first"
    if not isinstance(provider.settle, Settle) or provider.settle.delay.total_seconds() < 0:
        yield f"settle {provider.settle!r}: a Settle with a delay of 0 or more"
    if not isinstance(provider.live, bool):
        yield f"live {provider.live!r}: True or False"
    rows = provider.page_rows(timeframe)
    if rows is not None and (not isinstance(rows, int) or rows < 1):
        yield f"page_rows gives {rows!r}: None, or 1 and more"
    one, ten = provider.expected_wait(1), provider.expected_wait(10)
    if not 0 <= one <= ten:
        yield f"expected_wait gives {one!r} for 1 request and {ten!r} for 10: seconds, and no fewer for more"
    lifetime = provider.lifetime(trial.request.instrument.symbol)
    if not (lifetime is None or isinstance(lifetime, Lifetime)):
        yield f"lifetime gives {lifetime!r}: None or a Lifetime"
    elif lifetime and lifetime.first and lifetime.last and lifetime.last < lifetime.first:
        yield f"lifetime ends {lifetime.last}, before it begins, {lifetime.first}"


def _served(trial: _Trial) -> Iterator[str]:
    request = trial.request
    served = trial.provider.served(request.instrument, request.timeframe, request.sessions)
    if served.window is None or intersect([request.window], [served.window]) != [request.window]:
        yield f"served says {served.window}, and {request.window} was said to be served whole"
    unknown = trial.provider.served(replace(request.instrument, symbol=_UNKNOWN), request.timeframe, request.sessions)
    if not served.reason or not unknown.reason:
        yield "served gives no reason: a line for people, when all is served too"


def _answers(trial: _Trial) -> Iterator[str]:
    request = trial.request
    bars, answered = trial.ask()
    if wrong := [name for name, kind in _KINDS.items() if getattr(bars, name).dtype != kind]:
        yield f"columns of another type than make_bars gives: {', '.join(wrong)}"
    if answered != [request.window]:
        told = ", ".join(map(str, answered)) or "nothing"
        yield f"answers for {told}, asked for {request.window}"
    if not len(bars):
        yield "no bars at all"
    if np.any((bars.ts < request.window.start) | (bars.ts >= request.window.end)):
        yield "bars outside of what was asked"
    if np.any(bars.ts > to_micros(trial.now)):
        yield "bars that start after now"
    if request.timeframe == "1m" and np.any(bars.ts % MINUTE):
        yield "minutes that do not start on the minute: ts is the bar's left edge, in microseconds UTC"
    if request.timeframe == "1d" and not np.isin(bars.ts, request.sessions.day_start).all():
        yield "days that are not labelled by midnight in the calendar's zone (sessions.day_start)"
    if np.any(bars.final):
        yield "bars called final: that is decided later"


def _repeats(trial: _Trial) -> Iterator[str]:
    request = trial.request
    whole, _ = trial.ask()
    with ThreadPoolExecutor(2) as pool:
        if not all(_same(whole, answer[0]) for answer in pool.map(lambda _: trial.ask(), range(2))):
            yield "two threads that ask at once get other bars than one that asks alone"
    rows = request.sessions.rows(request.window)
    middle = int(request.sessions.day_start[(rows.start + rows.stop) // 2])
    halves = [Window(request.window.start, middle), Window(middle, request.window.end)]
    if not _same(whole, concatenate([trial.ask(window=half)[0] for half in halves])):
        yield "asked for in two halves, the bars are others than in one"


def _strangers(trial: _Trial) -> Iterator[str]:
    """What it does not have. An error of the tree is as good an answer as none."""
    unknown = {"instrument": replace(trial.request.instrument, symbol=_UNKNOWN)}
    sessions = trial.request.sessions
    later = int(np.searchsorted(sessions.day_start, to_micros(trial.now), side="right"))
    future = {"window": Window(int(sessions.day_start[later]), int(sessions.day_end[later]))}
    for what, changes in (("an unknown ticker", unknown), ("a session to come", future)):
        try:
            bars, answered = trial.ask(**changes)
        except ProviderError as error:
            if "\n" in str(error) or not str(error):
                yield f"the error for {what} is not one line: {error!r}"
            continue
        if len(bars):
            yield f"{len(bars)} bars for {what}"
        if answered and what == "a session to come":
            yield f"answers for {what}"


def _same(left: Bars, right: Bars) -> bool:
    left, right = left.sorted(), right.sorted()
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name), equal_nan=field.name == "vwap")
        for field in fields(Bars)
    )
