"""Each fault does what its name says, to whom it is meant for, as often as it was told to."""

import json
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
import requests

from backfill_pipeline_tests.standin import FAULT_NAMES, StandIn
from backfill_pipeline_tests.standin.reader import Reader

MINUTES = "/v2/aggs/ticker/AAPL/range/1/minute/2024-03-08/2024-03-08?adjusted=false&limit=500"
WHOLE = MINUTES.replace("limit=500", "limit=5000")
TIMESALES = "/v1/markets/timesales?symbol=AAPL&interval=1min&start=2026-08-05 00:00&end=2026-08-05 23:59"
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=1709942400000&limit=50"
Check = Callable[[requests.Response, Any], bool]


def says(status: int, key: str, words: str) -> Check:
    return lambda reply, _: reply.status_code == status and words in reply.json()[key]


def is_text(status: int, words: str) -> Check:
    return lambda reply, _: reply.status_code == status and words in reply.text and "json" not in kind(reply)


def kind(reply: requests.Response) -> str:
    return reply.headers["Content-Type"]


def rows(check: Callable[[list[Any], list[Any]], bool]) -> Check:
    """Compares the damaged rows with the whole ones."""
    return lambda reply, whole: check(results(reply.json()), results(whole))


def results(body: Any) -> list[Any]:
    if isinstance(body, list):
        return body
    found = body["results"] if "results" in body else body["series"]["data"]
    assert isinstance(found, list)
    return found


def one_differs(check: Callable[[dict[str, Any]], bool]) -> Check:
    def compare(damaged: list[Any], whole: list[Any]) -> bool:
        different = [new for new, old in zip(damaged, whole, strict=True) if new != old]
        return len(different) == 1 and check(different[0])

    return rows(compare)


def html(reply: requests.Response, _: Any) -> bool:
    return kind(reply).startswith("text/html") and b"<html>" in reply.content


def empty(spelling: object) -> Check:
    def check(reply: requests.Response, _: Any) -> bool:
        body = reply.json()
        return body.get("results", ...) == spelling and body["resultsCount"] == 0 and "next_url" not in body

    return check


POLYGON: dict[str, Check] = {
    "429": says(429, "error", "You've exceeded the maximum requests per minute"),
    "429_empty": lambda reply, _: (reply.status_code, reply.content) == (429, b""),
    "429_retry_after": lambda reply, _: (reply.status_code, reply.headers["Retry-After"]) == (429, "1"),
    "403_timeframe": says(403, "message", "Your plan doesn't include this data timeframe"),
    "403_today": says(403, "message", "Attempted to request today's data before end of day"),
    "403_entitled": says(403, "message", "You are not entitled to this data"),
    "401": says(401, "error", "Unknown API Key"),
    "400_order": says(400, "error", "The parameter 'to' cannot be a time that occurs before 'from'"),
    "400_parameter": says(400, "error", "The parameter 'limit'"),
    "404": says(404, "message", "Data not found."),
    "418": lambda reply, _: reply.status_code == 418,
    "500": says(500, "status", "ERROR"),
    "501": says(501, "status", "ERROR"),
    "502": lambda reply, _: reply.status_code == 502 and html(reply, _),
    "503": says(503, "status", "ERROR"),
    "504": lambda reply, _: reply.status_code == 504 and html(reply, _),
    "html_200": lambda reply, _: reply.status_code == 200 and html(reply, _),
    "empty_200": lambda reply, _: (reply.status_code, reply.content) == (200, b""),
    "empty_absent": empty(...),
    "empty_null": empty(None),
    "empty_list": empty([]),
    "page_without_results": lambda reply, _: "results" not in reply.json() and "next_url" in reply.json(),
    "next_url_other_host": lambda reply, _: reply.json()["next_url"].startswith("https://elsewhere.invalid/v2/aggs/"),
    "next_url_loop": lambda reply, _: "/2024-03-08/2024-03-08?cursor=" in reply.json()["next_url"],
    "full_page_without_next_url": lambda reply, whole: (
        reply.json()["queryCount"] == 500 and "next_url" in whole and "next_url" not in reply.json()
    ),
    "duplicate_equal": rows(lambda new, old: len(new) == len(old) + 1 and all(row in old for row in new)),
    "duplicate_conflicting": rows(
        lambda new, old: [row["t"] for row in new].count(next(row["t"] for row in new if row not in old)) == 2
    ),
    "outside_window": rows(
        lambda new, old: new[1:-1] == old and old[0]["t"] - new[0]["t"] == new[-1]["t"] - old[-1]["t"] == 604_800_000
    ),
    "unsorted": rows(lambda new, old: new != old and sorted(new, key=lambda row: row["t"]) == old),
    "off_grid": one_differs(lambda row: row["t"] % 60_000 == 17_000),
    "missing_vw_n": rows(lambda new, _: all("vw" not in row and "n" not in row and "v" in row for row in new)),
    "exponent_numbers": lambda reply, whole: reply.text.count("e+0") == 500 and results(reply.json()) == results(whole),
    "fractional_volume": rows(lambda new, _: all(abs(row["v"] % 1 - 0.123456) < 1e-6 for row in new)),
    "nan_price": one_differs(lambda row: row["c"] != row["c"]),
    "null_price": one_differs(lambda row: row["c"] is None),
    "negative_price": one_differs(lambda row: row["l"] < 0),
    "inconsistent_price": one_differs(lambda row: row["h"] < min(row["o"], row["c"])),
    "other_symbol": lambda reply, whole: reply.json()["ticker"] == "MSFT" and results(reply.json()) != results(whole),
    "adjusted": lambda reply, whole: (
        reply.json()["adjusted"] is True and results(reply.json())[0]["c"] == results(whole)[0]["c"] / 4
    ),
}
TRADIER: dict[str, Check] = {
    "401": is_text(401, "Invalid Access Token"),
    "429": is_text(429, "Quota Violation"),
    "404": html,
    "503": html,
    "tradier_quota": is_text(429, "Quota Violation"),
    "tradier_depth": is_text(400, "Invalid parameter, start: must be on or after"),
    "tradier_token_expired": lambda reply, _: reply.json()["fault"]["faultstring"] == "Access Token expired",
    "tradier_datastore": lambda reply, _: reply.json()["fault"]["faultstring"] == "Datastore Error",
    "tradier_too_big": lambda reply, _: reply.json()["fault"]["detail"]["errorcode"] == "protocol.http.TooBigBody",
    "tradier_single": lambda reply, whole: reply.json()["series"]["data"] == results(whole)[0],
    "tradier_null": lambda reply, _: reply.json() == {"series": None},
    "tradier_text_null": lambda reply, _: reply.json() == {"series": "null"},
    "tradier_missing": lambda reply, _: reply.json() == {},
    "tradier_data_null": lambda reply, _: reply.json() == {"series": {"data": None}},
    "tradier_null_prices": rows(lambda new, _: sum(row["close"] is None for row in new) == 330),
    "tradier_unmatched": lambda reply, _: reply.json()["unmatched_symbols"] == {"symbol": "AAPL"},
    "inconsistent_price": one_differs(lambda row: row["high"] < min(row["open"], row["close"])),
    "off_grid": one_differs(lambda row: row["timestamp"] % 60 == 17),
}
BINANCE: dict[str, Check] = {
    "418": lambda reply, _: (reply.status_code, reply.headers["Retry-After"]) == (418, "120"),
    "429": says(429, "msg", "Too much request weight"),
    "negative_price": one_differs(lambda row: isinstance(row[3], str) and float(row[3]) < 0),  # type: ignore[index]  # an array
    "binance_unfinished": one_differs(lambda row: row[6] > 2e12),  # type: ignore[index]  # an array
}
CASES = [
    *(pytest.param(MINUTES, name, check, id=name) for name, check in POLYGON.items()),
    *(pytest.param(TIMESALES, name, check, id=f"Tradier {name}") for name, check in TRADIER.items()),
    *(pytest.param(KLINES, name, check, id=f"Binance {name}") for name, check in BINANCE.items()),
]
ELSEWHERE = {  # tested below
    *("connection_reset", "stalled_headers", "stalled_body", "truncated_gzip", "truncated_json", "truncated_body"),
    "adjusted_page_2",
}


def test_every_fault_has_a_test() -> None:
    assert {*POLYGON, *TRADIER, *BINANCE} | ELSEWHERE == FAULT_NAMES


@pytest.mark.parametrize(("path", "name", "check"), CASES)
def test_a_fault_does_what_it_says_once(standin: StandIn, reader: Reader, path: str, name: str, check: Check) -> None:
    standin.market.split("AAPL", date(2024, 3, 12), 1, 4)
    whole = reader.get(path)
    standin.fault(name)
    damaged, after = reader.get(path), reader.get(path)
    assert check(damaged, whole.json())
    assert (
        after.json().get("results") == whole.json().get("results") if path == MINUTES else after.json() == whole.json()
    )
    assert [seen.fault for seen in standin.requests] == ["", name, ""]
    assert [seen.status for seen in standin.requests] == [200, damaged.status_code, 200]
    assert standin.provoked_429 == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("connection_reset", requests.ConnectionError),
        ("stalled_headers", requests.ReadTimeout),
        ("stalled_body", requests.ConnectionError),
        ("truncated_body", requests.exceptions.ChunkedEncodingError),
        ("truncated_json", json.JSONDecodeError),
        ("truncated_gzip", json.JSONDecodeError),
    ],
)
def test_a_broken_transfer_breaks(standin: StandIn, reader: Reader, name: str, error: type[Exception]) -> None:
    reader.get(WHOLE)  # the session is made up now: what stalls below is the fault
    fault, reader.timeout = standin.fault(name), 0.5 if name.startswith("stalled") else 10
    with pytest.raises(error):
        reader.get(WHOLE).json()
    reader.timeout = 10
    assert reader.json(WHOLE)["resultsCount"] == 960
    assert fault.hit == 1


def test_a_stalled_answer_does_not_hold_up_the_end() -> None:
    with StandIn() as standin:
        standin.fault("stalled_body", seconds=60)
        reader = Reader(standin)
        reader.timeout = 0.1
        with pytest.raises(requests.RequestException):
            reader.get(WHOLE)
        began = time.monotonic()
    assert time.monotonic() - began < 2


def test_the_second_page_may_be_adjusted_though_raw_was_asked_for(standin: StandIn, reader: Reader) -> None:
    standin.market.split("AAPL", date(2024, 3, 12), 1, 4)
    fault = standin.fault("adjusted_page_2", lie=True)
    first = reader.json(MINUTES)
    second_url = first["next_url"].removeprefix(standin.url) + "&adjusted=false"
    second, again = reader.json(second_url), reader.json(second_url)
    assert (first["adjusted"], second["adjusted"], fault.hit) == (False, False, 1)
    assert second["results"][0]["c"] == again["results"][0]["c"] / 4


def test_a_page_without_results_leads_to_the_page_with_them(standin: StandIn, reader: Reader) -> None:
    whole = reader.json(MINUTES)
    standin.fault("page_without_results")
    following = reader.json(MINUTES)["next_url"].removeprefix(standin.url)
    assert reader.json(following + "&adjusted=false")["results"] == whole["results"]


def test_a_loop_for_ever_never_gets_on(standin: StandIn, reader: Reader) -> None:
    standin.fault("next_url_loop", times=None)
    path, seen = MINUTES, set()
    for _ in range(5):
        body = reader.json(path, **({} if path == MINUTES else {"adjusted": "false"}))
        seen.add(body["results"][0]["t"])
        path = body["next_url"].removeprefix(standin.url)
    assert len(seen) == 1


def test_a_queue_is_served_in_order(standin: StandIn, reader: Reader) -> None:
    standin.queue("429", "ok", "504", "html_200")
    replies = [reader.get(WHOLE) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [429, 200, 504, 200, 200]
    assert [html(reply, None) for reply in replies] == [False, False, True, True, False]


def test_rules_hit_by_path_by_number_and_for_ever(standin: StandIn, reader: Reader) -> None:
    standin.fault("500", path="/MSFT/", nth=2)
    standin.fault("503", path="/SPY/", times=None)
    statuses = {
        ticker: [reader.get(WHOLE.replace("AAPL", ticker)).status_code for _ in range(3)]
        for ticker in ("AAPL", "MSFT", "SPY")
    }
    assert statuses == {"AAPL": [200, 200, 200], "MSFT": [200, 500, 200], "SPY": [503, 503, 503]}
    standin.clear_faults()
    assert reader.get(WHOLE.replace("AAPL", "SPY")).status_code == 200


def test_a_probability_hits_the_same_requests_for_the_same_seed(standin: StandIn, reader: Reader) -> None:
    runs = []
    for seed in (3, 3, 4):
        standin.clear_faults()
        standin.fault("500", probability=0.3, seed=seed, times=None)
        runs.append([reader.get("/stocks/v1/splits").status_code for _ in range(40)])
    assert runs[0] == runs[1] != runs[2]
    assert 4 <= runs[0].count(500) <= 22


def test_a_fault_waits_for_an_answer_it_can_damage(standin: StandIn, reader: Reader) -> None:
    fault = standin.fault("duplicate_equal")
    assert reader.json("/v2/aggs/ticker/AAPL/range/1/minute/2024-03-09/2024-03-10")["resultsCount"] == 0
    assert reader.json("/stocks/v1/splits")["results"] == []
    assert fault.hit == 0
    assert reader.json(WHOLE)["resultsCount"] == 961


def test_an_unknown_fault_is_named(standin: StandIn) -> None:
    with pytest.raises(ValueError, match="no fault 'earthquake'"):
        standin.fault("earthquake")
