"""One request to each provider that the settings name: does it answer, is the key good, from when to when it serves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

import numpy as np
from pydantic import SecretStr

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions, horizon, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.providers.base import Provider, Request
from backfill_pipeline.providers.binance import BinanceProvider
from backfill_pipeline.providers.errors import (
    BeyondPlan,
    NeverServed,
    NotYet,
    ProviderError,
    ProviderStopped,
    RateLimited,
    Unreachable,
)
from backfill_pipeline.providers.files import FilesProvider
from backfill_pipeline.providers.http import Http, Patience
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.providers.polygon_decode import read_page
from backfill_pipeline.providers.tradier import TradierProvider
from backfill_pipeline.settings import Settings

from .budgets import SharedBudget
from .diagnosis import Check

# Seconds for an answer; name servers that do not answer have no time limit of their own.
_DEADLINE = 10.0
_QUICK = Patience(tries=1, connect=3, silence=6, whole=8)
# Longer than this nobody waits for the turn of a request that only tries things out.
_MOST_WAIT = 15.0
_ARCHIVE_START = date(2003, 9, 10)
_STOCK = Instrument(0, "SPY", "etf", "XNYS")
_PAIR = Instrument(0, "BTCUSDT", "crypto", "24/7")
_VARIABLES = {"polygon": "POLYGON_BASE_URL", "tradier": "TRADIER_BASE_URL", "binance": "BINANCE_BASE_URL"}


def check_providers(settings: Settings, shared: dict[str, SharedBudget], now: datetime) -> Callable[[], list[Check]]:
    """Begin to ask all of them at once; the function returned waits for the answers, ten seconds or so. Those of other
    packages are not asked: what they serve is not known here.
    """
    for instrument in (_STOCK, _PAIR):
        # Before the threads, which would undo each other's silencing of warnings that making a calendar brings.
        load_sessions(instrument.calendar, horizon(now.date()))
    begun = time.monotonic()
    answers = []
    for budget in (of for of in shared.values() if of.provider in _ASK):
        deadline = begun + _DEADLINE + min(_MOST_WAIT, budget.budget.expected_wait("nightly"))
        answers.append((budget, _started(partial(_checked, settings, budget, now)), deadline))
    return lambda: [_received(*answer) for answer in answers]


def check_files(folder: Path, now: datetime) -> Check:
    """The folder of flat files: whether it can be read, and its first and last day."""
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        return Check("files", "problem", f"{folder} is no folder that can be read", "correct BACKFILL_FILES")
    provider, sessions = FilesProvider(folder), load_sessions(_STOCK.calendar, horizon(now.date()))
    kinds: tuple[Base, ...] = ("1m", "1d")
    served = [provider.served(_STOCK, timeframe, sessions) for timeframe in kinds]
    detail = f"{folder}: {'; '.join(kind.reason.removeprefix('files has ') for kind in served)}"
    if all(kind.window is None for kind in served):
        step = "put files there as us_stocks_sip/day_aggs_v1/2024/03/2024-03-08.csv.gz"
        return Check("files", "problem", detail, step)
    return Check("files", "ok", detail)


def _started(work: Callable[[], Check]) -> SimpleQueue[Check]:
    """In a thread that nobody has to wait for when the command ends."""
    queue: SimpleQueue[Check] = SimpleQueue()
    threading.Thread(target=lambda: queue.put(work()), daemon=True).start()
    return queue


def _received(shared: SharedBudget, answer: SimpleQueue[Check], deadline: float) -> Check:
    try:
        return answer.get(timeout=max(0.1, deadline - time.monotonic()))
    except Empty:
        detail = f"{_host(shared)} has not answered within {_DEADLINE:.0f} s"
        return Check(shared.provider, "problem", detail, _check_network(shared.provider))


def _checked(settings: Settings, shared: SharedBudget, now: datetime) -> Check:
    name, state = shared.provider, shared.budget.state()
    if state.paused_at is not None:
        waiting = sum(state.waiting.values())
        detail = f"not asked: requests are paused since {state.paused_at:%Y-%m-%d %H:%M} UTC, {waiting} waiting"
        return Check(name, "warning", detail, "backfill resume")
    wait = shared.budget.expected_wait("nightly")
    if wait > _MOST_WAIT:
        return Check(name, "warning", f"not asked: the next request may go out in {wait:.0f} s", "ask again then")
    try:
        return _ASK[name](settings, shared, now)
    except ProviderError as error:
        return _refused(name, error)


def _refused(name: str, error: ProviderError) -> Check:
    text = str(error).removeprefix(f"{name}: ").partition("; tried ")[0]
    if isinstance(error, ProviderStopped):
        detail, _, step = text.rpartition("; ")
        return Check(name, "problem", detail or text, step if detail else "correct the key or the address")
    if isinstance(error, Unreachable):
        return Check(name, "problem", text, _check_network(name))
    if isinstance(error, RateLimited | NotYet):
        return Check(name, "warning", text, "ask again in some minutes")
    if isinstance(error, NeverServed):
        return Check(name, "problem", text, "see what the account's plan includes")
    return Check(name, "problem", text, "ask again later; if it stays, see the provider's status page")


def _polygon(settings: Settings, shared: SharedBudget, now: datetime) -> Check:
    """The newest days, and the whole archive where it is not known yet how far the plan reaches."""
    key = settings.polygon_api_key or SecretStr("")
    provider = PolygonProvider(key, shared.base_url, budget=shared.budget, limits=shared.limits, now=lambda: now)
    sessions = load_sessions(_STOCK.calendar, horizon(now.date()))
    newest = _newest_due(provider, sessions, now)
    learned = provider.served(_STOCK, "1d", sessions)
    known = learned.window is not None and learned.window.start > sessions.day_start[0]
    first = _day(sessions, newest - 5) if known else _ARCHIVE_START
    days = f"{first}/{_day(sessions, newest)}"
    target = f"/v2/aggs/ticker/{_STOCK.symbol}/range/1/day/{days}?adjusted=false&sort=asc&limit=50000"
    http = Http("polygon", shared.base_url, key, shared.budget, priority="nightly", patience=_QUICK)
    try:
        page = http.get(target, partial(read_page, ticker=_STOCK.symbol), what=f"days of {_STOCK.symbol}", tries=1)
    except BeyondPlan:
        return _good(shared, "the key is accepted", "how far back the plan reaches is found out by the first backfill")
    served = [_day(sessions, row) for row in sorted(set(sessions.row_of(np.sort(page.bars.ts)).tolist()) - {-1})]
    if not served or (page.next_target is None and served[-1] < _day(sessions, newest)):
        return _late(shared, served, _day(sessions, newest))
    oldest = learned.reason if known else f"from {served[0]}"
    return _good(shared, "the key is accepted", f"stocks {oldest} to {served[-1]}")


def _tradier(settings: Settings, shared: SharedBudget, now: datetime) -> Check:
    token = settings.tradier_token or SecretStr("")
    provider = TradierProvider(
        token, shared.base_url, budget=shared.budget, priority="nightly", patience=_QUICK, now=lambda: now
    )
    return _newest_asked(provider, _STOCK, "1m", shared, now, "the token is accepted")


def _binance(_settings: Settings, shared: SharedBudget, now: datetime) -> Check:
    provider = BinanceProvider(shared.base_url, budget=shared.budget, priority="nightly", patience=_QUICK)
    return _newest_asked(provider, _PAIR, "1d", shared, now, "no key needed")


_ASK: dict[str, Callable[[Settings, SharedBudget, datetime], Check]] = {
    "polygon": _polygon,
    "tradier": _tradier,
    "binance": _binance,
}


def _newest_asked(
    provider: Provider, instrument: Instrument, timeframe: Base, shared: SharedBudget, now: datetime, key: str
) -> Check:
    """Ask for the newest session that is due: one request."""
    sessions = load_sessions(instrument.calendar, horizon(now.date()))
    day = _day(sessions, _newest_due(provider, sessions, now))
    request = Request(instrument, timeframe, sessions.days_window(day, day), sessions)
    bars: Sequence[Bars] = [answer.bars for answer in provider.fetch(request, now)]
    if not sum(map(len, bars)):
        return _late(shared, [], day)
    reason = provider.served(instrument, timeframe, sessions).reason
    return _good(shared, key, f"{reason}; newest session {day}")


def _newest_due(provider: Provider, sessions: Sessions, now: datetime) -> int:
    """The row of the newest session whose answer is believed at `now`."""
    return int(np.searchsorted(provider.settle.due_at(sessions), to_micros(now), side="right")) - 1


def _day(sessions: Sessions, row: int) -> date:
    day: date = sessions.session[row].astype(object)
    return day


def _good(shared: SharedBudget, key: str, serves: str) -> Check:
    rate = f"{shared.per_minute} requests a minute" if shared.per_minute else "no limit of requests"
    return Check(shared.provider, "ok", f"{_host(shared)} answers, {key}, {rate}; {serves}")


def _late(shared: SharedBudget, served: Sequence[date], due: date) -> Check:
    newest = f"its newest session is {served[-1]}" if served else "it sent none"
    detail = f"{_host(shared)} answers, but bars of {due} are due and {newest}"
    return Check(shared.provider, "warning", detail, "ask again later; if it stays, see the provider's status page")


def _check_network(name: str) -> str:
    return f"check this machine's network and {_VARIABLES[name]}"


def _host(shared: SharedBudget) -> str:
    return urlsplit(shared.base_url).netloc.rpartition("@")[2]
