"""Tradier and Binance, in their own words."""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.reader import Reader

NEW_YORK = ZoneInfo("America/New_York")
TIMESALES, HISTORY, KLINES = "/v1/markets/timesales", "/v1/markets/history", "/api/v3/klines"


def wednesday(**more: str) -> dict[str, str]:
    asked = {"symbol": "AAPL", "interval": "1min", "start": "2026-08-05 00:00", "end": "2026-08-05 23:59"}
    return asked | {"session_filter": "all"} | more


def window(standin: StandIn, day: date) -> Window:
    return standin.market.sessions("AAPL").days_window(day, day)


def test_timesales_are_the_market_s_minutes_and_price_is_never_the_close(standin: StandIn, reader: Reader) -> None:
    rows = reader.json(TIMESALES, **wednesday())["series"]["data"]
    truth = standin.market.minutes("AAPL", window(standin, date(2026, 8, 5)))
    assert [row["timestamp"] for row in rows] == (truth.ts // 1_000_000).tolist()
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        assert [row[name] for row in rows] == getattr(truth, name).tolist()
    assert all(row["price"] == (row["high"] + row["low"]) / 2 for row in rows)
    assert (rows[0]["time"], rows[-1]["time"]) == ("2026-08-05T04:00:00", "2026-08-05T19:59:00")


def test_open_is_the_regular_session_and_the_end_is_inclusive(reader: Reader) -> None:
    rows = reader.json(TIMESALES, **wednesday(session_filter="open"))["series"]["data"]
    assert (len(rows), rows[0]["time"][11:], rows[-1]["time"][11:]) == (390, "09:30:00", "15:59:00")
    part = reader.json(TIMESALES, **wednesday(start="2026-08-05 10:00", end="2026-08-05 10:05"))["series"]["data"]
    assert [row["time"][11:16] for row in part] == ["10:00", "10:01", "10:02", "10:03", "10:04", "10:05"]


def test_longer_intervals_merge_minutes(standin: StandIn, reader: Reader) -> None:
    rows = reader.json(TIMESALES, **wednesday(interval="15min"))["series"]["data"]
    truth = standin.market.minutes("AAPL", window(standin, date(2026, 8, 5)))
    assert len(rows) == 64
    assert sum(row["volume"] for row in rows) == pytest.approx(truth.volume.sum())
    assert rows[3]["close"] == truth.close[59]


def test_one_row_is_an_object_and_none_is_spelled_in_four_ways(standin: StandIn, reader: Reader) -> None:
    one = reader.json(TIMESALES, **wednesday(start="2026-08-05 10:00", end="2026-08-05 10:00"))
    assert one["series"]["data"]["time"] == "2026-08-05T10:00:00"
    assert reader.json(HISTORY, symbol="AAPL", start="2026-08-05", end="2026-08-05")["history"]["day"]["date"]
    spellings = []
    for spelling in ("null", "text", "missing", "data"):
        standin.set(tradier_empty=spelling)
        spellings.append(reader.json(TIMESALES, **wednesday(start="2026-08-01 00:00", end="2026-08-02 23:59")))
    assert spellings == [{"series": None}, {"series": "null"}, {}, {"series": {"data": None}}]


def test_an_unknown_symbol_is_200(standin: StandIn, reader: Reader) -> None:
    standin.market.unknown("NOPE")
    assert reader.json(TIMESALES, **wednesday(symbol="NOPE"))["unmatched_symbols"] == {"symbol": "NOPE"}


@pytest.mark.parametrize(
    ("interval", "session", "first"),
    [("1min", "all", 10), ("1min", "open", 20), ("5min", "all", 18), ("15min", "open", 40)],
)
def test_a_start_that_is_too_deep_is_told_the_boundary(
    standin: StandIn, interval: str, session: str, first: int
) -> None:
    reader = Reader(standin)
    asked = wednesday(interval=interval, session_filter=session, start="2026-01-01 00:00")
    reply = reader.get(TIMESALES, **asked)
    boundary = date.fromordinal(date(2026, 8, 6).toordinal() - first)
    assert reply.status_code == 400
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert reply.text == f"Invalid parameter, start: must be on or after {boundary} 00:00:00."
    assert reader.get(TIMESALES, **asked | {"start": f"{boundary} 00:00"}).status_code == 200


def test_history_is_split_adjusted(standin: StandIn, reader: Reader) -> None:
    standin.market.split("AAPL", date(2024, 3, 12), 1, 4)
    rows = reader.json(HISTORY, symbol="AAPL", start="2024-03-08", end="2024-03-12")["history"]["day"]
    raw = standin.market.days("AAPL", date(2024, 3, 8), date(2024, 3, 12))
    assert [row["date"] for row in rows] == ["2024-03-08", "2024-03-11", "2024-03-12"]
    assert [row["close"] for row in rows] == [raw.close[0] / 4, raw.close[1] / 4, raw.close[2]]


def test_the_calendar_knows_holidays_and_half_days(reader: Reader) -> None:
    days = reader.json("/v1/markets/calendar", month=7, year=2024)["calendar"]["days"]["day"]
    by_date: dict[str, Any] = {day["date"]: day for day in days}
    assert len(days) == 31
    assert by_date["2024-07-04"]["status"] == "closed"
    assert by_date["2024-07-03"]["open"] == {"start": "09:30", "end": "13:00"}
    assert by_date["2024-07-05"]["postmarket"] == {"start": "16:00", "end": "20:00"}


def test_who_does_not_ask_for_json_gets_xml_and_a_wrong_token_plain_text(standin: StandIn, reader: Reader) -> None:
    reader.headers["Accept"] = "*/*"
    reply = reader.get(TIMESALES, **wednesday(end="2026-08-05 04:01"))
    assert reply.headers["Content-Type"] == "application/xml"
    assert reply.text.count("<data>") == 2
    refused = requests.get(standin.tradier_url + "/markets/timesales", timeout=5)
    assert (refused.status_code, refused.text) == (401, "Invalid Access Token")


def test_the_limit_is_told_in_headers_and_then_enforced_in_text(standin: StandIn, reader: Reader) -> None:
    standin.set(tradier_per_minute=2, window_seconds=3600)
    replies = [reader.get(TIMESALES, **wednesday(end="2026-08-05 04:01")) for _ in range(3)]
    assert [reply.headers["X-Ratelimit-Available"] for reply in replies] == ["1", "0", "0"]
    expiry = int(replies[0].headers["X-Ratelimit-Expiry"])
    assert 0 < expiry / 1000 - datetime.now(UTC).timestamp() <= 3600
    assert replies[2].text.startswith("Quota Violation")
    assert replies[2].text.endswith(str(expiry))
    assert standin.provoked_429 == 1


def test_night_bars_come_where_they_are_wanted(standin: StandIn, reader: Reader) -> None:
    standin.set(tradier_night=True)
    rows = reader.json(TIMESALES, **wednesday())["series"]["data"]
    assert [row["time"][11:16] for row in rows[:9]] == [
        *("00:00", "00:30", "01:00", "01:30", "02:00", "02:30", "03:00", "03:30", "04:00"),
    ]


def test_klines_are_text_inclusive_and_a_thousand_at_most(standin: StandIn, reader: Reader) -> None:
    start = to_micros(datetime(2024, 3, 9, tzinfo=UTC))
    rows = reader.get(KLINES, symbol="BTCUSDT", interval="1m", startTime=start // 1000, limit=5000).json()
    truth = standin.market.minutes("BTCUSDT", Window(start, start + 1000 * MINUTE))
    assert [row[0] for row in rows] == (truth.ts // 1000).tolist()
    assert [row[4] for row in rows] == [f"{close:.8f}" for close in truth.close]
    assert [float(row[5]) for row in rows] == truth.volume.tolist()
    assert [row[8] for row in rows] == truth.trades.tolist()
    assert all(row[6] == row[0] + 59_999 for row in rows)
    asked = {"symbol": "BTCUSDT", "interval": "1m", "startTime": start // 1000, "endTime": start // 1000 + 60_000}
    assert len(reader.get(KLINES, **asked).json()) == 2


def test_silent_minutes_are_fillers_of_volume_zero(standin: StandIn, reader: Reader) -> None:
    quiet, loud = datetime(2024, 3, 9, 0, 5, tzinfo=UTC), datetime(2024, 3, 9, 0, 7, tzinfo=UTC)
    standin.market.silence("BTCUSDT", quiet, loud)
    start = to_micros(datetime(2024, 3, 9, tzinfo=UTC)) // 1000
    rows = reader.get(KLINES, symbol="BTCUSDT", interval="1m", startTime=start, limit=10).json()
    assert [row[0] for row in rows] == [start + 60_000 * number for number in range(10)]
    assert [(float(row[5]), row[8]) for row in rows[5:7]] == [(0.0, 0), (0.0, 0)]
    assert rows[5][1] == rows[4][4]


def test_the_last_row_is_the_minute_that_is_under_way(standin: StandIn, reader: Reader) -> None:
    now = datetime(2024, 3, 9, 12, 0, 30, tzinfo=UTC)
    standin.set(now=now)
    rows = reader.get(KLINES, symbol="BTCUSDT", interval="1m", limit=3).json()
    assert [row[0] for row in rows][-1] == to_micros(now) // 1000 - 30_000
    assert rows[-1][6] > to_micros(now) // 1000


def test_binance_s_errors_and_its_ban(standin: StandIn, reader: Reader) -> None:
    wrong = reader.get(KLINES, symbol="NOPE", interval="1m")
    assert (wrong.status_code, wrong.json()["code"]) == (400, -1121)
    assert wrong.headers["X-MBX-USED-WEIGHT-1M"] == "2"
    standin.set(binance_weight_per_minute=4, window_seconds=3600)
    statuses = [reader.get(KLINES, symbol="BTCUSDT", interval="1m", limit=1).status_code for _ in range(8)]
    assert statuses == [200, 200, 429, 429, 429, 429, 429, 418]
