"""Polygon's provider against the stand-in: requests, and what validation makes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from pydantic import SecretStr

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import Refusal, validate
from backfill_pipeline.domain.windows import Window, to_micros, union
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline_tests.standin import StandIn

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
XNYS = load_sessions("XNYS", date(2027, 12, 31))
CRYPTO = load_sessions("24/7", date(2027, 12, 31))
AAPL = Instrument(1, "AAPL", "stock", "XNYS", date(1980, 12, 12))
BITCOIN = Instrument(2, "X:BTCUSD", "crypto", "24/7")
QUICK = Patience(backoff=0.001, silence=10.0)

COLUMNS = ("ts", "open", "high", "low", "close", "volume", "vwap", "trades")


@dataclass
class Heard:
    """What came of one fetch: pieces, and the error that ended it."""

    request: Request
    pieces: list[Answer] = field(default_factory=list)
    error: ProviderError | None = None

    @property
    def answered(self) -> list[Window]:
        return union(window for piece in self.pieces for window in piece.answered)

    @property
    def notes(self) -> list[str]:
        return [piece.note for piece in self.pieces if piece.note]

    @property
    def raw(self) -> Bars:
        return concatenate([piece.bars for piece in self.pieces])

    @property
    def stored(self) -> Bars:
        return self._validated.bars

    @property
    def refused(self) -> Sequence[Refusal]:
        return self._validated.refused

    @property
    def _validated(self):  # type: ignore[no-untyped-def]  # domain.validate's own type
        return validate(self.raw, self.request.timeframe, self.request.window, self.request.sessions)


def provider(standin: StandIn, **settings: Any) -> PolygonProvider:
    now = settings.pop("now", NOW)
    settings = {"budget": NoBudget(), "limits": OwnMemory(), "patience": QUICK, "now": lambda: now} | settings
    return PolygonProvider(SecretStr(settings.pop("key", standin.key)), standin.url, **settings)


def asking(first: date, last: date, timeframe: Base = "1m", instrument: Instrument = AAPL) -> Request:
    sessions = sessions_of(instrument)
    return Request(instrument, timeframe, sessions.days_window(first, last), sessions)


def sessions_of(instrument: Instrument) -> Sessions:
    return CRYPTO if instrument.asset_class == "crypto" else XNYS


def until(request: Request, now: datetime) -> Request:
    """The same request as it is made at `now`: nothing after it."""
    window = Window(request.window.start, min(request.window.end, to_micros(now)))
    return Request(request.instrument, request.timeframe, window, request.sessions)


def hear(of: PolygonProvider, request: Request, now: datetime = NOW) -> Heard:
    heard = Heard(request)
    try:
        for piece in of.fetch(request, now):
            heard.pieces.append(piece)  # what came before an error counts
    except ProviderError as error:
        heard.error = error
    return heard


def truth(standin: StandIn, request: Request) -> Bars:
    symbol, window, sessions = request.instrument.symbol, request.window, request.sessions
    if request.timeframe == "1m":
        return standin.market.minutes(symbol, window)
    days = sessions.session[sessions.rows(window)].astype(object)
    return standin.market.days(symbol, days[0], days[-1])


def same(left: Bars, right: Bars) -> bool:
    """Equal to the last digit."""
    return all(np.array_equal(getattr(left, name), getattr(right, name), equal_nan=True) for name in COLUMNS)


def paths(standin: StandIn) -> list[str]:
    return [seen.path for seen in standin.requests]
