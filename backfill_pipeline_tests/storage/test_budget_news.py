"""What is said while requests wait: enough to know why nothing moves, and not a line for every slot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, ProviderKey
from backfill_pipeline.storage.budget_news import BudgetNews
from backfill_pipeline.storage.migrations import migrate

PAUSED = "polygon: requests are paused; `backfill resume` lets them go on"
GOES_ON = "polygon: requests go on"
KEY = ProviderKey("polygon", "https://api.example", "0123456789abcdef")


class Clock:
    """Seconds, as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def own(database_url: str) -> Iterator[OwnConnection]:
    migrate(database_url)
    connection = OwnConnection(database_url)
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="backfill_pipeline")


def test_an_hour_of_five_a_minute_is_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    news = BudgetNews("polygon", 5, clock)
    for slot in range(288):
        for second in range(12):  # the caller asks again each second
            clock.now = slot * 12.48 + second
            news.heard("backfill", 12.48 - second, paused=False)
    assert 40 <= len(caplog.messages) <= 60
    assert "polygon: the next backfill request goes out in 12 s, at " in caplog.messages[0]
    assert caplog.messages[0].endswith(" UTC (5 requests a minute, for all processes together)")


def test_one_long_wait_is_told_once_and_again_where_it_grows(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    news = BudgetNews("polygon", 0, clock)
    for second in range(900):
        clock.now = second + 0.003 * second % 0.7
        news.heard("repair", 900 - second, paused=False)
    assert len(caplog.messages) == 1
    news.heard("repair", 300, paused=False)
    assert len(caplog.messages) == 2
    assert "the next repair request goes out in 300 s" in caplog.messages[1]


def test_a_short_wait_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    news = BudgetNews("polygon", 60, Clock())
    news.heard("backfill", 4.9, paused=False)
    assert caplog.messages == []


def test_a_pause_is_told_when_it_begins_and_when_it_ends_however_many_wait(
    own: OwnConnection, caplog: pytest.LogCaptureFixture
) -> None:
    budget = PostgresBudget(own, KEY, 6000)
    budget.pause()
    threads = [threading.Thread(target=budget.take, args=("backfill",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(1.3)  # each has asked twice
    assert caplog.messages == [PAUSED]
    budget.resume()
    for thread in threads:
        thread.join()
    assert caplog.messages == [PAUSED, GOES_ON]


def test_without_a_limit_a_pause_is_told_too_and_who_waits_is_counted(
    own: OwnConnection, caplog: pytest.LogCaptureFixture
) -> None:
    budget = PostgresBudget(own, KEY, 0)
    budget.pause()
    threads = [threading.Thread(target=budget.take, args=("nightly",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert budget.state().waiting == {"nightly": 3, "repair": 0, "backfill": 0}
    budget.resume()
    for thread in threads:
        thread.join(timeout=5)
        assert not thread.is_alive()
    assert caplog.messages == [PAUSED, GOES_ON]
    assert budget.state().waiting == {"nightly": 0, "repair": 0, "backfill": 0}


def test_a_wait_that_a_server_asked_for_is_told_to_a_caller_of_it(
    own: OwnConnection, caplog: pytest.LogCaptureFixture
) -> None:
    budget = PostgresBudget(own, KEY, 0)
    budget.hold(5.4)
    begun = time.monotonic()
    budget.take("backfill")
    assert time.monotonic() - begun > 5
    assert len(caplog.messages) == 1
    assert "the next backfill request goes out in 5 s" in caplog.messages[0]
