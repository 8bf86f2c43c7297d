"""Split factors by hand, bad splits, and the two splits of AAPL's unadjusted history."""

import math
from datetime import date

import numpy as np
import pytest
from bokeh_sampledata.stocks import AAPL

from backfill_pipeline.domain.adjust import Split, apply_factors, own_basis, split_basis, split_factors

SESSIONS = np.array(["2020-08-27", "2020-08-28", "2020-08-31", "2020-08-31", "2020-09-01"], dtype="datetime64[D]")
FOUR = Split(date(2020, 8, 31), 4.0)
AAPL_SPLITS = [Split(date(2005, 2, 28), 2.0), Split(date(2000, 6, 21), 2.0)]


def test_a_split_days_whole_session_is_on_the_new_basis() -> None:
    assert split_factors(SESSIONS, [FOUR]).tolist() == [0.25, 0.25, 1, 1, 1]
    assert split_basis(SESSIONS, [FOUR]).tolist() == [1, 1, 4, 4, 4]


def test_splits_multiply_in_any_order() -> None:
    reverse = Split(date(2020, 9, 1), 0.1)
    for splits in ([FOUR, reverse], [reverse, FOUR, FOUR]):
        assert split_factors(SESSIONS, splits).tolist() == [2.5, 2.5, 10, 10, 1]
        assert split_basis(SESSIONS, splits).tolist() == [1, 1, 4, 4, 0.4]


@pytest.mark.parametrize(
    ("as_of", "first"),
    [
        pytest.param(date(2020, 8, 30), 1.0, id="the day before is on the old basis"),
        pytest.param(date(2020, 8, 31), 0.25, id="the ex-date is on the new one"),
        pytest.param(None, 0.25, id="no date means after all splits"),
    ],
)
def test_factors_lead_to_the_basis_of_a_date(as_of: date | None, first: float) -> None:
    assert split_factors(SESSIONS, [FOUR], as_of)[0] == first


def test_a_split_outside_the_bars() -> None:
    earlier, later = Split(date(2020, 8, 27), 7.0), Split(date(2021, 1, 4), 2.0)
    assert split_basis(SESSIONS, [earlier, later]).tolist() == [1, 1, 1, 1, 1]
    assert split_factors(SESSIONS, [earlier, later]).tolist() == [0.5] * 5


def test_an_ex_date_between_two_bars_takes_effect_at_the_next() -> None:
    weekend = Split(date(2020, 8, 29), 4.0)
    assert split_basis(SESSIONS, [weekend]).tolist() == [1, 1, 4, 4, 4]


def test_prices_shares_and_features_are_rescaled_and_nothing_else() -> None:
    columns = {name: np.array([8.0, 8.0]) for name in ("close", "vwap", "volume", "trades", "sma_20", "rsi_14")}
    adjusted = apply_factors(columns, np.array([0.25, 1.0]))
    assert {name: values.tolist() for name, values in adjusted.items()} == {
        "close": [2, 8],
        "vwap": [2, 8],
        "volume": [32, 8],
        "trades": [8, 8],
        "sma_20": [2, 8],
        "rsi_14": [8, 8],
    }
    assert all(values.tolist() == [8, 8] for values in columns.values())


@pytest.mark.parametrize("ratio", [0.0, -2.0, 1.0, math.nan, math.inf])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"split of 2020-08-31: ratio .* is not one") as caught:
        Split(date(2020, 8, 31), ratio)
    assert "\n" not in str(caught.value)


def test_two_splits_of_one_date_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two splits of 2020-08-31 disagree: 4\.0 and 5\.0"):
        split_factors(SESSIONS, [FOUR, Split(date(2020, 8, 31), 5.0)])
    with pytest.raises(ValueError, match="disagree"):
        split_basis(SESSIONS, [FOUR, Split(date(2020, 8, 31), 5.0)])


@pytest.mark.parametrize("before", [0.1, 3.0, 1.5, 7 / 3, 1 / 30, 1.0023])
@pytest.mark.parametrize("ratio", [0.1, 3.0, 1.5, 7 / 3, 1 / 30, 1.0023])
def test_a_basis_of_its_own_tells_nothing_of_earlier_splits(before: float, ratio: float) -> None:
    basis = np.cumprod([1.0, before, 1.0, ratio, 1.0])
    own = own_basis(basis[2:])
    assert own is not None
    assert own.tolist() == [1.0, ratio, ratio]
    assert own_basis(basis[3:]) is None


def test_apples_history_is_continuous_over_both_splits() -> None:
    sessions = np.array(AAPL["date"], dtype="datetime64[D]")
    close = np.array(AAPL["close"])
    adjusted = apply_factors({"close": close}, split_factors(sessions, AAPL_SPLITS))["close"]
    assert adjusted[-1] == close[-1]
    for split in AAPL_SPLITS:
        day = int(np.searchsorted(sessions, np.datetime64(split.ex_date)))
        assert abs(math.log(close[day] / close[day - 1])) > 0.5
        assert abs(math.log(adjusted[day] / adjusted[day - 1])) < 0.25


def test_apple_as_of_a_day_between_its_splits() -> None:
    sessions = np.array(AAPL["date"], dtype="datetime64[D]")
    factors = split_factors(sessions, AAPL_SPLITS, date(2003, 1, 2))
    assert sorted(set(factors.tolist())) == [0.5, 1.0]
    assert sessions[factors == 0.5].max() == np.datetime64("2000-06-20")
