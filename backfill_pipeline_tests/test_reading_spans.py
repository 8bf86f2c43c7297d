"""`read_bars` in timeframes that nobody stores, against frames written by hand and against pandas."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from backfill_pipeline import IncompleteWarning, Split, read_bars, read_features
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps.absences import always, never, on, trade, weekdays
from backfill_pipeline_tests.steps.warehouses import (
    NEW_YORK,
    Exchange,
    backfill,
    listed,
    micros,
    minutes_between,
    ny,
    opened,
    row_of,
)

PRICES = ["open", "high", "low", "close"]
LATER = datetime(2024, 12, 20, tzinfo=UTC)
# Friday and Monday around the clocks' change, and a half day with its whole neighbour.
SPRING = [date(2024, 3, 8), date(2024, 3, 11)]
THANKS = [date(2024, 11, 27), date(2024, 11, 29)]


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def starts(bars: pd.DataFrame) -> list[str]:
    return bars["ts"].dt.strftime("%m-%d %H:%M").tolist()


def test_buckets_begin_with_their_segment_and_end_with_it(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    exchange.trade(THANKS)
    backfill(warehouse, listed(warehouse), INTRADAY, *THANKS)

    half = read_bars("ABC", "45m", THANKS[1], THANKS[1], tz="America/New_York", url=database_url)
    hours = read_bars("ABC", "2h", *THANKS, tz="America/New_York", label="end", url=database_url)

    assert starts(half) == ["11-29 09:30", "11-29 10:15", "11-29 11:00", "11-29 11:45", "11-29 12:30"]
    assert starts(hours) == ["11-27 11:30", "11-27 13:30", "11-27 15:30", "11-27 16:00", "11-29 11:30", "11-29 13:00"]
    last = [row_of(ts) for ts in minutes_between(ny(THANKS[1], 12, 30), ny(THANKS[1], 13))]
    assert half.iloc[-1][[*PRICES, "volume", "trades"]].tolist() == [
        last[0][0],
        max(row[1] for row in last),
        min(row[2] for row in last),
        last[-1][3],
        sum(row[4] for row in last),
        sum(row[6] or 0 for row in last),
    ]
    turnover = sum(row[5] * row[4] for row in last if row[5] is not None)
    assert half["vwap"].iloc[-1] == pytest.approx(turnover / sum(row[4] for row in last), rel=1e-12)


def test_a_lunch_break_ends_a_bucket_and_begins_the_next(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    day, zone = date(2024, 5, 7), ZoneInfo("Asia/Hong_Kong")
    for hour in ((9, 30), (13, 0)):
        begin = datetime(2024, 5, 7, *hour, tzinfo=zone)
        length = timedelta(hours=2.5 if hour[0] == 9 else 3)
        exchange.minutes |= {ts: row_of(ts) for ts in minutes_between(begin, begin + length)}
    backfill(warehouse, listed(warehouse, "0700", calendar="XHKG"), INTRADAY, day, day)

    bars = read_bars("0700", "50m", day, day, tz="Asia/Hong_Kong", url=database_url)

    afternoon = ["05-07 13:00", "05-07 13:50", "05-07 14:40", "05-07 15:30"]
    assert starts(bars) == ["05-07 09:30", "05-07 10:20", "05-07 11:10", *afternoon]


@pytest.mark.parametrize("timeframe", ["2m", "7m", "45m", "90m", "2h", "6h", "24h"])
def test_any_number_of_minutes_is_what_pandas_makes_of_the_minutes(
    database_url: str, warehouse: Warehouse, exchange: Exchange, timeframe: str
) -> None:
    """Segments' starts by the wall clock; the Friday is before the clocks' change, the Monday after it."""
    exchange.trade(SPRING, extended=True)
    backfill(warehouse, listed(warehouse), INTRADAY, *SPRING)
    minutes = pd.DataFrame(
        [(ts, *row) for ts, row in sorted(exchange.minutes.items())],
        columns=["us", *PRICES, "volume", "vwap", "trades"],
    )
    local = pd.to_datetime(minutes["us"], unit="us", utc=True).dt.tz_convert(NEW_YORK)
    edges = [local.dt.normalize() + pd.Timedelta(hours=hours) for hours in (4, 9.5, 16)]
    anchor = edges[0].where(local < edges[1], edges[1].where(local < edges[2], edges[2]))
    minutes["ts"] = anchor + (local - anchor).dt.floor(timeframe.replace("m", "min"))
    minutes["turnover"] = minutes["vwap"] * minutes["volume"]
    sums = {"volume": "sum", "trades": "sum", "turnover": "sum"}
    made = minutes.groupby("ts").agg({"open": "first", "high": "max", "low": "min", "close": "last", **sums})

    bars = read_bars("ABC", timeframe, *SPRING, segment="all", on_incomplete="raise", url=database_url)

    assert bars["ts"].tolist() == made.index.tolist()
    for name in (*PRICES, "volume", "trades"):
        assert bars[name].tolist() == made[name].tolist(), name
    np.testing.assert_allclose(bars["vwap"], made["turnover"] / made["volume"], rtol=1e-12)
    regular = read_bars("ABC", timeframe, *SPRING, url=database_url)
    chosen = bars[bars["segment"] == "regular"].drop(columns="segment").reset_index(drop=True)
    pd.testing.assert_frame_equal(regular, chosen)


def test_a_bucket_that_lacks_a_minute_is_left_out_and_told(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    days = weekdays(date(2024, 5, 6), 8)
    trade(exchange, days, always, on(days[6], 90, 120))  # 11:00 to 11:30 of the seventh day
    for chain in (DAILY, INTRADAY):
        backfill(warehouse, listed(warehouse), chain, days[0], days[-1])

    with pytest.warns(IncompleteWarning, match=r"ABC 45m: 1 of 3 sessions incomplete: 2024-05-14 \(30 bars") as told:
        bars = read_bars("ABC", "45m", days[5], days[7], tz="America/New_York", url=database_url)

    assert told[0].filename == __file__
    whole = [f"{9 + (30 + 45 * n) // 60:02}:{(30 + 45 * n) % 60:02}" for n in range(9)]
    kept = [f"{day:%m-%d} {time}" for day in days[5:8] for time in whole if (day, time) != (days[6], "11:00")]
    assert starts(bars) == kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignored = read_bars("ABC", "45m", days[6], days[6], on_incomplete="ignore", url=database_url)
        assert len(ignored) == 8


def test_minutes_without_a_trade_leave_no_bucket_out(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    days = weekdays(date(2024, 5, 6), 8)
    trade(exchange, days, lambda day, minute: not (day == days[6] and 90 <= minute < 120), never)
    for chain in (DAILY, INTRADAY):
        backfill(warehouse, listed(warehouse), chain, days[0], days[-1])

    bars = read_bars("ABC", "45m", days[6], days[6], on_incomplete="raise", url=database_url)

    assert len(bars) == 9


def test_an_exact_window_takes_whole_buckets_that_start_in_it(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    exchange.trade(THANKS)
    backfill(warehouse, listed(warehouse), INTRADAY, *THANKS)
    window = ny(THANKS[0], 10), ny(THANKS[0], 11, 1)

    bars = read_bars("ABC", "45m", *window, tz="America/New_York", url=database_url)

    assert starts(bars) == ["11-27 10:15", "11-27 11:00"]
    all_day = read_bars("ABC", "45m", *THANKS, tz="America/New_York", url=database_url)
    pd.testing.assert_frame_equal(bars, all_day[1:3].reset_index(drop=True))


@pytest.fixture
def year(warehouse: Warehouse, exchange: Exchange) -> Exchange:
    """The days of 2024 to the end of November."""
    days = [day.date() for day in pd.bdate_range("2024-01-01", "2024-11-29")]
    exchange.days = {micros(day, 0): row_of(micros(day, 12)) for day in days}
    backfill(warehouse, listed(warehouse), DAILY, days[0], days[-1])
    return exchange


@pytest.mark.parametrize(
    ("timeframe", "bucket"),
    [
        pytest.param("1mo", "M", id="months"),
        pytest.param("3mo", "Q", id="quarters"),
        pytest.param("7d", "W-SUN", id="weeks"),
        pytest.param("2w", None, id="weeks two by two"),
    ],
)
def test_longer_buckets_are_what_pandas_makes_of_the_days(
    database_url: str, year: Exchange, timeframe: str, bucket: str | None
) -> None:
    """2024-01-01 is the 2817th Monday after 1970-01-05, so the pair that holds it began a week earlier."""
    days = read_bars("ABC", "1d", "2024-01-01", "2024-11-29", url=database_url).set_index("session")
    if bucket is None:
        pairs = pd.date_range("2023-12-25", "2024-12-31", freq="14D")
        first = pairs[pairs.searchsorted(days.index, side="right") - 1]
    else:
        first = pd.DatetimeIndex(days.index).to_period(bucket).to_timestamp()
    sums = {"volume": "sum", "trades": "sum"}
    made = days.groupby(first).agg({"open": "first", "high": "max", "low": "min", "close": "last", **sums})
    if timeframe in ("3mo", "2w"):
        made = made.iloc[:-1]  # its last days are not wanted
    made = made.loc["2024-01-01":]

    bars = read_bars("ABC", timeframe, "2024-01-01", "2024-11-29", on_incomplete="ignore", url=database_url)

    assert bars["session"].tolist() == made.index.tolist()
    for name in made.columns:
        assert bars[name].tolist() == made[name].tolist(), name


def test_a_month_is_labelled_by_its_first_day_and_ends_with_its_last_close(database_url: str, year: Exchange) -> None:
    span = ("ABC", "1mo", "2024-05-02", "2024-07-31")
    begin = read_bars(*span, tz="America/New_York", url=database_url)
    end = read_bars(*span, tz="America/New_York", label="end", url=database_url)
    assert starts(begin) == ["06-01 00:00", "07-01 00:00"], "a month belongs to the range that holds its first day"
    assert starts(end) == ["06-28 16:00", "07-31 16:00"]
    exact = read_bars("ABC", "1mo", ny(date(2024, 6, 1), 0), ny(date(2024, 7, 1), 0), url=database_url)
    assert exact["session"].dt.date.tolist() == [date(2024, 6, 1)]
    assert read_bars("ABC", "1mo", "2024-05-02", "2024-05-31", url=database_url).empty


def test_a_month_that_lacks_a_day_is_left_out_and_told(
    database_url: str, warehouse: Warehouse, exchange: Exchange
) -> None:
    days = [day.date() for day in pd.bdate_range("2024-05-01", "2024-07-31") if f"{day:%m-%d}" != "06-12"]
    exchange.days = {micros(day, 0): row_of(micros(day, 12)) for day in days}
    backfill(warehouse, listed(warehouse), DAILY, days[0], days[-1])

    with pytest.warns(IncompleteWarning, match=r"ABC 1mo: 1 of 63 sessions incomplete: 2024-06-12 \(1 bar of 1d"):
        bars = read_bars("ABC", "1mo", "2024-05-01", "2024-07-01", url=database_url)

    assert bars["session"].dt.month.tolist() == [5, 7]


def test_adjusted_buckets_are_built_from_adjusted_bars(database_url: str, year: Exchange) -> None:
    splits = [Split(date(2024, 6, 12), 4.0)]
    span = ("ABC", "2024-06-01", "2024-06-30")
    days = read_bars(span[0], "1d", *span[1:], adjust="splits", splits=splits, url=database_url)
    month = read_bars(span[0], "1mo", *span[1:], adjust="splits", splits=splits, url=database_url).iloc[0]
    made = [days["open"].iloc[0], days["high"].max(), days["low"].min(), days["close"].iloc[-1], days["volume"].sum()]
    assert month[[*PRICES, "volume"]].tolist() == made
    raw = read_bars(span[0], "1mo", *span[1:], url=database_url).iloc[0]
    assert month["open"] * 4 == raw["open"]
    assert month["close"] == raw["close"]


@pytest.mark.parametrize(
    ("timeframe", "words"),
    [
        pytest.param("0m", "timeframe '0m' is not known; use one of 1m 5m 15m 30m 1h 4h 1d 1w, or a number of", id="0"),
        pytest.param("7x", "timeframe '7x' is not known", id="unit"),
        pytest.param("90s", "timeframe '90s' is not known", id="seconds"),
        pytest.param("1.5h", "timeframe '1.5h' is not known", id="a fraction"),
        pytest.param("", "timeframe '' is not known", id="nothing"),
        pytest.param("36h", "timeframe '36h' is longer than a day, at whose end its bars are cut", id="long"),
    ],
)
def test_a_wrong_timeframe_is_one_line(timeframe: str, words: str) -> None:
    with pytest.raises(ValueError, match="timeframe") as raised:
        read_bars("ABC", timeframe, "2024-05-01", "2024-05-02", url="postgresql://nobody@127.0.0.1:1/market")
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


def test_features_have_the_stored_timeframes_only(database_url: str) -> None:
    with pytest.raises(ValueError, match=r"timeframe '45m' is not known; use one of 1m 5m 15m 30m 1h 4h 1d 1w$"):
        read_features("ABC", "45m", "2024-05-01", "2024-05-02", url=database_url)
