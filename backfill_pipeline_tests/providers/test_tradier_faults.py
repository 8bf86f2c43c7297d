"""What each thing Tradier's server does wrong makes of the stored bars, the outcome, and what counts as answered.

A request of three sessions, which is one page; the fault strikes once unless it says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
import pytest

from backfill_pipeline.domain.windows import Window, to_micros, union
from backfill_pipeline.providers.errors import (
    BeyondPlan,
    NeverServed,
    OddRefusal,
    ProviderError,
    ProviderStopped,
    RateLimited,
    ServerTrouble,
    Unreachable,
)
from backfill_pipeline.providers.http import Patience
from backfill_pipeline_tests.providers.polygons import Heard, asking, hear, same, until
from backfill_pipeline_tests.providers.test_http import reply, serving
from backfill_pipeline_tests.providers.tradiers import NOW, behind, provider, spans, truth
from backfill_pipeline_tests.standin import StandIn

FIRST, LAST = date(2024, 7, 31), date(2024, 8, 2)
PATIENCE = Patience(backoff=0.001)
# Short only where a server stalls: on a busy machine a good answer may take its time.
SHORT = replace(PATIENCE, silence=1.0)
TRIES = 8


@dataclass(frozen=True)
class Case:
    """`times` None: for ever. `asked`: requests in all. `line`: in the error or among the reasons of refused rows.
    `refused`: rows that validation refuses.
    """

    fault: str
    stored: Literal["all", "none", "some"] = "all"
    kind: type[ProviderError] | None = None
    line: str = ""
    times: int | None = 1
    asked: int = 1
    refused: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.fault} {'for ever' if self.times is None else self.times}"


def passing(fault: str, kind: type[ProviderError], line: str) -> list[Case]:
    """A fault that passes: once it costs a request; if it stays, the outcome is its own."""
    return [Case(fault, asked=2), Case(fault, "none", kind, line, None, TRIES)]


def final(fault: str, kind: type[ProviderError], line: str, asked: int = 1, times: int | None = 1) -> Case:
    return Case(fault, "none", kind, line, times, asked)


CASES = [
    *passing("429", RateLimited, "too many requests"),
    *passing("429_empty", RateLimited, r"too many requests \(429\)"),
    *passing("tradier_quota", RateLimited, "too many requests: does something else use the token"),
    *passing("500", ServerTrouble, r"the server has trouble \(500\)"),
    *passing("503", ServerTrouble, r"the server has trouble \(503\)"),
    *passing("tradier_datastore", ServerTrouble, r"the server has trouble \(500\): Datastore Error"),
    *passing("connection_reset", Unreachable, "the connection broke"),
    *passing("truncated_body", Unreachable, "the connection broke"),
    *passing("truncated_gzip", ServerTrouble, "broken or ends early"),
    *passing("truncated_json", ServerTrouble, "broken or ends early"),
    *passing("html_200", ServerTrouble, "no JSON but '<html>"),
    *passing("empty_200", ServerTrouble, "the server sent nothing"),
    Case("stalled_headers", asked=2, options={"seconds": 5.0}),
    Case("stalled_body", asked=2, options={"seconds": 5.0}),
    final("401", ProviderStopped, "the token is not accepted: Invalid Access Token; correct TRADIER_TOKEN"),
    final("tradier_token_expired", ProviderStopped, "not accepted: Access Token expired; correct TRADIER_TOKEN"),
    final("403_entitled", NeverServed, r"refused \(403\): Forbidden"),
    Case("400_order", asked=2),
    final("400_order", OddRefusal, "called invalid: Invalid parameter, end; tried 2 times", 2, None),
    Case("404", asked=2),
    final("404", OddRefusal, r"nothing is there \(404\): does TRADIER_BASE_URL end in /v1\?", 2, None),
    # Three sessions are halved to one; once, thrice, and until an hour is left: 3, 1 and 24, 12, 6, 3, 1.5, 0.75 hours.
    Case("tradier_too_big", asked=3),
    Case("tradier_too_big", asked=7, times=3),
    final("tradier_too_big", ServerTrouble, "too big for the server .*TooBigBody.*not even an hour", 7, None),
    Case("tradier_null", "none"),
    Case("tradier_text_null", "none"),
    Case("tradier_missing", "none"),
    Case("tradier_data_null", "none"),
    final("tradier_unmatched", NeverServed, "does not know this symbol"),
    Case("tradier_null_prices", "some", line="not a number", refused=3 * 330),
    Case("duplicate_equal"),
    Case("duplicate_conflicting", "some", line="rows of the same ts disagree", refused=2),
    Case("outside_window", line="ts is outside the asked window", refused=2),
    Case("unsorted"),
    Case("off_grid", "some", line="not at the start of a minute", refused=1),
    Case("missing_vw_n", "some"),
    Case("exponent_numbers"),
    Case("fractional_volume", "some"),
    Case("nan_price", "some", line="not a number", refused=1),
    Case("null_price", "some", line="not a number", refused=1),
    Case("negative_price", "some", line="price is not positive", refused=1),
    Case("inconsistent_price", "some", line="high is below open or close", refused=1),
]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_a_server_does_wrong(standin: StandIn, case: Case) -> None:
    fault = standin.fault(case.fault, times=case.times, **case.options)
    request = asking(FIRST, LAST)
    patience = SHORT if case.fault.startswith("stalled") else PATIENCE
    heard = hear(provider(standin, patience=patience), request, NOW)
    right = truth(standin, request)
    lines = [*([] if heard.error is None else [str(heard.error)]), *(one.reason for one in heard.refused)]
    assert fault.hit, "the fault did not strike: the case proves nothing"
    assert type(heard.error) is (case.kind or type(None))
    assert heard.answered == ([] if case.kind else [request.window])
    assert heard.notes == []
    assert len(standin.requests) == case.asked
    assert not case.line or any(re.search(case.line, line) for line in lines), lines
    assert all("\n" not in line and standin.key not in line for line in lines)
    assert len(heard.refused) == case.refused
    if case.stored == "all":
        assert same(heard.stored, right)
    elif case.stored == "none":
        assert len(heard.raw) == 0
    else:
        assert_nothing_wrong_is_stored(heard, right, case)
    assert standin.leaks == []


def assert_nothing_wrong_is_stored(heard: Heard, right: Any, case: Case) -> None:
    """Of every bar that is stored, times and prices are the true ones; what lacks was refused, and is counted."""
    true = right.take(np.searchsorted(right.ts, heard.stored.ts))
    for name in ("ts", "open", "high", "low", "close"):
        assert np.array_equal(getattr(heard.stored, name), getattr(true, name))
    lost = case.refused - (case.fault == "duplicate_conflicting")
    assert len(heard.stored) == len(right) - lost
    if case.fault == "missing_vw_n":
        assert np.isnan(heard.stored.vwap).all()
    if case.fault == "fractional_volume":
        assert np.array_equal(heard.stored.volume, true.volume // 1 + 0.123456)


def test_a_wrong_token_stops_everything_and_is_not_shown(standin: StandIn) -> None:
    of = provider(standin, key="another-token")
    for day in (FIRST, LAST):
        heard = hear(of, asking(day, day), NOW)
        assert isinstance(heard.error, ProviderStopped)
        assert "another-token" not in str(heard.error)
    assert [seen.status for seen in standin.requests] == [401]


def test_a_day_under_way_that_is_too_big_is_halved_and_vouched_for_no_further(standin: StandIn) -> None:
    now = datetime(2024, 8, 8, 15, 30, 20, tzinfo=UTC)
    standin.set(now=now)
    standin.fault("tradier_too_big")
    request = until(asking(date(2024, 8, 8), date(2024, 8, 8)), now)
    heard = hear(provider(standin), request, now)
    assert same(heard.raw, truth(standin, until(request, now.replace(second=0))))
    assert spans(standin) == [
        ("2024-08-08 00:00", "2024-08-08 11:30"),
        ("2024-08-08 00:00", "2024-08-08 05:44"),
        ("2024-08-08 05:45", "2024-08-08 11:30"),
    ]
    # The last bar of each half is provisional.
    assert heard.answered == [
        Window(request.window.start, to_micros(datetime(2024, 8, 8, 9, 44, tzinfo=UTC))),
        Window(to_micros(datetime(2024, 8, 8, 9, 45, tzinfo=UTC)), to_micros(datetime(2024, 8, 8, 15, 29, tzinfo=UTC))),
    ]


def test_what_was_answered_before_an_error_counts(standin: StandIn) -> None:
    standin.queue("tradier_too_big", "ok", "403_entitled")
    request = asking(FIRST, LAST)
    heard = hear(provider(standin), request, NOW)
    assert isinstance(heard.error, NeverServed)
    half = asking(FIRST, FIRST)
    assert heard.answered == union([half.window])
    assert same(heard.stored, truth(standin, half))


def test_a_stray_bar_of_another_request_does_not_stand_against_the_true_one(standin: StandIn) -> None:
    standin.set(tradier_depth=False)
    standin.fault("outside_window", times=None)
    # Two requests: the bar a week before the second one's first lies in the first one.
    request = asking(date(2024, 7, 22), date(2024, 8, 7))
    heard = hear(provider(standin), request, NOW)
    assert len(standin.requests) == 2
    assert same(heard.stored, truth(standin, request))
    assert heard.answered == [request.window]


@pytest.mark.parametrize("times", [1, None])
def test_a_boundary_that_the_request_kept_to_is_a_mistake_and_asked_once_more(
    standin: StandIn, times: int | None
) -> None:
    now = datetime(2026, 8, 6, 12, tzinfo=UTC)  # the fault's boundary is 2026-02-27
    standin.set(now=now)
    standin.fault("tradier_depth", times=times)
    request = asking(date(2026, 7, 29), date(2026, 7, 31))
    heard = hear(provider(standin), request, now)
    assert heard.notes == []
    assert len(standin.requests) == 2
    if times:
        assert (heard.error, heard.answered) == (None, [request.window])
        assert same(heard.stored, truth(standin, request))
    else:
        assert isinstance(heard.error, OddRefusal)
        assert "must be on or after 2026-02-27 00:00:00" in str(heard.error)
        assert heard.answered == []


def test_a_boundary_that_moves_on_is_believed_once() -> None:
    def refusal(boundary: str) -> bytes:
        return reply("400 Bad Request", f"Invalid parameter, start: must be on or after {boundary}.".encode())

    answers = [refusal("2024-08-01 09:30:15"), refusal("2024-08-02 00:00:00")]
    with serving(*answers) as server:
        heard = hear(behind(server), asking(FIRST, LAST), NOW)
    assert isinstance(heard.error, BeyondPlan)
    assert heard.notes == ["tradier serves minutes of AAPL from 2024-08-01 09:31 New York time"]
    assert heard.answered == []
    assert ["start=2024-07-31+00%3A00" in server.asked[0], "start=2024-08-01+09%3A31" in server.asked[1]] == [True] * 2
    assert len(server.asked) == 2
