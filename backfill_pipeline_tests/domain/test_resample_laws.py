"""Laws of resampling, and a second resampler in plain Python that knows nothing of the first.

Any subset of the minutes of a few telling days goes in: a full day, half days, the days around a change of the clocks,
all with pre- and post-market, and Hong Kong's with a lunch break.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.bars import Bars, make_bars
from backfill_pipeline.domain.resample import Resampled, resample
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import INTRADAY, LENGTH, Timeframe
from backfill_pipeline.domain.validate import validate
from backfill_pipeline.domain.windows import Window, to_micros

LAST = date(2027, 12, 31)
PRE, POST = (time(4), time(9, 30)), (time(16), time(20))
FULL = [PRE, (time(9, 30), time(16)), POST]
HALF = [PRE, (time(9, 30), time(13)), (time(13), time(17))]
LUNCH = [(time(9, 30), time(12)), (time(13), time(16))]
DAYS: dict[str, tuple[str, dict[date, list[tuple[time, time]]]]] = {
    "XNYS": (
        "America/New_York",
        {
            date(2024, 3, 8): FULL,
            date(2024, 3, 11): FULL,  # the clocks have gone forward
            date(2024, 7, 3): HALF,
            date(2024, 11, 1): FULL,
            date(2024, 11, 4): FULL,  # and back
            date(2024, 11, 29): HALF,
        },
    ),
    "XHKG": ("Asia/Hong_Kong", {date(2024, 12, 23): LUNCH, date(2024, 12, 24): LUNCH[:1]}),
}
LENGTHS = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}


@dataclass
class Minute:
    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trades: int | None


def trading_minutes(calendar: str) -> Iterator[datetime]:
    zone_name, days = DAYS[calendar]
    for day, parts in days.items():
        for start, end in parts:
            moment = datetime.combine(day, start, ZoneInfo(zone_name)).astimezone(UTC)
            last = datetime.combine(day, end, ZoneInfo(zone_name)).astimezone(UTC)
            while moment < last:
                yield moment
                moment += timedelta(minutes=1)


ALL_MINUTES = {calendar: list(trading_minutes(calendar)) for calendar in DAYS}


@st.composite
def samples(draw: st.DrawFn) -> tuple[str, list[Minute]]:
    """A calendar and some minutes of it: anything from none to all, values from a drawn seed."""
    calendar = draw(st.sampled_from(sorted(DAYS)))
    rng = random.Random(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.0, 0.002, 0.05, 0.5, 0.95, 1.0]))
    unknown = draw(st.sampled_from([0.0, 0.04, 0.5]))
    return calendar, [_minute(ts, rng, unknown) for ts in ALL_MINUTES[calendar] if rng.random() < density]


def _minute(ts: datetime, rng: random.Random, unknown: float) -> Minute:
    opened, closed = rng.uniform(1, 500), rng.uniform(1, 500)
    high, low = max(opened, closed) * rng.uniform(1, 1.1), min(opened, closed) * rng.uniform(0.9, 1)
    vwap = None if rng.random() < unknown else rng.uniform(1, 500)
    trades = None if rng.random() < unknown / 10 else rng.randrange(1, 50)
    return Minute(
        ts, opened, high, low, closed, rng.choice([0, 1, rng.randrange(10**7), rng.uniform(0, 9)]), vwap, trades
    )


def columns(minutes: list[Minute]) -> Bars:
    vwap = [math.nan if minute.vwap is None else minute.vwap for minute in minutes]
    trades = [-1 if minute.trades is None else minute.trades for minute in minutes]
    prices = [[getattr(minute, name) for minute in minutes] for name in ("open", "high", "low", "close", "volume")]
    return make_bars([to_micros(minute.ts) for minute in minutes], *prices, vwap, trades)


def made_of(calendar: str, bars: Bars, targets: tuple[Timeframe, ...] = INTRADAY.derived) -> dict[str, Resampled]:
    sessions = load_sessions(calendar, LAST)
    return {made.timeframe: made for made in resample(bars, sessions.parts.locate(bars.ts), sessions, targets)}


def plainly(calendar: str, minutes: list[Minute], timeframe: Timeframe) -> dict[datetime, Minute]:
    """Wall-clock arithmetic, dictionaries and lists."""
    zone_name, days = DAYS[calendar]
    buckets: dict[datetime, list[Minute]] = defaultdict(list)
    for minute in minutes:
        wall = minute.ts.astimezone(ZoneInfo(zone_name))
        (anchor,) = [start for start, end in days[wall.date()] if start <= wall.time() < end]
        passed = (wall.hour * 60 + wall.minute) - (anchor.hour * 60 + anchor.minute)
        into = timedelta(minutes=passed % LENGTHS[timeframe])
        buckets[minute.ts - into].append(minute)
    return {start: _aggregate(start, parts) for start, parts in buckets.items()}


def _aggregate(start: datetime, parts: list[Minute]) -> Minute:
    parts = sorted(parts, key=lambda part: part.ts)
    volume = math.fsum(part.volume for part in parts)
    priced = [(part.vwap, part.volume) for part in parts if part.vwap is not None]
    known = math.fsum(weight for _, weight in priced)
    trades = [part.trades for part in parts if part.trades is not None]
    return Minute(
        start,
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        volume,
        math.fsum(v * w for v, w in priced) / known if known and known * 100 >= volume * 95 else None,
        sum(trades) if len(trades) == len(parts) else None,
    )


def exactly(left: Bars, right: Bars, names: tuple[str, ...] = ("ts", "open", "high", "low", "close", "trades")) -> None:
    for name in names:
        assert np.array_equal(getattr(left, name), getattr(right, name)), name


def closely(left: Bars, right: Bars) -> None:
    exactly(left, right)
    np.testing.assert_allclose(left.volume, right.volume, rtol=1e-12, atol=0)
    np.testing.assert_allclose(left.vwap, right.vwap, rtol=1e-12, atol=0, equal_nan=True)


@settings(deadline=None, max_examples=60)
@given(samples())
def test_a_resampler_in_plain_python_agrees(sample: tuple[str, list[Minute]]) -> None:
    calendar, minutes = sample
    for timeframe, made in made_of(calendar, columns(minutes)).items():
        expected = plainly(calendar, minutes, timeframe)  # type: ignore[arg-type]  # the keys are timeframes
        closely(made.bars, columns([expected[start] for start in sorted(expected)]))


@settings(deadline=None, max_examples=40)
@given(samples())
def test_volume_and_trades_are_conserved_part_by_part(sample: tuple[str, list[Minute]]) -> None:
    calendar, minutes = sample
    counted = [Minute(m.ts, m.open, m.high, m.low, m.close, m.volume, m.vwap, m.trades or 1) for m in minutes]
    bars = columns(counted)
    part = load_sessions(calendar, LAST).parts.locate(bars.ts)
    assert (part >= 0).all()
    for made in made_of(calendar, bars).values():
        for name in ("volume", "trades"):
            before = np.bincount(part, weights=getattr(bars, name))
            after = np.bincount(made.part, weights=getattr(made.bars, name))
            np.testing.assert_allclose(before, after, rtol=1e-12 if name == "volume" else 0)


@settings(deadline=None, max_examples=40)
@given(samples())
def test_going_through_finer_bars_changes_nothing(sample: tuple[str, list[Minute]]) -> None:
    calendar, minutes = sample
    bars = columns(minutes)
    step_by_step = made_of(calendar, bars)
    for timeframe in INTRADAY.derived:
        direct = made_of(calendar, bars, (timeframe,))[timeframe]
        closely(step_by_step[timeframe].bars, direct.bars)
        assert np.array_equal(step_by_step[timeframe].part, direct.part)


@settings(deadline=None, max_examples=40)
@given(samples())
def test_stored_5m_bars_make_the_15m_bars_that_minutes_make(sample: tuple[str, list[Minute]]) -> None:
    calendar, minutes = sample
    # A stored vwap is rounded away where it is unknown or weighs nothing, so all are known here.
    full = [Minute(m.ts, m.open, m.high, m.low, m.close, m.volume + 1, m.close, m.trades) for m in minutes]
    five = made_of(calendar, columns(full), ("5m",))["5m"].bars
    closely(made_of(calendar, five, ("15m",))["15m"].bars, made_of(calendar, columns(full), ("15m",))["15m"].bars)


@settings(deadline=None, max_examples=40)
@given(samples(), st.integers(0, 2**32))
def test_order_and_duplicates_in_an_answer_change_nothing(sample: tuple[str, list[Minute]], seed: int) -> None:
    calendar, minutes = sample
    real = [minute for minute in minutes if minute.volume]
    rng = random.Random(seed)
    sent = real + rng.choices(real, k=len(real) // 3) if real else []
    rng.shuffle(sent)
    sessions = load_sessions(calendar, LAST)
    asked = Window(to_micros(datetime(2024, 1, 1, tzinfo=UTC)), to_micros(datetime(2025, 1, 1, tzinfo=UTC)))
    result = validate(columns(sent), "1m", asked, sessions)
    assert (result.refused, result.outside, result.fillers) == ((), 0, 0)
    straight = columns(real)
    for field in fields(Bars):
        np.testing.assert_array_equal(getattr(result.bars, field.name), getattr(straight, field.name))
    assert np.array_equal(result.part, sessions.parts.locate(straight.ts))


@pytest.mark.parametrize("calendar", sorted(DAYS))
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_sessions_resample_the_same_alone_and_together(calendar: str, data: st.DataObject) -> None:
    bars = columns([_minute(ts, random.Random(ts.minute), 0.3) for ts in ALL_MINUTES[calendar]])
    sessions = load_sessions(calendar, LAST)
    cut = int(data.draw(st.sampled_from(sessions.day_start[sessions.row_of(bars.ts)].tolist())))
    for timeframe, whole in made_of(calendar, bars).items():
        halves = [
            made_of(calendar, bars.between(*bounds), INTRADAY.derived)[timeframe].bars
            for bounds in ((0, cut), (cut, 2**62))
        ]
        for field in fields(Bars):
            joined = np.concatenate([getattr(half, field.name) for half in halves])
            np.testing.assert_array_equal(joined, getattr(whole.bars, field.name))  # bit for bit


def test_the_lengths_here_are_those_of_the_timeframes() -> None:
    assert {timeframe: LENGTH[timeframe] // 60_000_000 for timeframe in INTRADAY.derived} == LENGTHS
