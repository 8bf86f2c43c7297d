"""The check that third parties run: this project's own providers pass it, and each broken promise is found."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import MINUTE
from backfill_pipeline.providers.base import Answer, Lifetime, Provider, Request, Served, Settle
from backfill_pipeline.providers.conformance import complaints
from backfill_pipeline.providers.files import FilesProvider
from backfill_pipeline.providers.sample import SampleProvider
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline_tests.providers.flat_folders import FIRST, LAST, stock, write_odd

NOW = datetime(2026, 11, 22, tzinfo=UTC)
AAPL = stock("AAPL")


@pytest.mark.parametrize(
    ("timeframe", "first", "last"),
    [("1m", date(2026, 7, 29), date(2026, 8, 5)), ("1d", date(2005, 1, 3), date(2006, 12, 29))],
)
def test_the_sample_keeps_every_promise(timeframe: Base, first: date, last: date) -> None:
    assert complaints(SampleProvider(), AAPL, timeframe, first, last, NOW) == []


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_files_keep_every_promise(tmp_path: Path, timeframe: Base) -> None:
    assert complaints(FilesProvider(write_odd(tmp_path)), AAPL, timeframe, FIRST, LAST, NOW) == []


class Known(SyntheticProvider):
    """Synthetic bars, and one ticker that it does not have, so that it passes."""

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        if request.instrument.symbol == AAPL.symbol:
            yield from super().fetch(request, now)


def changed(change: Callable[[Answer], Answer]) -> Known:
    class Changed(Known):
        def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
            return map(change, super().fetch(request, now))

    return Changed()


def shifted(answer: Answer, micros: int) -> Answer:
    return replace(answer, bars=replace(answer.bars, ts=answer.bars.ts + micros))


class Misnamed(Known):
    name = "Acme Bars"


class Early(Known):
    settle = Settle("close", timedelta(minutes=-1))


class Empty(Known):
    def page_rows(self, timeframe: Base) -> int | None:
        return 0


class Impatient(Known):
    def expected_wait(self, requests: int) -> float:
        return 10.0 - requests


class Backwards(Known):
    def lifetime(self, symbol: str) -> Lifetime | None:
        return Lifetime(date(2020, 1, 1), date(2019, 1, 1))


class Silent(Known):
    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        return Served(None, "")


class Forgetful(Known):
    asked = 0

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        self.asked += 1
        for answer in super().fetch(request, now):
            yield replace(answer, bars=answer.bars.take(slice(self.asked, None)))


class Seer(Known):
    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        return super().fetch(request, now + timedelta(days=30))


@pytest.mark.parametrize(
    ("provider", "found"),
    [
        pytest.param(Known(), "", id="none"),
        pytest.param(SyntheticProvider(), "bars for an unknown ticker", id="any ticker"),
        pytest.param(Misnamed(), "name 'Acme Bars'", id="name"),
        pytest.param(Early(), "a Settle with a delay of 0 or more", id="settle"),
        pytest.param(Empty(), "page_rows gives 0", id="page_rows"),
        pytest.param(Impatient(), "expected_wait gives 9.0 for 1 request and 0.0 for 10", id="expected_wait"),
        pytest.param(Backwards(), "lifetime ends 2019-01-01, before it begins", id="lifetime"),
        pytest.param(Silent(), "served gives no reason", id="reason"),
        pytest.param(Silent(), "served says None", id="served"),
        pytest.param(Forgetful(), "two threads that ask at once get other bars", id="repeated"),
        pytest.param(Seer(), "bars for a session to come", id="future"),
        pytest.param(changed(lambda a: replace(a, answered=())), "answers for nothing", id="unanswered"),
        pytest.param(changed(lambda a: replace(a, bars=a.bars.take(slice(0)))), "no bars at all", id="no bars"),
        pytest.param(changed(lambda a: shifted(a, 30_000_000)), "do not start on the minute", id="half minutes"),
        pytest.param(changed(lambda a: shifted(a, -9 * 1440 * MINUTE)), "bars outside of what was asked", id="outside"),
        pytest.param(
            changed(lambda a: replace(a, bars=a.bars.with_final(np.ones(len(a.bars), dtype=bool)))),
            "bars called final",
            id="final",
        ),
        pytest.param(
            changed(lambda a: replace(a, bars=replace(a.bars, close=a.bars.close.astype(np.float32)))),
            "columns of another type than make_bars gives: close",
            id="float32",
        ),
    ],
)
def test_each_broken_promise_is_found(provider: Provider, found: str) -> None:
    lines = complaints(provider, AAPL, "1m", date(2026, 8, 3), date(2026, 8, 7), NOW)
    assert [line for line in lines if found in line] if found else lines == []


def test_days_that_are_labelled_by_utc_midnight_are_found() -> None:
    provider = changed(lambda a: shifted(a, -4 * 60 * MINUTE))
    lines = complaints(provider, AAPL, "1d", date(2026, 8, 3), date(2026, 8, 7), NOW)
    assert any("not labelled by midnight in the calendar's zone" in line for line in lines)


def test_a_window_that_only_part_is_served_of_is_told() -> None:
    lines = complaints(SampleProvider(), AAPL, "1m", date(2026, 8, 4), date(2026, 8, 7), NOW)
    assert any(line.startswith("served says [2026-07-29") for line in lines)
