"""How Tradier's rows and words are read, reply by reply."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from backfill_pipeline.providers.errors import (
    NeverServed,
    OddRefusal,
    ProviderError,
    ProviderStopped,
    RateLimited,
    ServerTrouble,
)
from backfill_pipeline.providers.http import Reply
from backfill_pipeline.providers.tradier_decode import TooBig, TooDeep, decode_rows, quota_wait, read_minutes, refuse

# As recorded: `price` is the middle of high and low.
ROW: dict[str, Any] = {
    "time": "2024-08-01T09:30:00",
    "timestamp": 1_722_519_000,
    "price": 10.625,
    "open": 10,
    "high": 11.5,
    "low": 9.75,
    "close": 11,
    "volume": 1234,
    "vwap": 10.6,
}


def said(body: object, status: int = 200, **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(
        "tradier: A", status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode()
    )


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({}, "ts", 1_722_519_000_000_000),
        ({}, "close", 11.0),
        ({"price": 99}, "close", 11.0),
        ({"close": None}, "close", np.nan),  # not the price
        ({"time": "2031-01-01T00:00:00"}, "ts", 1_722_519_000_000_000),
        ({}, "trades", -1),
        ({"volume": 0}, "trades", 0),  # nobody traded: a filler
        ({"volume": 1.12117471e08}, "volume", 112_117_471.0),
        ({"vwap": 0}, "vwap", np.nan),
        ({"vwap": None}, "vwap", np.nan),
        ({"vwap": 12.5}, "vwap", 12.5),
        ({"open": "NaN"}, "open", np.nan),
        ({"open": True}, "open", np.nan),
        ({"high": 10**400}, "high", np.inf),
        ({"timestamp": None}, "ts", 0),
        ({"timestamp": -5}, "ts", 0),
        ({"timestamp": 1_722_519_000_000}, "ts", 0),  # milliseconds
        ({"timestamp": 1_722_519_017}, "ts", 1_722_519_017_000_000),
    ],
)
def test_a_row_is_read_as_it_stands_and_nothing_is_made_up(change: dict[str, Any], column: str, value: float) -> None:
    found = getattr(decode_rows([ROW, {**ROW, **change}, ROW]), column)
    assert np.array_equal(found[1], value, equal_nan=True)
    assert np.array_equal(found[[0, 2]], getattr(decode_rows([ROW, ROW]), column))


@pytest.mark.parametrize("row", [None, 7, "x", [1, 2], {}])
def test_a_row_that_is_no_row_harms_only_itself(row: object) -> None:
    bars = decode_rows([ROW, row, ROW])
    assert bars.ts.tolist() == [1_722_519_000_000_000, 0, 1_722_519_000_000_000]
    assert np.isnan(bars.close[1])


@pytest.mark.parametrize(("volume", "kept"), [(None, False), (0, False), (100, True)])
def test_a_minute_without_prices_is_a_lost_bar_only_if_somebody_traded(volume: int | None, kept: bool) -> None:
    empty = {**ROW, **dict.fromkeys(("open", "high", "low", "close", "price"), None), "volume": volume}
    assert len(decode_rows([ROW, empty])) == 1 + kept


@pytest.mark.parametrize(
    "body",
    [
        {"series": None},
        {"series": "null"},
        {},
        {"series": {"data": None}},
        {"series": {"data": "null"}},
        {"series": {}},
        {"series": {"data": []}},
    ],
)
def test_nothing_has_many_spellings(body: object) -> None:
    assert len(read_minutes(said(body))) == 0


def test_a_single_row_comes_without_a_list() -> None:
    for data in (ROW, [ROW]):
        assert read_minutes(said({"series": {"data": data}})).close.tolist() == [11.0]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ([], "no JSON object"),
        ({"history": {"day": []}}, "no `series`"),
        ({"errors": {"error": "down for repairs"}}, "down for repairs"),
        ({"series": 7}, "no list of rows"),
        ({"series": []}, "no list of rows"),
        ({"series": {"data": 7}}, "no list of rows"),
        ('<?xml version="1.0"?><series/>', "no JSON but"),
        ("null", "no JSON but 'null'"),
    ],
)
def test_what_is_no_answer_is_not_taken_for_nothing(body: object, line: str) -> None:
    with pytest.raises(ServerTrouble, match=line):
        read_minutes(said(body))


def test_an_unknown_symbol_is_told_by_name_or_names() -> None:
    for names in ("A", ["A"]):
        with pytest.raises(NeverServed, match="tradier: A: tradier does not know this symbol"):
            read_minutes(said({"series": None, "unmatched_symbols": {"symbol": names}}))


def fault(text: str, code: str) -> dict[str, Any]:
    return {"fault": {"faultstring": text, "detail": {"errorcode": code}}}


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 502])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (fault("Access Token expired", "keymanagement.service.access_token_expired"), ProviderStopped),
        (fault("Invalid Access Token", "keymanagement.service.invalid_access_token"), ProviderStopped),
        (fault("Datastore Error", "datastore.ErrorWhileAccessingDataStore"), ServerTrouble),
        (fault("Body buffer overflow", "protocol.http.TooBigBody"), TooBig),
        (fault("Rate limit quota violation", "policies.ratelimit.QuotaViolation"), RateLimited),
        ({"fault": None}, ServerTrouble),
        ({"fault": {"detail": "x"}}, ServerTrouble),
        ('{"fault": {"faultst', ServerTrouble),
        ("Quota Violation: 1722519000000", RateLimited),
    ],
)
def test_words_count_more_than_the_status(body: object, kind: type[ProviderError], status: int) -> None:
    with pytest.raises(ProviderError) as caught:
        refuse(said(body, status))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, "", ProviderStopped),
        (403, "Invalid Access Token", ProviderStopped),
        (403, "Forbidden", NeverServed),
        (400, "Invalid parameter, end", OddRefusal),
        (400, "Invalid parameter, start: must be on or after 2024-02-30 00:00:00.", OddRefusal),
        (404, "Not Found", OddRefusal),
    ],
)
def test_refusals_in_plain_text(status: int, body: str, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        refuse(said(body, status))
    assert type(caught.value) is kind


@pytest.mark.parametrize("status", [200, 302, 408, 429, 500, 503])
def test_statuses_that_speak_for_themselves_pass(status: int) -> None:
    refuse(said("<html>", status))


@pytest.mark.parametrize(
    ("boundary", "micros"),
    [
        ("2024-02-27 00:00:00", 1_709_010_000_000_000),  # 05:00Z: winter
        ("2024-08-01 00:00:00", 1_722_484_800_000_000),  # 04:00Z: summer
        ("2024-08-01", 1_722_484_800_000_000),
        ("2024-08-01 00:00:01", 1_722_484_860_000_000),  # the next whole minute
    ],
)
def test_a_boundary_is_new_york_time(boundary: str, micros: int) -> None:
    with pytest.raises(TooDeep) as caught:
        refuse(said(f"Invalid parameter, start: must be on or after {boundary}.", 400))
    assert caught.value.boundary == micros


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Quota Violation: too many requests, try again after 1722519007500", 7.5),
        ("Quota Violation 1722519007500.", 7.5),
        ("Quota Violation: too many requests", 0),
        ("Quota Violation, over since 1722518000000", 0),
        ("Datastore Error 1722519007500", 0),
    ],
)
def test_a_quota_names_its_end_by_the_servers_clock(text: str, seconds: float) -> None:
    reply = said(text, 429, Date="Thu, 01 Aug 2024 13:30:00 GMT")
    assert quota_wait(reply) == pytest.approx(seconds)
