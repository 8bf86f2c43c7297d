"""Tradier's limits are kept to, whoever used them up, and its token is shown nowhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date

import pytest

from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.errors import (
    NeverServed,
    OddRefusal,
    ProviderError,
    ProviderStopped,
    RateLimited,
    ServerTrouble,
)
from backfill_pipeline.providers.http import MOST_WAIT, Patience
from backfill_pipeline_tests.providers.polygons import asking, hear
from backfill_pipeline_tests.providers.test_http import reply, serving
from backfill_pipeline_tests.providers.tradiers import NOW, TOKEN, behind, provider
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.reader import Reader

FIRST, LAST = date(2024, 7, 31), date(2024, 8, 2)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


def test_the_headers_of_the_limit_are_obeyed(standin: StandIn) -> None:
    standin.set(tradier_per_minute=2, window_seconds=0.5)
    of = provider(standin)
    for _ in range(6):
        assert hear(of, asking(FIRST, LAST), NOW).error is None
    assert (len(standin.requests), standin.provoked_429) == (6, 0)


def test_the_headers_of_a_refusal_are_obeyed_too(standin: StandIn) -> None:
    standin.set(tradier_per_minute=1, window_seconds=0.5)
    heard = hear(provider(standin), asking(date(2024, 7, 8), LAST), NOW)
    assert heard.error is None
    assert ([seen.status for seen in standin.requests], standin.provoked_429) == ([400, 200], 0)


def test_a_limit_that_somebody_else_used_up_is_waited_for(standin: StandIn) -> None:
    standin.set(tradier_per_minute=1, window_seconds=3600)
    Reader(standin).get("/v1/markets/calendar")
    budget = NoBudget()
    heard = hear(provider(standin, budget=budget, patience=Patience(tries=1)), asking(FIRST, LAST), NOW)
    assert isinstance(heard.error, RateLimited)
    assert [seen.status for seen in standin.requests] == [200, 429]
    rest = 3600 - time.time() % 3600
    assert min(rest, MOST_WAIT) - 2 < budget.expected_wait("backfill") < min(rest, MOST_WAIT) + 2


@pytest.mark.parametrize("status", ["429 Too Many Requests", "400 Bad Request", "200 OK"])
def test_a_quota_violation_holds_everybody_back_until_the_time_it_names(status: str) -> None:
    expiry = round((time.time() + 30) * 1000)
    budget = NoBudget()
    with serving(reply(status, f"Quota Violation: too many requests, try again after {expiry}".encode())) as server:
        heard = hear(behind(server, budget), asking(FIRST, LAST), NOW)
    assert isinstance(heard.error, RateLimited)
    assert 28 < budget.expected_wait("backfill") <= 30


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply("401 Unauthorized", f"Invalid Access Token {TOKEN}".encode()), ProviderStopped),
        (reply("400 Bad Request", f"Invalid parameter, token: {TOKEN}".encode()), OddRefusal),
        (reply("403 Forbidden", f"Forbidden: {TOKEN}".encode()), NeverServed),
        (reply("200 OK", f"<html>{TOKEN}".encode()), ServerTrouble),
        (reply("200 OK", b'{"errors": {"error": "%s"}}' % TOKEN.encode()), ServerTrouble),
        (reply("500 Error", b'{"fault": {"faultstring": "no\\n%s"}}' % TOKEN.encode()), ServerTrouble),
    ],
)
def test_a_token_that_the_server_repeats_is_not_passed_on(answer: bytes, kind: type[ProviderError]) -> None:
    with serving(answer) as server:
        heard = hear(behind(server), asking(FIRST, LAST), NOW)
    assert f"Authorization: Bearer {TOKEN}\r\n" in server.asked[0]
    assert server.asked[0].count(TOKEN) == 1
    assert "Accept: application/json\r\n" in server.asked[0]
    assert type(heard.error) is kind
    assert "***" in str(heard.error)
    assert TOKEN not in str(heard.error)
    assert "\n" not in str(heard.error)
