"""Tradier's provider against the stand-in. The dates lie in the past of any clock that the tests may run by."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from pydantic import SecretStr

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.providers.base import Request
from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.tradier import TradierProvider
from backfill_pipeline_tests.providers.polygons import QUICK
from backfill_pipeline_tests.providers.test_http import Server
from backfill_pipeline_tests.standin import StandIn

# A Thursday: Tradier's ten days reach back to Monday, 2024-07-29.
NOW = datetime(2024, 8, 8, 12, tzinfo=UTC)

TOKEN = "tr_live_0123456789abcdefXYZ"


def provider(standin: StandIn, **settings: Any) -> TradierProvider:
    now = settings.pop("now", NOW)
    settings = {"budget": NoBudget(), "patience": QUICK, "now": lambda: now} | settings
    return TradierProvider(SecretStr(settings.pop("key", standin.key)), standin.tradier_url, **settings)


def behind(server: Server, budget: NoBudget | None = None) -> TradierProvider:
    """A provider that asks once, of a server that says what it was told to."""
    patience = Patience(tries=1, backoff=0.001)
    return TradierProvider(SecretStr(TOKEN), server.url, budget=budget or NoBudget(), patience=patience)


def truth(standin: StandIn, request: Request) -> Bars:
    """The market's minutes, as far as Tradier tells them: it never counts trades."""
    bars = standin.market.minutes(request.instrument.symbol, request.window)
    return replace(bars, trades=np.full(len(bars), -1))


def asked(standin: StandIn) -> list[dict[str, str]]:
    """The queries, in order."""
    return [dict(parse_qsl(urlsplit(seen.path).query)) for seen in standin.requests]


def spans(standin: StandIn) -> list[tuple[str, str]]:
    return [(query["start"], query["end"]) for query in asked(standin)]
