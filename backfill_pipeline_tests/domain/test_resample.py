"""Buckets, aggregates and weeks against literals and counts worked out by hand (answers/bucket_counts.csv)."""

import csv
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backfill_pipeline.domain.bars import UNKNOWN_TRADES, Bars, make_bars, no_bars
from backfill_pipeline.domain.resample import bucket_ends, iso_monday, resample, weeks
from backfill_pipeline.domain.sessions import PRE, REGULAR, SEGMENTS, Sessions, load_sessions
from backfill_pipeline.domain.timeframe import INTRADAY, LENGTH, Timeframe
from backfill_pipeline.domain.windows import MINUTE, to_datetime, to_micros

ANSWERS = Path(__file__).parents[1] / "answers"
LAST = date(2027, 12, 31)
XNYS = load_sessions("XNYS", LAST)
XHKG = load_sessions("XHKG", LAST)
BASE = datetime(2024, 3, 11, 13, 30, tzinfo=UTC)  # a regular open in New York


def utc(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def stamps(ts: np.ndarray) -> list[str]:
    return [f"{to_datetime(stamp):%Y-%m-%d %H:%M}" for stamp in ts.tolist()]


def every_minute(sessions: Sessions, day: date) -> tuple[Bars, np.ndarray]:
    """A bar for every minute of every segment of `day`, and their parts."""
    row = sessions.rows_between(day, day).start
    ts = np.arange(sessions.pre_open[row], sessions.post_close[row], MINUTE)
    part = sessions.parts.locate(ts)
    flat = np.ones(np.count_nonzero(part >= 0))
    return make_bars(ts[part >= 0], flat, flat, flat, flat, flat), part[part >= 0]


def only(bars: Bars, timeframe: Timeframe, sessions: Sessions = XNYS) -> Bars:
    (made,) = resample(bars, sessions.parts.locate(bars.ts), sessions, [timeframe])
    return made.bars


def bucket(
    close: Sequence[float] = (10, 10),
    volume: Sequence[float] = (100, 300),
    vwap: Sequence[float] | None = None,
    trades: Sequence[int] | None = None,
) -> Bars:
    """Minutes 09:30, 09:31, ... of one five-minute bucket."""
    ts = to_micros(BASE) + np.arange(len(close)) * MINUTE
    price = np.asarray(close, dtype=float)
    return make_bars(ts, price, price, price, price, volume, vwap, trades)


def golden_counts() -> list[dict[str, str]]:
    with (ANSWERS / "bucket_counts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("answer", golden_counts(), ids=lambda a: f"{a['calendar']} {a['session']} {a['segment']}")
def test_a_segment_has_the_bars_counted_by_hand(answer: dict[str, str]) -> None:
    sessions = load_sessions(answer["calendar"], LAST)
    bars, part = every_minute(sessions, date.fromisoformat(answer["session"]))
    segment = SEGMENTS.index(answer["segment"])
    found = {"1m": int((sessions.parts.segment[part] == segment).sum())}
    for made in resample(bars, part, sessions, INTRADAY.derived):
        found[made.timeframe] = int((sessions.parts.segment[made.part] == segment).sum())
    assert found == {timeframe: int(answer[timeframe]) for timeframe in INTRADAY.timeframes}


def test_regular_hours_start_at_half_past_nine_and_pre_market_stands_beside_them() -> None:
    bars, part = every_minute(XNYS, date(2024, 3, 11))
    made = {coarse.timeframe: coarse for coarse in resample(bars, part, XNYS, INTRADAY.derived)}
    segment = {timeframe: XNYS.parts.segment[coarse.part] for timeframe, coarse in made.items()}
    assert stamps(made["1h"].bars.ts[segment["1h"] == PRE]) == [
        *("2024-03-11 08:00", "2024-03-11 09:00", "2024-03-11 10:00"),
        *("2024-03-11 11:00", "2024-03-11 12:00", "2024-03-11 13:00"),
    ]
    assert stamps(made["1h"].bars.ts[segment["1h"] == REGULAR]) == [
        *("2024-03-11 13:30", "2024-03-11 14:30", "2024-03-11 15:30", "2024-03-11 16:30"),
        *("2024-03-11 17:30", "2024-03-11 18:30", "2024-03-11 19:30"),
    ]
    assert stamps(made["4h"].bars.ts) == [
        *("2024-03-11 08:00", "2024-03-11 12:00"),  # pre: 04:00, and 08:00 to 09:30
        *("2024-03-11 13:30", "2024-03-11 17:30"),  # regular: 09:30, and 13:30 to 16:00
        "2024-03-11 20:00",  # post
    ]
    assert made["1h"].bars.volume.tolist() == [60] * 5 + [30] + [60] * 6 + [30] + [60] * 4


def test_a_lunch_break_ends_a_bucket_and_the_anchor_starts_anew() -> None:
    bars, part = every_minute(XHKG, date(2024, 3, 11))
    made = {coarse.timeframe: coarse for coarse in resample(bars, part, XHKG, INTRADAY.derived)}
    hours = made["1h"]
    assert stamps(hours.bars.ts) == [
        *("2024-03-11 01:30", "2024-03-11 02:30", "2024-03-11 03:30"),
        *("2024-03-11 05:00", "2024-03-11 06:00", "2024-03-11 07:00"),
    ]
    assert hours.bars.volume.tolist() == [60, 60, 30, 60, 60, 60]
    assert stamps(bucket_ends(hours.bars.ts, hours.part, XHKG.parts, "1h"))[2] == "2024-03-11 04:00"
    assert stamps(made["4h"].bars.ts) == ["2024-03-11 01:30", "2024-03-11 05:00"]
    assert made["4h"].bars.volume.tolist() == [150, 180]


def test_the_first_regular_bar_moves_with_the_clocks() -> None:
    for day, opened in {date(2024, 3, 8): "14:30", date(2024, 3, 11): "13:30", date(2024, 11, 4): "14:30"}.items():
        bars, part = every_minute(XNYS, day)
        for made in resample(bars, part, XNYS, INTRADAY.derived):
            regular = made.bars.ts[XNYS.parts.segment[made.part] == REGULAR]
            assert stamps(regular)[0] == f"{day} {opened}"


def test_a_bucket_without_a_bar_is_no_bar() -> None:
    ts = [utc("2024-03-11 13:30"), utc("2024-03-11 15:00"), utc("2024-03-12 19:59")]
    bars = make_bars(ts, [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 1, 1])
    assert stamps(only(bars, "1h").ts) == ["2024-03-11 13:30", "2024-03-11 14:30", "2024-03-12 19:30"]


def test_open_and_close_are_the_first_and_last_by_time_and_high_and_low_the_extremes() -> None:
    ts = to_micros(BASE) + np.arange(4) * MINUTE
    bars = make_bars(ts, [5, 9, 2, 4], [6, 12, 3, 5], [4, 8, 1, 3], [5.5, 8.5, 1.5, 4.5], [1, 2, 3, 4])
    made = only(bars, "5m")
    values = (made.open, made.high, made.low, made.close, made.volume)
    assert [column.tolist() for column in values] == [[5], [12], [1], [4.5], [10]]


def test_vwap_is_weighted_by_volume() -> None:
    assert only(bucket(volume=[100, 300], vwap=[10, 20]), "5m").vwap.tolist() == [17.5]


@pytest.mark.parametrize(
    ("volume", "vwap", "expected"),
    [
        pytest.param([95, 5], [10, np.nan], 10.0, id="95 per cent known"),
        pytest.param([94, 6], [10, np.nan], np.nan, id="94 per cent known"),
        pytest.param([50, 5, 50], [10, np.nan, 12], 11.0, id="over 95 per cent in two parts"),
        pytest.param([1, 1], [np.nan, np.nan], np.nan, id="nothing known"),
        pytest.param([0, 0], [10, 10], np.nan, id="no volume"),
        pytest.param([0, 7], [99, 10], 10.0, id="a part without volume weighs nothing"),
        pytest.param([0.25, 0.75], [10, 20], 17.5, id="fractional volume"),
    ],
)
def test_vwap_is_known_where_95_per_cent_of_the_volume_has_one(
    volume: list[float], vwap: list[float], expected: float
) -> None:
    made = only(bucket([10] * len(volume), volume, vwap), "5m")
    assert made.vwap.tolist() == pytest.approx([expected], rel=1e-15, nan_ok=True)
    assert made.volume.tolist() == [sum(volume)]


def test_the_95_per_cent_count_the_minutes_and_not_the_bars_in_between() -> None:
    # 90 of 100 are known in the first five minutes: no 5m vwap. Of all 15 minutes 990 of 1,000 are: a 15m vwap.
    volume, vwap = [90, 10, 0, 0, 0, 900], [10, np.nan, 10, 10, 10, 20]
    bars = bucket([10] * 6, volume, vwap)
    five, fifteen = (made.bars for made in resample(bars, XNYS.parts.locate(bars.ts), XNYS, ["5m", "15m"]))
    assert five.vwap.tolist() == pytest.approx([np.nan, 20], nan_ok=True)
    assert fifteen.vwap.tolist() == pytest.approx([(90 * 10 + 900 * 20) / 990])


def test_trades_are_unknown_where_any_part_is() -> None:
    assert only(bucket(trades=[3, 4]), "5m").trades.tolist() == [7]
    assert only(bucket(trades=[3, UNKNOWN_TRADES]), "5m").trades.tolist() == [UNKNOWN_TRADES]
    assert only(bucket(trades=[UNKNOWN_TRADES, UNKNOWN_TRADES]), "5m").trades.tolist() == [UNKNOWN_TRADES]
    bars = bucket([10] * 6, [1] * 6, trades=[UNKNOWN_TRADES, 1, 1, 1, 1, 5])
    assert only(bars, "5m").trades.tolist() == [UNKNOWN_TRADES, 5]
    five, fifteen = (made.bars for made in resample(bars, XNYS.parts.locate(bars.ts), XNYS, ["5m", "15m"]))
    assert (five.trades.tolist(), fifteen.trades.tolist()) == ([UNKNOWN_TRADES, 5], [UNKNOWN_TRADES])


@pytest.mark.parametrize("final", [(True, True), (True, False), (False, True), (False, False)], ids=str)
def test_a_bucket_is_final_where_all_of_its_bars_are(final: tuple[bool, bool]) -> None:
    assert only(bucket().with_final(np.array(final)), "5m").final.tolist() == [all(final)]


def test_no_bars_make_no_bars() -> None:
    made = list(resample(no_bars(), np.zeros(0, np.int64), XNYS, INTRADAY.derived))
    assert [len(coarse.bars) for coarse in made] == [0] * 5
    assert len(weeks(no_bars(), XNYS, np.ones(len(XNYS), dtype=bool))) == 0


@pytest.mark.parametrize("timeframe", INTRADAY.derived)
def test_pandas_agrees_segment_by_segment_when_it_is_told_the_origin(timeframe: Timeframe) -> None:
    random = np.random.default_rng(11)
    for day in (date(2024, 11, 27), date(2024, 11, 29), date(2024, 3, 11)):
        bars, part = every_minute(XNYS, day)
        chosen = random.random(len(bars)) < 0.3
        n = int(chosen.sum())
        lows = random.uniform(5, 9, n)
        bars = make_bars(bars.ts[chosen], lows + 1, lows + 2, lows, lows + random.random(n), random.integers(1, 99, n))
        part = part[chosen]
        frame = pd.DataFrame({name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")})
        frame.index = pd.DatetimeIndex(bars.ts.astype("datetime64[us]"))
        how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        pieces = []
        for mine in np.unique(part):
            origin = pd.Timestamp(int(XNYS.parts.start[mine]), unit="us")
            rule = pd.Timedelta(LENGTH[timeframe], unit="us")
            pieces.append(frame[part == mine].resample(rule, origin=origin).agg(how).dropna())
        expected = pd.concat(pieces)
        made = only(bars, timeframe)
        assert made.ts.tolist() == expected.index.to_numpy().astype("datetime64[us]").astype(np.int64).tolist()
        for name in how:
            assert getattr(made, name).tolist() == expected[name].tolist()


def daily(sessions: Sessions, first: date, last: date) -> Bars:
    """Day number n (from 1) opens at n, closes at n + 0.5 and trades 10·n shares."""
    ts = sessions.day_start[sessions.rows_between(first, last)]
    n = np.arange(1, len(ts) + 1, dtype=float)
    return make_bars(ts, n, n + 1, n - 0.5, n + 0.5, 10 * n, n, np.arange(1, len(ts) + 1))


def all_whole(sessions: Sessions) -> np.ndarray:
    return np.ones(len(sessions), dtype=bool)


@pytest.mark.parametrize(
    ("calendar", "first", "last", "labels", "counts"),
    [
        pytest.param("XNYS", "2024-01-08", "2024-01-26", ["01-08 05", "01-15 05", "01-22 05"], [5, 4, 5], id="MLK day"),
        pytest.param(
            "XNYS", "2024-12-23", "2025-01-10", ["12-23 05", "12-30 05", "01-06 05"], [4, 4, 4], id="New Year"
        ),
        pytest.param("XNYS", "2020-12-28", "2021-01-08", ["12-28 05", "01-04 05"], [4, 5], id="New Year on a Friday"),
        pytest.param("XNYS", "2024-03-04", "2024-03-15", ["03-04 05", "03-11 04"], [5, 5], id="clocks go forward"),
        pytest.param("XNYS", "2024-10-28", "2024-11-08", ["10-28 04", "11-04 05"], [5, 5], id="clocks go back"),
        pytest.param("XLON", "2024-03-25", "2024-04-05", ["03-25 00", "03-31 23"], [4, 4], id="London's Easter"),
        pytest.param("XHKG", "2024-02-05", "2024-02-16", ["02-04 16", "02-11 16"], [5, 3], id="lunar New Year"),
        pytest.param("24/7", "2024-02-26", "2024-03-10", ["02-26 00", "03-04 00"], [7, 7], id="round the clock"),
    ],
)
def test_a_week_is_labelled_by_its_monday_even_if_that_is_a_holiday(
    calendar: str, first: str, last: str, labels: list[str], counts: list[int]
) -> None:
    sessions = load_sessions(calendar, LAST)
    days = daily(sessions, date.fromisoformat(first), date.fromisoformat(last))
    made = weeks(days, sessions, all_whole(sessions))
    assert [f"{to_datetime(ts):%m-%d %H}" for ts in made.ts.tolist()] == labels
    ends = np.cumsum(counts)
    starts = ends - counts + 1
    assert made.open.tolist() == starts.tolist()
    assert made.close.tolist() == (ends + 0.5).tolist()
    assert made.high.tolist() == (ends + 1).tolist()
    assert made.low.tolist() == (starts - 0.5).tolist()
    assert made.volume.tolist() == [sum(10 * n for n in range(a, b + 1)) for a, b in zip(starts, ends, strict=True)]
    assert made.trades.tolist() == [sum(range(a, b + 1)) for a, b in zip(starts, ends, strict=True)]


def test_a_week_with_an_unwanted_or_incomplete_session_gets_no_bar() -> None:
    days = daily(XNYS, date(2024, 1, 8), date(2024, 1, 26))
    whole = all_whole(XNYS)
    whole[XNYS.rows_between(date(2024, 1, 19), date(2024, 1, 19))] = False
    assert stamps(weeks(days, XNYS, whole).ts) == ["2024-01-08 05:00", "2024-01-22 05:00"]
    # An unwanted week in the future breaks no other.
    whole[XNYS.rows_between(date(2024, 1, 29), LAST)] = False
    assert len(weeks(days, XNYS, whole)) == 2


def test_a_week_with_an_explained_absence_is_built_from_the_days_there_are() -> None:
    days = daily(XNYS, date(2024, 1, 8), date(2024, 1, 12)).take(np.array([1, 3]))
    made = weeks(days, XNYS, all_whole(XNYS))
    assert (stamps(made.ts), made.open.tolist(), made.close.tolist()) == (["2024-01-08 05:00"], [2], [4.5])


def test_a_stored_day_that_is_no_session_any_more_joins_no_week() -> None:
    stale = utc("2025-01-09 05:00")  # stored before the day of mourning was announced
    days = daily(XNYS, date(2025, 1, 6), date(2025, 1, 10))
    mixed = make_bars(*(np.insert(getattr(days, name), 3, value) for name, value in zip(
        ("ts", "open", "high", "low", "close", "volume"), (stale, 99, 99, 99, 99, 99), strict=True
    )))  # fmt: skip
    made = weeks(mixed, XNYS, all_whole(XNYS))
    assert (stamps(made.ts), made.volume.tolist(), made.high.tolist()) == (["2025-01-06 05:00"], [100], [5])


def test_iso_mondays_are_those_of_the_standard_library() -> None:
    days = np.arange("1969-12-20", "2030-01-10", dtype="datetime64[D]")
    expected = [date.fromisocalendar(*day.isocalendar()[:2], 1) for day in days.astype(object)]
    assert iso_monday(days).astype(object).tolist() == expected
