"""The truth itself: the made-up bars it starts from, and what each change does to minutes and days."""

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import validate
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline.providers.base import Request
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline_tests.standin import Market

FIRST, LAST = date(2024, 3, 7), date(2024, 3, 13)
TEN, ELEVEN = datetime(2024, 3, 8, 15, tzinfo=UTC), datetime(2024, 3, 8, 16, tzinfo=UTC)
FRIDAY = date(2024, 3, 8)


def minutes(market: Market, symbol: str = "AAPL") -> Bars:
    return market.minutes(symbol, market.sessions(symbol).days_window(FIRST, LAST))


def same(left: Bars, right: Bars) -> bool:
    pairs = [(getattr(left, field.name), getattr(right, field.name)) for field in fields(Bars)]
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_an_unchanged_market_is_the_synthetic_provider(timeframe: Base) -> None:
    market = Market(seed=7)
    sessions = market.sessions("AAPL")
    request = Request(Instrument(1, "AAPL", "stock", "XNYS"), timeframe, sessions.days_window(FIRST, LAST), sessions)
    answers = SyntheticProvider(seed=7, extended=True).fetch(request, datetime(2026, 1, 1, tzinfo=UTC))
    expected = concatenate([answer.bars for answer in answers])
    assert len(expected) == (5 * 960 if timeframe == "1m" else 5)
    assert same(minutes(market) if timeframe == "1m" else market.days("AAPL", FIRST, LAST), expected)


def test_withheld_minutes_are_gone_but_the_day_still_counts_them() -> None:
    market, whole = Market(), Market()
    market.withhold("AAPL", TEN, ELEVEN)
    assert len(minutes(market)) == len(minutes(whole)) - 60
    assert len(minutes(market).between(to_micros(TEN), to_micros(ELEVEN))) == 0
    assert same(market.days("AAPL", FIRST, LAST), whole.days("AAPL", FIRST, LAST))


def test_silent_minutes_never_traded_so_the_day_agrees() -> None:
    market, whole = Market(), Market()
    market.silence("AAPL", TEN, ELEVEN)
    quiet = minutes(whole).between(to_micros(TEN), to_micros(ELEVEN)).volume.sum()
    before, after = (m.days("AAPL", FRIDAY, FRIDAY).volume[0] for m in (whole, market))
    assert len(minutes(market)) == len(minutes(whole)) - 60
    assert after == pytest.approx(before - quiet)


def test_a_restated_minute_reaches_its_day_and_no_other() -> None:
    market, whole = Market(), Market()
    market.days("AAPL", FIRST, LAST)  # worked out before the change
    market.restate("AAPL", TEN, high=9999.0, volume=1.0)
    bars, days = minutes(market), market.days("AAPL", FIRST, LAST)
    changed = np.flatnonzero(bars.high != minutes(whole).high)
    assert bars.ts[changed].tolist() == [to_micros(TEN)]
    assert np.flatnonzero(days.high != whole.days("AAPL", FIRST, LAST).high).tolist() == [1]
    assert days.high[1] == 9999.0


def test_nothing_traded_outside_of_a_lifetime_and_an_unknown_symbol_never() -> None:
    market = Market()
    market.list_from("AAPL", FRIDAY, date(2024, 3, 11))
    market.unknown("NOPE")
    traded = {day.isoformat() for day in minutes(market).ts.astype("datetime64[us]").astype("datetime64[D]").tolist()}
    assert traded >= {"2024-03-08", "2024-03-11"}
    assert len(minutes(market)) == 2 * 960
    assert len(minutes(market, "NOPE")) == 0


def test_a_renamed_instrument_goes_on_under_its_new_name() -> None:
    market, whole = Market(), Market()
    market.rename("FB", "META", date(2024, 3, 11))
    old, new = minutes(market, "FB"), minutes(market, "META")
    assert same(concatenate([old, new]), minutes(whole, "FB"))
    assert (len(old), len(new)) == (2 * 960, 3 * 960)


def test_splits_multiply_and_a_duplicate_or_a_phantom_moves_no_price() -> None:
    market, whole = Market(), Market()
    for ex_date, split_from, split_to in ((FRIDAY, 1, 4), (FRIDAY, 1, 4), (date(2024, 3, 12), 10, 1)):
        market.split("AAPL", ex_date, split_from, split_to)
    market.split("AAPL", date(2024, 3, 13), 1, 3, phantom=True)
    ratio = market.days("AAPL", FIRST, LAST).close / whole.days("AAPL", FIRST, LAST).close
    assert ratio == pytest.approx([1, 0.25, 0.25, 2.5, 2.5], rel=1e-4)
    # The provider believes in the phantom: adjusted bars are wrong by it.
    adjusted = market.days("AAPL", FIRST, LAST, adjusted=True).close / whole.days("AAPL", FIRST, LAST).close
    assert adjusted == pytest.approx([2.5 / 3, 2.5 / 3, 2.5 / 3, 2.5 / 3, 2.5], rel=1e-4)


def test_bars_stay_valid_whatever_happened_to_them() -> None:
    market = Market(bare_share=0.1)
    market.split("AAPL", FRIDAY, 1, 20)
    sessions = market.sessions("AAPL")
    window = sessions.days_window(FIRST, LAST)
    checked = validate(minutes(market), "1m", window, sessions)
    assert len(checked.bars) == 5 * 960
    assert np.isnan(checked.bars.vwap).sum() == (checked.bars.trades < 0).sum() > 0


def test_a_change_told_in_json_is_the_change_told_in_python() -> None:
    told, done = Market(), Market()
    told.change(
        {
            "withhold": [["AAPL", "2024-03-08T15:00:00Z", "2024-03-08T16:00:00Z"]],
            "restate": [{"symbol": "AAPL", "at": "2024-03-08T17:00:00Z", "close": 1.5}],
            "split": [["AAPL", "2024-03-12", 1, 2]],
            "unknown": ["NOPE"],
        }
    )
    done.withhold("AAPL", TEN, ELEVEN)
    done.restate("AAPL", TEN + timedelta(hours=2), close=1.5)
    done.split("AAPL", date(2024, 3, 12), 1, 2)
    assert same(minutes(told), minutes(done))
    assert told.events.unknown == {"NOPE"}


def test_a_wrong_word_is_named() -> None:
    with pytest.raises(ValueError, match="no verb 'explode'"):
        Market().change({"explode": []})
    with pytest.raises(ValueError, match="no column clsoe"):
        Market().restate("AAPL", TEN, clsoe=1.0)


def test_a_window_is_cut_to_the_minute() -> None:
    market = Market()
    start = to_micros(TEN)
    assert market.minutes("AAPL", Window(start, start + 3 * MINUTE)).ts.tolist() == [
        start + number * MINUTE for number in range(3)
    ]
