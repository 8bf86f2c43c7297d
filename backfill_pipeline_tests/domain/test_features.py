"""Every feature against a plain loop, against TA-Lib over the whole array, and against numbers worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import talib

from backfill_pipeline.domain.features import FEATURES, FeatureInput, compute_blocks, compute_features, feature_table
from backfill_pipeline_tests.domain.feature_bars import bars, flat_bars
from backfill_pipeline_tests.domain.feature_loops import loop_features, loop_rsi, loop_volatility

PRICE_UNIT = {feature.name for feature in FEATURES if feature.price_unit}
DOCS = Path(__file__).parents[2] / "docs" / "features.md"

ORACLES = {
    "return_pct": lambda x: talib.ROCP(x.close, 1),
    "atr_14": lambda x: talib.ATR(x.high, x.low, x.close, 14),
    "rsi_14": lambda x: talib.RSI(x.close, 14),
    "sma_20": lambda x: talib.SMA(x.close, 20),
    "sma_50": lambda x: talib.SMA(x.close, 50),
    "ema_12": lambda x: talib.EMA(x.close, 12),
    "ema_26": lambda x: talib.EMA(x.close, 26),
    "macd_signal_9": lambda x: talib.MACD(x.close, 12, 26, 9)[1],
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("n", [2, 15, 34, 60, 1000, 20_000])
def test_a_feature_is_talibs_from_its_first_value_on(name: str, n: int) -> None:
    x = bars(n)
    ours, theirs = compute_features(x)[name], ORACLES[name](x)
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_long_history_reaches_every_first_value() -> None:
    first = {name: int(np.flatnonzero(~np.isnan(v))[0]) for name, v in compute_features(bars(100)).items()}
    assert first == {
        "return_pct": 1,
        "log_return": 1,
        "volatility_20": 20,
        "atr_14": 14,
        "rsi_14": 14,
        "sma_20": 19,
        "sma_50": 49,
        "ema_12": 11,
        "ema_26": 25,
        "macd_signal_9": 33,
        "bollinger_pct_20": 19,
        "trend_slope_20": 19,
        "volume_z_20": 19,
        "dollar_volume": 0,
    }


def test_bands_and_slope_are_talibs_within_its_own_rounding() -> None:
    x = bars(2000)
    ours = compute_features(x)
    upper, _, lower = talib.BBANDS(x.close, 20, 2, 2)
    np.testing.assert_allclose(ours["bollinger_pct_20"], (x.close - lower) / (upper - lower), atol=1e-8)
    slope = talib.LINEARREG_SLOPE(x.close, 20) / talib.SMA(x.close, 20)
    np.testing.assert_allclose(ours["trend_slope_20"], slope, atol=1e-13)


@pytest.mark.parametrize("intraday", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.1, 0.8])
@pytest.mark.parametrize("n", [1, 2, 15, 26, 34, 50, 60, 1000])
def test_a_feature_is_what_a_plain_loop_makes_of_its_formula(n: int, missing: float, intraday: bool) -> None:
    x = bars(n, seed=3, intraday=intraday, missing=missing)
    ours, expected = compute_features(x), loop_features(x)
    assert list(ours) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-10, atol=1e-14, err_msg=name)


def test_features_of_many_bars_are_still_those_of_the_plain_loop() -> None:
    x = bars(17_000, seed=4, missing=0.01)
    ours = compute_features(x)
    for name, values in loop_features(x).items():
        zero = 1e-12 if name in PRICE_UNIT else 1e-14  # MACD goes through 0 at a price of about 50
        np.testing.assert_allclose(ours[name][16_300:], values[16_300:], rtol=1e-9, atol=zero, err_msg=name)


def test_hand_worked_numbers_of_a_straight_line() -> None:
    x = flat_bars(np.arange(101.0, 126.0), volume=np.arange(1.0, 26.0))
    ours = {name: values[-1] for name, values in compute_features(x).items()}  # closes 106 to 125, volumes 6 to 25
    assert ours["return_pct"] == pytest.approx(1 / 124)
    assert ours["sma_20"] == 115.5
    assert ours["trend_slope_20"] == pytest.approx(1 / 115.5, rel=1e-14)
    assert ours["bollinger_pct_20"] == pytest.approx(0.5 + 9.5 / (4 * math.sqrt(33.25)))
    assert ours["volume_z_20"] == pytest.approx(9.5 / math.sqrt(35))
    assert ours["atr_14"] == pytest.approx(1)
    assert ours["rsi_14"] == 100
    assert ours["dollar_volume"] == 125 * 25


def test_dollar_volume_takes_vwap_where_it_is_known() -> None:
    x = bars(300)
    expected = np.where(np.isnan(x.vwap), x.close, x.vwap) * x.volume
    assert np.array_equal(compute_features(x)["dollar_volume"], expected)


@pytest.mark.parametrize("price", [10.0, 0.1, 33.37, 1e-7, 98765.43])
def test_a_price_that_stands_still_has_no_bands_and_talibs_rsi(price: float) -> None:
    x = flat_bars(np.full(200, price))
    ours = compute_features(x)
    assert np.isnan(ours["bollinger_pct_20"]).all()
    assert np.isnan(ours["volume_z_20"]).all()
    assert np.all(ours["trend_slope_20"][19:] == 0)
    assert np.all(ours["volatility_20"][20:] == 0)
    assert np.array_equal(ours["rsi_14"], talib.RSI(x.close, 14), equal_nan=True)


def test_prices_that_differ_by_rounding_alone_have_no_bands() -> None:
    close = np.where(np.arange(60) % 2, 0.1 + 0.2, 0.3)
    assert np.isnan(compute_features(flat_bars(close))["bollinger_pct_20"]).all()
    tick = np.where(np.arange(60) % 2, 100_000.01, 100_000.0)
    assert not np.isnan(compute_features(flat_bars(tick))["bollinger_pct_20"][19:]).any()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rsi_of_a_price_that_stops_moving_stays_for_400_bars(scale: float) -> None:
    x = flat_bars(np.concatenate((bars(100).close, np.full(700, 50.0))) * scale)
    ours, theirs = compute_features(x)["rsi_14"], talib.RSI(x.close, 14)
    np.testing.assert_allclose(ours[:500], theirs[:500], rtol=1e-9)
    np.testing.assert_allclose(ours, loop_rsi(x.close.tolist()), rtol=1e-10)
    assert ours[499] > 0
    assert np.all(ours[500:] == 0)  # TA-Lib keeps the last value, from moves that are long forgotten


def test_rsi_before_a_price_first_moves_is_talibs_zero() -> None:
    x = flat_bars(np.concatenate((np.full(450, 50.0), bars(100).close)))
    np.testing.assert_allclose(compute_features(x)["rsi_14"], talib.RSI(x.close, 14), rtol=1e-10)
    assert np.all(compute_features(x)["rsi_14"][14:450] == 0)


def test_rsi_counts_a_cent_of_a_million_as_a_move_and_rounding_as_none() -> None:
    cents = flat_bars(np.where(np.arange(600) % 2, 1_000_000.01, 1_000_000.0))
    assert np.all(np.abs(compute_features(cents)["rsi_14"][14:] - 50) < 4)
    rounding = flat_bars(np.where(np.arange(600) % 2, 0.1 + 0.2, 0.3))
    assert np.all(compute_features(rounding)["rsi_14"][14:] == 0)


def test_volatility_of_nearly_equal_returns_keeps_its_digits_over_a_hole() -> None:
    growth = 0.01 + 1e-9 * np.sin(np.arange(80))
    adjacent = np.ones(80, dtype=bool)
    adjacent[40] = False
    x = FeatureInput(**{**vars(flat_bars(100 * np.exp(np.cumsum(growth)))), "adjacent": adjacent})
    np.testing.assert_allclose(compute_features(x)["volatility_20"], loop_volatility(x), rtol=1e-5)


def test_a_missing_bar_gives_one_null_return_and_nothing_else() -> None:
    whole = bars(200)
    adjacent = whole.adjacent.copy()
    adjacent[100] = False
    gappy = compute_features(FeatureInput(**{**vars(whole), "adjacent": adjacent}))
    complete = compute_features(whole)
    for name in ("return_pct", "log_return"):
        assert np.flatnonzero(np.isnan(gappy[name])).tolist() == [0, 100]
    for name in gappy.keys() - {"return_pct", "log_return", "volatility_20"}:
        assert np.array_equal(gappy[name], complete[name], equal_nan=True)
    assert not np.isnan(gappy["volatility_20"][20:]).any()


def test_the_overnight_return_does_not_count_as_intraday_volatility() -> None:
    night = np.where(np.arange(390) % 39 == 0, 0.05, 0.0001)
    x = flat_bars(100 * np.exp(np.cumsum(night)))
    first = np.arange(390) % 39 == 0
    minutes = compute_features(FeatureInput(**{**vars(x), "intraday": True, "session_first": first}))
    assert np.nanmax(minutes["volatility_20"]) < 1e-10
    assert np.nanmax(compute_features(x)["volatility_20"]) > 0.1


def test_no_bars_have_no_features() -> None:
    empty = flat_bars(np.empty(0))
    assert all(values.size == 0 for values in compute_features(empty).values())
    later = compute_blocks(bars(10), np.zeros(10, dtype=np.int64), 1)
    assert all(values.size == 0 for values in later.values())


def test_columns_come_in_the_declared_order() -> None:
    assert list(compute_features(bars(3))) == [feature.name for feature in FEATURES]


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_price_that_is_none_is_refused_by_name_and_place(price: float) -> None:
    close = np.array([10.0, price, 11.0])
    with pytest.raises(ValueError, match="of bar 1 is"):
        flat_bars(close)


def test_arrays_of_another_length_and_unordered_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"volume has shape \(2,\), close has \(3,\)"):
        flat_bars(np.ones(3), volume=np.ones(2))
    with pytest.raises(ValueError, match="non-decreasing"):
        compute_blocks(bars(3), np.array([1, 0, 1]), 0)


def test_the_documentation_is_the_declared_features() -> None:
    remedy = "write feature_table() of backfill_pipeline.domain.features to docs/features.md"
    assert DOCS.read_text(encoding="utf-8") == feature_table(), remedy
