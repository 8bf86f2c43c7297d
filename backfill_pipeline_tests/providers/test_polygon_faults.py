"""The fault table: what each thing a server does makes of the stored bars, the outcome, and what counts as answered.

A request of three sessions in pages of 1,000 minutes; the fault strikes once unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
import pytest

from backfill_pipeline.domain.windows import Window
from backfill_pipeline.providers.errors import (
    BeyondPlan,
    NeverServed,
    NotBelieved,
    NotYet,
    OddRefusal,
    ProviderError,
    ProviderStopped,
    RateLimited,
    ServerTrouble,
    Unreachable,
)
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline_tests.providers.polygons import Heard, asking, hear, provider, same, truth
from backfill_pipeline_tests.standin import StandIn

# In the week before NOW: too young for a plan's limits to be suspected.
FIRST, LAST = date(2026, 7, 29), date(2026, 7, 31)
NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
PATIENCE = Patience(backoff=0.001, connect=2.0, silence=0.5, whole=5.0)
TRIES = 8

Stored = Literal["all", "none", "some"]
Answered = Literal["all", "none"]


@dataclass(frozen=True)
class Case:
    """`times` None: for ever. `asked`: requests in all, where it matters. `line`: in the error or among the notes."""

    fault: str
    stored: Stored = "all"
    answered: Answered = "all"
    kind: type[ProviderError] | None = None
    line: str = ""
    times: int | None = 1
    asked: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.fault} {'for ever' if self.times is None else self.times}"


def passing(fault: str, kind: type[ProviderError], line: str, **options: Any) -> list[Case]:
    """A fault that passes: once it costs a request; if it stays, the outcome is its own."""
    return [
        Case(fault, asked=4, options=options),
        Case(fault, "none", "none", kind, line, None, TRIES, options),
    ]


def final(fault: str, kind: type[ProviderError], line: str, asked: int = 1, times: int | None = None) -> Case:
    return Case(fault, "none", "none", kind, line, times, asked)


CASES = [
    *passing("429", RateLimited, r"too many requests \(429\)"),
    *passing("429_empty", RateLimited, r"too many requests \(429\)"),
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
    Case("stalled_headers", asked=4, options={"seconds": 1.0}),
    Case("stalled_body", asked=4, options={"seconds": 1.0}),
    Case("400_order", asked=4),
    final("400_order", OddRefusal, "called invalid: The parameter 'to'", asked=2),
    final("400_parameter", OddRefusal, "called invalid: The parameter 'limit'", asked=2),
    final("401", ProviderStopped, r"the key is not accepted \(401\): Unknown API Key; correct it", times=1),
    final("403_entitled", NeverServed, "not in the plan: You are not entitled", times=1),
    final("403_today", NotYet, "Attempted to request today's data before end of day", times=1),
    Case("403_timeframe", "none", "none", BeyondPlan, "older than the plan reaches: Your plan", None),
    final("404", NeverServed, "no such data: Data not found", times=1),
    final("501", ServerTrouble, r"\(501\)", asked=TRIES),
    Case("empty_absent", "none", asked=1),
    Case("empty_null", "none", asked=1),
    Case("empty_list", "none", asked=1),
    Case("page_without_results", asked=4),
    Case("next_url_other_host", asked=3, times=None),
    Case("next_url_loop", asked=4),
    Case("full_page_without_next_url", asked=3),
    Case("full_page_without_next_url", asked=3, times=None),
    Case("duplicate_equal"),
    Case("duplicate_conflicting", "some", line="rows of the same ts disagree"),
    Case("outside_window", line="ts is outside the asked window"),
    Case("off_grid", "some", line="not at the start of a minute"),
    Case("missing_vw_n", "some"),
    Case("exponent_numbers", times=None),
    Case("fractional_volume", "some", times=None),
    Case("nan_price", "some", line="not a number"),
    Case("null_price", "some", line="not a number"),
    Case("negative_price", "some", line="price is not positive"),
    Case("inconsistent_price", "some", line="high is below open or close"),
    Case("adjusted", "none", "none", NotBelieved, "unadjusted bars were asked and adjusted ones came", asked=1),
    Case("adjusted_page_2", "none", "none", NotBelieved, "adjusted ones came", asked=2),
    Case("other_symbol", "none", "none", NotBelieved, "the reply is about 'MSFT'", asked=1),
]


def paging(standin: StandIn, page_rows: int = 1000) -> PolygonProvider:
    """A provider that knows AAPL as hardly trading, so that its window holds the whole request and needs more pages."""
    of = provider(standin, patience=PATIENCE, page_rows=page_rows)
    of._pages._per_session["AAPL"] = 30
    return of


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


def lines(heard: Heard) -> list[str]:
    """What a person is told: the error, notes, and reasons of refused rows."""
    return [*([] if heard.error is None else [str(heard.error)]), *heard.notes, *(one.reason for one in heard.refused)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_a_server_does_wrong(standin: StandIn, case: Case) -> None:
    fault = standin.fault(case.fault, times=case.times, **case.options)
    request = asking(FIRST, LAST)
    # One window, three pages: a fault on any of them must not spoil what the others say.
    heard = hear(paging(standin), request, NOW)
    right = truth(standin, request)
    assert fault.hit, "the fault did not strike: the case proves nothing"
    assert type(heard.error) is (case.kind or type(None))
    assert heard.answered == ([] if case.answered == "none" else [request.window])
    if case.stored == "all":
        assert same(heard.stored, right)
    elif case.stored == "none":
        assert len(heard.raw) == 0
    else:
        assert_nothing_wrong_is_stored(heard, right, case)
    assert not case.line or any(_matches(case.line, line) for line in lines(heard))
    assert all("\n" not in line and standin.key not in line for line in lines(heard))
    if case.asked is not None:
        assert len(standin.requests) == case.asked
    assert standin.leaks == []


def _matches(pattern: str, line: str) -> bool:
    import re

    return re.search(pattern, line) is not None


def assert_nothing_wrong_is_stored(heard: Heard, right: Any, case: Case) -> None:
    """Of every bar that is stored, times and prices are the true ones; what lacks was refused, and is counted."""
    place = np.searchsorted(right.ts, heard.stored.ts)
    true = right.take(place)
    for name in ("ts", "open", "high", "low", "close"):
        assert np.array_equal(getattr(heard.stored, name), getattr(true, name))
    if case.fault == "missing_vw_n":
        unknown = np.isnan(heard.stored.vwap)
        assert 0 < unknown.sum() < len(right)
        assert (heard.stored.trades[unknown] == -1).all()
        assert np.array_equal(heard.stored.vwap[~unknown], true.vwap[~unknown])
    elif case.fault == "fractional_volume":
        assert np.array_equal(heard.stored.volume, true.volume // 1 + 0.123456)
    else:
        assert len(heard.refused) == (2 if case.fault == "duplicate_conflicting" else 1)
        assert len(heard.stored) == len(right) - 1


def test_pages_in_disorder_vouch_for_nothing_unless_they_end(standin: StandIn) -> None:
    request = asking(FIRST, LAST)
    standin.fault("unsorted", times=None)
    ended = hear(provider(standin, patience=PATIENCE), request, NOW)
    assert same(ended.stored, truth(standin, request))
    assert ended.answered == [request.window]
    standin.reset()
    standin.queue("unsorted")
    standin.fault("next_url_loop", times=None)
    # A page in disorder, then one that leads back: until when they are complete cannot be said.
    broken = hear(paging(standin), request, NOW)
    assert broken.answered == []
    assert any("pages that do not end or are in disorder" in note for note in broken.notes)


def test_a_server_that_leads_in_circles_for_ever_is_given_up(standin: StandIn) -> None:
    standin.fault("next_url_loop", times=None)
    request = asking(FIRST, LAST)
    heard = hear(paging(standin, 300), request, NOW)
    right = truth(standin, request)
    for window in heard.answered:
        told = right.between(window.start, window.end)
        mine = heard.stored.between(window.start, window.end)
        assert same(mine, told)
    assert len(standin.requests) < 40


def test_what_was_answered_before_an_error_counts(standin: StandIn) -> None:
    request = asking(date(2026, 7, 27), date(2026, 7, 31))
    # A window a session, a page each.
    standin.queue("ok", "ok", "404")
    heard = hear(provider(standin, patience=PATIENCE, page_rows=960), request, NOW)
    assert isinstance(heard.error, NeverServed)
    assert heard.answered
    answered = heard.answered[0]
    assert answered.start == request.window.start
    assert answered.end < request.window.end
    assert same(heard.stored, truth(standin, request).between(answered.start, answered.end))


def test_a_stray_bar_of_another_window_does_not_stand_against_the_true_one(standin: StandIn) -> None:
    request = asking(date(2026, 7, 20), date(2026, 7, 31))
    standin.fault("outside_window", times=None)
    # Ten windows: the bar a week after each one's last lies in another window of the same request.
    heard = hear(provider(standin, patience=PATIENCE, page_rows=999), request, NOW)
    assert same(heard.stored, truth(standin, request))
    assert heard.answered == [request.window]
    assert {refusal.reason for refusal in heard.refused} == {
        f"ts is outside the asked window {Window(*_ends(request))}"
    }


def _ends(request: Any) -> tuple[int, int]:
    return request.window.start, request.window.end
