"""The fault table of Binance: what each thing a server does makes of the stored bars, the outcome and the answer.

A request of two days of minutes in three pages; the fault strikes the first page once unless it says otherwise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pytest

from backfill_pipeline.domain.windows import MINUTE, Window, subtract
from backfill_pipeline.providers.binance import BinanceProvider
from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.errors import (
    OddRefusal,
    ProviderError,
    ProviderStopped,
    RateLimited,
    ServerTrouble,
    Unreachable,
)
from backfill_pipeline.providers.http import Patience
from backfill_pipeline_tests.providers.polygons import NOW, asking, hear, truth
from backfill_pipeline_tests.providers.test_binance import PAIR, alike, binance
from backfill_pipeline_tests.providers.test_http import reply, serving
from backfill_pipeline_tests.standin import StandIn

DAYS = (date(2026, 8, 1), date(2026, 8, 2))
PATIENCE = Patience(backoff=0.001, connect=2.0, silence=0.5, whole=5.0)
TRIES, PAGES = 8, 3


@dataclass(frozen=True)
class Case:
    """`times` None: for ever. `refused`: rows in quarantine. `line`: in the error or among the reasons."""

    fault: str
    stored: Literal["all", "none", "but one"] = "all"
    kind: type[ProviderError] | None = None
    line: str = ""
    times: int | None = 1
    asked: int = PAGES
    refused: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.fault} {'for ever' if self.times is None else self.times}"


def passing(fault: str, kind: type[ProviderError], line: str, **options: Any) -> list[Case]:
    """A fault that passes: once it costs a request; if it stays, the outcome is its own."""
    return [
        Case(fault, asked=PAGES + 1, options=options),
        Case(fault, "none", kind, line, None, TRIES, options=options),
    ]


def final(fault: str, kind: type[ProviderError], line: str, asked: int = 1) -> Case:
    return Case(fault, "none", kind, line, None, asked)


def spoiled(fault: str, line: str, refused: int = 1) -> Case:
    return Case(fault, "but one", line=line, refused=refused)


CASES = [
    *passing("429", RateLimited, r"too many requests \(429\)", retry_after=0),
    *passing("429_empty", RateLimited, r"too many requests \(429\)", retry_after=0),
    *passing("500", ServerTrouble, r"the server has trouble \(500\)"),
    *passing("502", ServerTrouble, r"the server has trouble \(502\)"),
    *passing("503", ServerTrouble, r"the server has trouble \(503\)"),
    *passing("504", ServerTrouble, r"the server has trouble \(504\)"),
    *passing("connection_reset", Unreachable, "the connection broke"),
    *passing("truncated_body", Unreachable, "the connection broke"),
    *passing("truncated_gzip", ServerTrouble, "broken or ends early"),
    *passing("truncated_json", ServerTrouble, "broken or ends early"),
    *passing("html_200", ServerTrouble, "no JSON but '<html>"),
    *passing("empty_200", ServerTrouble, "the server sent nothing"),
    Case("stalled_headers", asked=PAGES + 1, options={"seconds": 1.0}),
    Case("stalled_body", asked=PAGES + 1, options={"seconds": 1.0}),
    Case("400_parameter", asked=PAGES + 1),
    final("400_parameter", OddRefusal, r"called invalid \(400\): Illegal characters found in a parameter", asked=2),
    final("404", OddRefusal, "is the base URL right", asked=2),
    final("401", ProviderStopped, r"turned away \(401\): Invalid API-key, IP"),
    final("403_entitled", ProviderStopped, r"turned away \(403\)"),
    Case("duplicate_equal"),
    spoiled("duplicate_conflicting", "rows of the same ts disagree", refused=2),
    Case("outside_window", line="ts is outside the asked window", refused=2),
    spoiled("off_grid", "not at the start of a minute"),
    Case("unsorted"),
    spoiled("nan_price", "not a number"),
    spoiled("null_price", "not a number"),
    spoiled("negative_price", "price is not positive"),
    spoiled("inconsistent_price", "high is below open or close"),
]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_a_server_does_wrong(standin: StandIn, case: Case) -> None:
    fault = standin.fault(case.fault, times=case.times, **case.options)
    request = asking(*DAYS, "1m", PAIR)
    heard = hear(binance(standin, patience=PATIENCE), request)
    right = truth(standin, request)
    assert fault.hit, "the fault did not strike: the case proves nothing"
    assert type(heard.error) is (case.kind or type(None))
    assert heard.answered == ([] if case.stored == "none" else [request.window])
    assert len(heard.refused) == case.refused
    if case.stored == "none":
        assert len(heard.raw) == 0
    else:
        place = np.searchsorted(right.ts, heard.stored.ts)
        assert alike(heard.stored, right.take(place))
        assert len(right) - len(place) == (case.stored == "but one")
    lines = [*([] if heard.error is None else [str(heard.error)]), *(one.reason for one in heard.refused)]
    assert not case.line or any(re.search(case.line, line) for line in lines)
    assert all("\n" not in line for line in lines)
    assert len(standin.requests) == case.asked


def test_a_row_that_says_it_ends_later_is_provisional_and_the_others_are_answered(standin: StandIn) -> None:
    standin.fault("binance_unfinished", nth=2)
    request = asking(*DAYS, "1m", PAIR)
    heard = hear(binance(standin), request)
    right = truth(standin, request)
    unfinished = int(right.ts[1999])
    assert heard.answered == subtract([request.window], [Window(unfinished, unfinished + MINUTE)])
    assert heard.raw.volume[1999] == right.volume[1999] / 2
    again = hear(binance(standin), request)
    assert again.answered == [request.window]
    assert alike(again.stored, right)


def test_a_stray_bar_of_another_page_does_not_stand_against_the_true_one(standin: StandIn) -> None:
    request = asking(date(2026, 7, 20), DAYS[1], "1m", PAIR)
    # The bar a week after each page's last lies in another page of the same request, or behind all of them.
    standin.fault("outside_window", times=None)
    heard = hear(binance(standin), request)
    assert alike(heard.stored, truth(standin, request))
    assert heard.answered == [request.window]
    assert {one.reason for one in heard.refused} == {f"ts is outside the asked window {request.window}"}


def test_what_was_answered_before_an_error_counts(standin: StandIn) -> None:
    standin.queue("ok", "ok", "401")
    request = asking(*DAYS, "1m", PAIR)
    heard = hear(binance(standin), request)
    assert isinstance(heard.error, ProviderStopped)
    told = Window(request.window.start, request.window.start + 2000 * MINUTE)
    assert heard.answered == [told]
    assert alike(heard.stored, truth(standin, request).between(told.start, told.end))


def test_any_sequence_of_faults_that_ends_well_gives_the_same_bars(standin: StandIn) -> None:
    request = asking(*DAYS, "1m", PAIR)
    of = binance(standin, patience=PATIENCE)
    calm = hear(of, request)
    faults = ["500", "ok", "html_200", "connection_reset", "truncated_json", "ok", "400_parameter", "ok"]
    for order in (faults, [*faults[:-1][::-1], "ok"]):
        standin.reset()
        standin.queue(*order)
        stormy = hear(of, request)
        assert stormy.error is None
        assert alike(stormy.stored, calm.stored)
        assert stormy.answered == calm.answered


def test_the_limit_of_the_address_is_waited_out_as_the_server_says(standin: StandIn) -> None:
    """Four weights a second are two pages: seven pages need a 429 and its Retry-After of a second, three times."""
    standin.set(binance_weight_per_minute=4, window_seconds=1.0)
    request = asking(date(2026, 7, 29), DAYS[1], "1m", PAIR)
    begun = time.monotonic()
    heard = hear(binance(standin), request)
    assert heard.error is None
    assert alike(heard.stored, truth(standin, request))
    refused = [seen.status for seen in standin.requests if seen.status != 200]
    assert set(refused) == {429}
    assert len(refused) <= 4
    assert time.monotonic() - begun > 2


def test_a_short_ban_is_waited_out_and_a_long_one_stops_everything_at_once() -> None:
    banned = b'{"code":-1003,"msg":"Way too much request weight used; IP banned until 1785931200000."}'
    request = asking(DAYS[0], DAYS[0], "1d", PAIR)
    with serving(reply("418 I'm a teapot", banned, Retry_After="1"), reply("200 OK", b"[]")) as server:
        begun = time.monotonic()
        assert hear(_at(server.url), request).answered == [request.window]
        assert time.monotonic() - begun > 0.9
        assert len(server.asked) == 2
    # Three days: each further try would be another offence.
    with serving(reply("418 I'm a teapot", banned, Retry_After="259200")) as server:
        of = _at(server.url)
        for _ in range(2):
            error = hear(of, request).error
            assert type(error) is ProviderStopped
            assert "this address is banned (418): Way too much request weight used; IP banned until" in str(error)
        assert len(server.asked) == 1


def _at(url: str) -> BinanceProvider:
    return BinanceProvider(url, budget=NoBudget(), patience=PATIENCE)


def test_nothing_listens_there() -> None:
    request = asking(DAYS[0], DAYS[0], "1d", PAIR)
    error = hear(_at("http://127.0.0.1:9"), request, datetime.now(UTC) + timedelta(days=1)).error
    assert type(error) is Unreachable
    assert "connection refused" in str(error)
