"""Keys, plans and rate limits."""

import threading
import time
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import requests

from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.limits import AlignedLimit, SlidingLimit
from backfill_pipeline_tests.standin.reader import Reader

DAY = "/v2/aggs/ticker/AAPL/range/1/day"
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks"


def test_a_key_in_the_header_passes_and_a_wrong_or_missing_one_is_401(standin: StandIn, reader: Reader) -> None:
    assert reader.get(f"{DAY}/2024-03-08/2024-03-08").status_code == 200
    reader.headers["Authorization"] = "Bearer another"
    wrong = reader.get(f"{DAY}/2024-03-08/2024-03-08")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "Unknown API Key")
    assert requests.get(standin.url + DAY, timeout=5).status_code == 401
    assert standin.leaks == []


@pytest.mark.parametrize("query", ["apiKey=test-key", "apikey=whatever", "ticker=test-key"])
def test_a_key_in_the_url_is_a_leak_and_is_never_kept(standin: StandIn, reader: Reader, query: str) -> None:
    reply = reader.get(f"/stocks/v1/splits?{query}")
    assert reply.status_code == 401
    (leak,) = standin.leaks
    assert "test-key" not in leak.path
    assert "whatever" not in leak.path


@pytest.mark.parametrize("mode", ["refused", "clipped"])
def test_history_beyond_the_plan_is_refused_whole_or_clipped_silently(
    standin: StandIn, reader: Reader, mode: str
) -> None:
    standin.set(history_years=2, too_old=mode)
    edge = date(2026, 8, 6) - timedelta(days=730)  # 2024-08-06
    inside = reader.json(f"{DAY}/{edge}/2024-08-09")
    outside = reader.get(f"{DAY}/{edge - timedelta(days=4)}/2024-08-09")
    assert inside["resultsCount"] == 4
    if mode == "refused":
        assert (outside.status_code, outside.json()["status"]) == (403, "NOT_AUTHORIZED")
        assert "plan doesn't include this data timeframe" in outside.json()["message"]
    else:
        assert outside.json()["results"] == inside["results"]
    long_ago = reader.get(f"{GROUPED}/2020-03-09")
    assert long_ago.status_code == (403 if mode == "refused" else 200)
    assert "results" not in long_ago.json()


def test_today_is_refused_before_its_end(standin: StandIn, reader: Reader) -> None:
    standin.set(today="refused")
    for path in (f"{DAY}/2026-08-05/2026-08-06", f"{GROUPED}/2026-08-06"):
        reply = reader.get(path)
        assert reply.status_code == 403
        assert reply.json()["message"].startswith("Attempted to request today's data before end of day")
    assert reader.json(f"{DAY}/2026-08-05/2026-08-05")["resultsCount"] == 1
    standin.set(now=datetime(2026, 8, 7, 0, 0, 1, tzinfo=ZoneInfo("America/New_York")))
    assert reader.json(f"{DAY}/2026-08-05/2026-08-06")["resultsCount"] == 2


def test_today_may_be_clipped_instead(standin: StandIn, reader: Reader) -> None:
    standin.set(today="clipped")
    assert reader.json(f"{DAY}/2026-08-05/2026-08-06")["resultsCount"] == 1
    assert reader.get(f"{DAY}/2026-08-06/2026-08-06").status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{DAY}/2024-03-09/2024-03-08", 400),
        (f"{DAY}/soon/2024-03-08", 400),
        (f"{DAY}/2024-03-08/2024-03-08?limit=50001", 400),
        (f"{DAY}/2024-03-08/2024-03-08?sort=up", 400),
        ("/v2/aggs/ticker/AAPL/range/1/decade/2024-03-08/2024-03-08", 404),
        ("/v9/nothing", 404),
    ],
)
def test_what_makes_no_sense_is_refused(reader: Reader, path: str, status: int) -> None:
    reply = reader.get(path)
    assert reply.status_code == status
    assert {"status", "request_id"} < {*reply.json()}


def test_never_more_than_the_limit_pass_in_any_window_however_many_threads_ask(standin: StandIn) -> None:
    standin.set(requests_per_minute=5, window_seconds=0.5)
    reader, until = Reader(standin), time.monotonic() + 1.8

    def ask() -> None:
        while time.monotonic() < until:
            reader.get(f"{DAY}/2024-03-08/2024-03-08")
            time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = sorted(seen.time for seen in standin.requests if seen.status == 200)
    assert 10 <= len(passed) <= 20  # 5 at once and 5 more after each half second; fewer only on a busy machine
    # `time` is noted a moment before the limiter looks.
    assert all(later - earlier > 0.48 for earlier, later in zip(passed, passed[5:], strict=False))
    assert standin.provoked_429 == len(standin.requests) - len(passed) > 0


def test_a_paced_client_provokes_nothing(standin: StandIn, reader: Reader) -> None:
    standin.set(requests_per_minute=5, window_seconds=0.25)
    for _ in range(12):
        assert reader.get(f"{DAY}/2024-03-08/2024-03-08").status_code == 200
        time.sleep(0.055)
    assert standin.provoked_429 == 0
    assert all(later.time > earlier.time for earlier, later in pairwise(standin.requests))


@pytest.mark.parametrize(("body", "retry_after"), [("error", True), ("empty", False)])
def test_a_provoked_429_looks_as_it_was_told_to(standin: StandIn, reader: Reader, body: str, retry_after: bool) -> None:
    standin.set(requests_per_minute=1, limit_body=body, retry_after=retry_after)
    reader.get("/stocks/v1/splits")
    reply = reader.get("/stocks/v1/splits")
    assert reply.status_code == 429
    assert reply.headers.get("Retry-After") == ("60" if retry_after else None)
    if body == "empty":
        assert reply.content == b""
    else:
        assert reply.json()["error"].startswith("You've exceeded the maximum requests per minute")
    standin.reset()
    assert (standin.requests, standin.provoked_429) == ([], 0)
    assert reader.get("/stocks/v1/splits").status_code == 200


def test_keys_have_limits_of_their_own(standin: StandIn, reader: Reader) -> None:
    standin.set(keys=("test-key", "other"), requests_per_minute=1)
    assert [reader.get("/stocks/v1/splits").status_code for _ in range(2)] == [200, 429]
    reader.headers["Authorization"] = "Bearer other"
    assert reader.get("/stocks/v1/splits").status_code == 200


def test_a_slot_is_free_exactly_when_the_oldest_request_is_a_window_old() -> None:
    now = [0.0]
    limit = SlidingLimit(lambda: now[0])
    waits = []
    for at in (0.0, 10.0, 20.0, 59.999, 60.0, 60.0, 69.999, 70.0):
        now[0] = at
        waits.append(round(limit.take("key", 3, 60.0), 3))
    assert waits == [0, 0, 0, 0.001, 0, 10, 0.001, 0]


def test_an_aligned_window_starts_anew_with_the_clock_s_minute() -> None:
    limit = AlignedLimit()
    taken = [limit.take("key", at, 2, 60.0) for at in (0.0, 59.0, 59.9, 60.0)]
    assert taken == [(True, 1, 60.0), (True, 2, 60.0), (False, 2, 60.0), (True, 1, 120.0)]


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ValueError, match="no option 'requests_a_minute'"):
        StandIn(requests_a_minute=5)
