"""Split and dividend factors by hand, what is refused, and AAPL's history against its own adjusted closes."""

import math
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from bokeh_sampledata.stocks import AAPL

from backfill_pipeline.domain.adjust import (
    Dividend,
    DividendStep,
    Split,
    apply_factors,
    basis_sessions,
    dividend_factors,
    dividend_steps,
    own_basis,
    split_basis,
    split_factors,
)
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import to_micros

SESSIONS = np.array(["2020-08-27", "2020-08-28", "2020-08-31", "2020-08-31", "2020-09-01"], dtype="datetime64[D]")
FOUR = Split(date(2020, 8, 31), 4.0)
AAPL_SPLITS = [Split(date(2005, 2, 28), 2.0), Split(date(2000, 6, 21), 2.0)]
AAPL_DIVIDENDS = [Dividend(day, 2.65, "USD") for day in (date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7))]
EX = date(2020, 8, 31)
FRIDAY = {EX: (date(2020, 8, 28), 400.0)}
BEFORE = {date(2020, 8, 28): (date(2020, 8, 27), 500.0)}


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


@pytest.mark.parametrize(
    ("splits", "cash", "factor"),
    [
        pytest.param([], 4.0, 0.99, id="of the close before"),
        pytest.param([FOUR], 1.0, 0.99, id="on one day the split comes first"),
        pytest.param([Split(date(2021, 1, 4), 10.0)], 4.0, 0.99, id="a later split changes nothing"),
        pytest.param([Split(date(2020, 8, 28), 10.0)], 4.0, 0.99, id="nor does one that the close has seen"),
    ],
)
def test_a_dividend_is_a_share_of_the_close_before_it(splits: list[Split], cash: float, factor: float) -> None:
    steps, refused = dividend_steps([Dividend(EX, cash, "USD")], FRIDAY, splits, "USD")
    assert [(step.ex_date, step.factor) for step in steps] == [(EX, pytest.approx(factor, abs=1e-15))]
    assert refused == []


def test_payments_of_one_day_add_up() -> None:
    special = [Dividend(EX, 4.0, "USD"), Dividend(EX, 36.0, "usd")]
    assert dividend_steps(special, FRIDAY, [], "USD")[0] == [DividendStep(EX, 0.9)]


@pytest.mark.parametrize(
    ("paid", "words"),
    [
        pytest.param(Dividend(EX, 2.0, "CAD"), "dividend of 2020-08-31: 2 CAD is not in USD", id="foreign currency"),
        pytest.param(
            Dividend(EX, 100.0, "USD"),
            "dividend of 2020-08-31: 100 USD is not between 0 and the close before it, 100",
            id="the whole price",
        ),
        pytest.param(Dividend(EX, 0.0, "USD"), "is not between 0 and", id="nothing"),
        pytest.param(Dividend(EX, -1.0, "USD"), "is not between 0 and", id="negative"),
        pytest.param(Dividend(EX, math.nan, "USD"), "is not between 0 and", id="no number"),
        pytest.param(
            Dividend(date(2020, 9, 1), 1.0, "USD"), "2020-09-01: 1 USD: no close of a session before", id="no close"
        ),
    ],
)
def test_a_dividend_that_gives_no_factor_is_told_and_left_out(paid: Dividend, words: str) -> None:
    steps, refused = dividend_steps([paid, Dividend(date(2020, 8, 28), 5.0, "USD")], FRIDAY | BEFORE, [FOUR], "USD")
    assert [step.ex_date for step in steps] == [date(2020, 8, 28)], "the other one counts"
    assert len(refused) == 1
    assert words in refused[0]


def test_dividend_factors_lead_to_the_basis_of_a_date() -> None:
    steps = [DividendStep(date(2020, 8, 28), 0.5), DividendStep(EX, 0.75)]
    assert dividend_factors(SESSIONS, steps).tolist() == [0.375, 0.75, 1, 1, 1]
    assert dividend_factors(SESSIONS, steps, date(2020, 8, 30)).tolist() == [0.5, 1, 1, 1, 1]


def test_a_dividend_changes_prices_and_no_volume() -> None:
    columns = {name: np.array([8.0, 8.0]) for name in ("close", "volume", "sma_20", "dollar_volume")}
    adjusted = apply_factors(columns, np.array([0.25, 1.0]), np.array([0.5, 1.0]))
    assert {name: values.tolist() for name, values in adjusted.items()} == {
        "close": [1, 8],
        "volume": [32, 8],
        "sma_20": [1, 8],
        "dollar_volume": [8, 8],
    }


@pytest.mark.parametrize(
    ("timeframe", "start", "basis"),
    [
        pytest.param("1m", (2024, 6, 10, 4, 0), "2024-06-10", id="pre-market is the new session"),
        pytest.param("1m", (2024, 6, 7, 19, 59), "2024-06-07", id="post-market is the old one"),
        pytest.param("1d", (2024, 6, 10, 0, 0), "2024-06-10", id="a day"),
        pytest.param("1w", (2024, 6, 10, 0, 0), "2024-06-16", id="a week is on the basis it closes on"),
        pytest.param("1w", (2024, 9, 2, 0, 0), "2024-09-08", id="a week labelled by a holiday"),
    ],
)
def test_the_day_whose_basis_a_bar_is_on(timeframe: Timeframe, start: tuple[int, ...], basis: str) -> None:
    ts = np.array([to_micros(datetime(*start, tzinfo=ZoneInfo("America/New_York")))])  # type: ignore[arg-type, misc]
    assert basis_sessions(ts, load_sessions("XNYS", date(2025, 1, 1)), timeframe).tolist() == [
        date.fromisoformat(basis)
    ]


def apples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sessions, unadjusted and adjusted closes of the file. The latter carry, beside the actions until 2013-03-01, one
    constant for what came after: the 7:1 split of 2014 and dividends until the file was made, in 2017.
    """
    close, adjusted = np.array(AAPL["close"]), np.array(AAPL["adj_close"])
    later = adjusted[-1] / close[-1]
    assert later == pytest.approx(0.9128661037 / 7, rel=1e-9)
    return np.array(AAPL["date"], dtype="datetime64[D]"), close, adjusted / later


def apples_own(dividends: list[Dividend]) -> np.ndarray:
    sessions, close, _ = apples()
    places = {paid.ex_date: int(np.searchsorted(sessions, np.datetime64(paid.ex_date))) - 1 for paid in dividends}
    closes = {day: (sessions[i].item(), float(close[i])) for day, i in places.items()}
    steps, refused = dividend_steps(dividends, closes, AAPL_SPLITS, "USD")
    assert refused == []
    factors = split_factors(sessions, AAPL_SPLITS), dividend_factors(sessions, steps)
    return apply_factors({"close": close}, *factors)["close"]


def test_apples_adjusted_closes_are_those_of_the_file_within_a_50th_of_a_percent() -> None:
    """The file takes a dividend as a share of (close of the ex-date + cash), not of the close before: the factors of
    three dividends are apart by 0.02 % at most, and between the ex-dates all digits agree.
    """
    sessions, _, theirs = apples()
    ours = apples_own(AAPL_DIVIDENDS)
    assert np.abs(ours / theirs - 1).max() < 2e-4
    since = sessions >= np.datetime64("2013-02-07")
    np.testing.assert_allclose(ours[since], theirs[since], rtol=1e-13)
    old = sessions < np.datetime64("2012-08-09")
    np.testing.assert_allclose(ours[old] / ours[old][-1], theirs[old] / theirs[old][-1], rtol=1e-13)


def test_apples_adjusted_closes_are_those_of_the_file_in_every_digit_by_the_files_own_convention() -> None:
    sessions, close, theirs = apples()
    converted = []
    for paid in AAPL_DIVIDENDS:
        i = int(np.searchsorted(sessions, np.datetime64(paid.ex_date)))
        converted.append(Dividend(paid.ex_date, paid.cash * close[i - 1] / (close[i] + paid.cash), "USD"))
    np.testing.assert_allclose(apples_own(converted), theirs, rtol=1e-13)
