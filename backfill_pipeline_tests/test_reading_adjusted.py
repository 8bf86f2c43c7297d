"""`read_bars` and `read_features` adjusted by stored splits and dividends: AAPL's own, against its own files."""

import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from bokeh_sampledata.stocks import AAPL

from backfill_pipeline import IncompleteError, IncompleteWarning, Split, read_bars, read_features
from backfill_pipeline.domain.feature_list import FEATURES
from backfill_pipeline.providers.sample import SampleProvider
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Site, site

PRICES = ["open", "high", "low", "close"]
SPLITS = {date(2000, 6, 21): 2.0, date(2005, 2, 28): 2.0}
DIVIDENDS = [date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7)]
SPAN = ("AAPL", "1d", "2000-03-01", "2013-03-01")


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """AAPL's days of the sample with its splits and dividends, IBM's without, and a day of AAPL's minutes."""
    home = tmp_path_factory.mktemp("adjusted")
    with site(server, home, SampleProvider(), datetime(2026, 11, 1, tzinfo=UTC)) as made:
        desk = made.cut(daily_start=date(2000, 1, 1))
        desk.register("AAPL", "IBM")
        add_splits(desk)
        for day in DIVIDENDS:
            add_dividend(desk, day, 2.65)
        load(desk, ["AAPL", "IBM"], "1d", "2000-03-01", "2013-03-01")
        load(desk, ["AAPL"], "1m", "2026-07-29", "2026-07-29")
        yield desk


def load(desk: Site, symbols: list[str], timeframe: str, start: str, end: str) -> None:
    config = {"symbols": symbols, "timeframes": [timeframe], "start": start, "end": end}
    desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})


def add_splits(desk: Site) -> None:
    for day, ratio in SPLITS.items():
        desk.query(
            "INSERT INTO splits (symbol_id, ex_date, split_from, split_to, adjustment_type, provider_id, provider,"
            " accepted, reason, seen_at) SELECT symbol_id, %s, 1, %s, 'forward_split', 'x', 'told', true, '', now()"
            " FROM symbols WHERE symbol = 'AAPL'",
            day,
            ratio,
        )


def add_dividend(desk: Site, day: date, cash: float, currency: str = "USD") -> None:
    desk.query(
        "INSERT INTO dividends (symbol_id, ex_date, cash_amount, currency, distribution_type, provider_id, provider,"
        " accepted, reason, seen_at) SELECT symbol_id, %s, %s, %s, 'recurring', 'x', 'told', true, '', now()"
        " FROM symbols WHERE symbol = 'AAPL'",
        day,
        cash,
        currency,
    )


@pytest.fixture
def payment(desk: Site) -> Iterator[Site]:
    """The desk, for one more dividend, which is gone after the test."""
    yield desk
    desk.query("DELETE FROM dividends WHERE ex_date <> ALL (%s)", DIVIDENDS)


def close_on(bars: pd.DataFrame, day: str) -> float:
    return float(bars.loc[bars["session"] == pd.Timestamp(day), "close"].iloc[0])


def test_the_stored_splits_are_those_that_count_and_today_is_the_basis(desk: Site) -> None:
    given = [Split(day, ratio) for day, ratio in SPLITS.items()]
    for timeframe in ("1d", "1w"):
        span = ("AAPL", timeframe, "2000-03-01", "2006-01-01")
        stored = read_bars(*span, adjust="splits", url=desk.url)
        pd.testing.assert_frame_equal(stored, read_bars(*span, adjust="splits", splits=given, url=desk.url))
        assert np.abs(np.diff(np.log(stored["close"]))).max() < 0.8  # -52 % on 2000-09-29; 4:1 would be 1.39
        assert not stored["close"].equals(read_bars(*span, url=desk.url)["close"])


def test_given_splits_win_over_the_stored_ones(desk: Site) -> None:
    raw = read_bars("AAPL", "1d", "2005-02-01", "2005-02-25", url=desk.url)
    other = {"AAPL": [Split(date(2005, 2, 28), 10.0)]}
    mine = read_bars("AAPL", "1d", "2005-02-01", "2005-02-25", adjust="splits", splits=other, url=desk.url)
    none = read_bars("AAPL", "1d", "2005-02-01", "2005-02-25", adjust="splits", splits=[], url=desk.url)
    stored = read_bars("AAPL", "1d", "2005-02-01", "2005-02-25", adjust="splits", splits={"IBM": []}, url=desk.url)
    assert (mine["close"] / raw["close"]).tolist() == pytest.approx([0.1] * len(raw))
    pd.testing.assert_frame_equal(none, raw)
    assert (stored["close"] * 2).tolist() == raw["close"].tolist(), (
        "a symbol that none are given for has its stored ones"
    )


def test_as_of_a_day_between_the_splits(desk: Site) -> None:
    raw = read_bars("AAPL", "1d", "2000-06-01", "2005-03-31", url=desk.url)
    then = read_bars("AAPL", "1d", "2000-06-01", "2005-03-31", adjust="all", as_of="2003-01-02", url=desk.url)
    before = raw["session"] < "2000-06-21"
    assert (then.loc[before, PRICES] * 2).equals(raw.loc[before, PRICES])
    pd.testing.assert_frame_equal(then[~before], raw[~before])


def test_everything_adjusted_is_the_files_adjusted_close(desk: Site) -> None:
    """Up to one constant for actions after the file's last day, and 0.02 %: it takes dividends by another formula."""
    bars = read_bars(*SPAN, adjust="all", url=desk.url)
    theirs = pd.Series(AAPL["adj_close"])
    constant = theirs.iloc[-1] / AAPL["close"][-1]
    assert bars["session"].dt.strftime("%Y-%m-%d").tolist() == AAPL["date"]
    ratio = bars["close"] * constant / theirs
    assert abs(ratio - 1).max() < 2e-4
    assert abs(ratio[bars["session"] >= "2013-02-07"] - 1).max() < 1e-13
    factor = (1 - 2.65 / 619.86) * (1 - 2.65 / 582.8495) * (1 - 2.65 / 457.35)
    assert close_on(bars, "2012-08-08") == pytest.approx(619.86 * factor, rel=1e-14)
    assert close_on(bars, "2000-06-20") == pytest.approx(101.25 / 4 * factor, rel=1e-14)
    raw, splits = read_bars(*SPAN, url=desk.url), read_bars(*SPAN, adjust="splits", url=desk.url)
    assert bars["volume"].equals(splits["volume"]), "a payment makes no shares"
    assert bars["volume"].iloc[0] == raw["volume"].iloc[0] * 4


@pytest.mark.parametrize("adjust", ["splits", "all"])
def test_weeks_are_built_from_adjusted_days(desk: Site, adjust: str) -> None:
    """2000-06-21 is a Wednesday: unadjusted, that week's high and open are of old shares, its low and close of new."""
    weeks = read_bars("AAPL", "1w", "2000-03-06", "2013-02-24", adjust=adjust, url=desk.url)  # type: ignore[arg-type]
    days = read_bars("AAPL", "1d", "2000-03-06", "2013-02-24", adjust=adjust, url=desk.url)  # type: ignore[arg-type]
    monday = days["session"] - pd.to_timedelta(days["session"].dt.day_of_week, unit="D")
    built = days.groupby(monday).agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    assert weeks["session"].tolist() == built.index.tolist()
    np.testing.assert_allclose(weeks[built.columns], built, rtol=1e-14)
    raw = read_bars("AAPL", "1w", "2000-06-19", "2000-06-25", url=desk.url)
    one = weeks[weeks["session"] == "2000-06-19"]
    assert raw["high"].item() == pytest.approx(103.94)
    assert one["high"].item() < one["low"].item() * 1.3
    assert raw["high"].item() > raw["low"].item() * 1.9


def test_symbols_without_splits_are_read_as_they_are(desk: Site) -> None:
    for timeframe in ("1d", "1w"):
        raw = read_bars("IBM", timeframe, "2000-03-01", "2001-03-01", url=desk.url)
        pd.testing.assert_frame_equal(
            raw, read_bars("IBM", timeframe, "2000-03-01", "2001-03-01", adjust="all", url=desk.url)
        )


@pytest.mark.parametrize("timeframe", ["1d", "1w"])
def test_features_follow_adjusted_bars_over_a_split(desk: Site, timeframe: str) -> None:
    span = ("AAPL", timeframe, "2003-01-06", "2006-01-01")
    bars = read_bars(*span, adjust="splits", url=desk.url)
    features = read_features(*span, adjust="splits", url=desk.url)
    assert features["ts"].equals(bars["ts"])
    mean = bars["close"].rolling(20).mean()
    known = mean.notna()
    np.testing.assert_allclose(features.loc[known, "sma_20"], mean[known], rtol=1e-12)
    raw_bars, raw = read_bars(*span, url=desk.url), read_features(*span, url=desk.url)
    above = (bars["close"] > features["sma_20"]).tolist()
    assert (raw_bars["close"] > raw["sma_20"]).tolist() == above, "a signal does not depend on the basis"
    entire = read_features(*span, adjust="all", url=desk.url)
    factor = entire["sma_20"] / features["sma_20"]
    assert factor.max() - factor.min() < 1e-14
    assert factor.iloc[0] < 0.99
    for feature in FEATURES:
        if not feature.price_unit:
            pd.testing.assert_series_equal(entire[feature.name], raw[feature.name])


def test_minutes_are_adjusted_by_the_sessions_they_are_in(desk: Site) -> None:
    raw = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", url=desk.url)
    splits = [Split(date(2026, 7, 30), 4.0)]
    made = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", adjust="splits", splits=splits, url=desk.url)
    assert (made[PRICES] * 4).equals(raw[PRICES])
    assert (made["volume"] / 4).equals(raw["volume"])


def test_a_close_comes_from_the_minutes_where_no_day_is_stored(payment: Site) -> None:
    add_dividend(payment, date(2026, 7, 30), 3.0)
    raw = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", url=payment.url)
    made = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", adjust="all", as_of="2026-07-30", url=payment.url)
    last = raw["close"].iloc[-1]
    assert made["close"].iloc[-1] == pytest.approx(last - 3.0, rel=1e-12)
    assert made["volume"].equals(raw["volume"])


@pytest.mark.parametrize(
    ("day", "close"),
    [
        pytest.param("2026-07-29", 300.0, id="the official close of the last session before"),
        pytest.param("2026-07-28", None, id="a later session's minutes are nearer than an older day"),
    ],
)
def test_the_newest_session_before_gives_the_close_and_its_day_before_its_minutes(
    payment: Site, day: str, close: float | None
) -> None:
    add_dividend(payment, date(2026, 7, 30), 3.0)
    raw = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", url=payment.url)
    payment.query(
        "INSERT INTO bars SELECT symbol_id, '1d', %s::timestamp AT TIME ZONE 'America/New_York', %s, 'regular',"
        " 300, 300, 300, 300, 1, NULL, NULL, true, 'told' FROM symbols WHERE symbol = 'AAPL'",
        day,
        day,
    )
    made = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", adjust="all", as_of="2026-07-30", url=payment.url)
    payment.query("DELETE FROM bars WHERE provider = 'told'")
    factor = 1 - 3 / (close or raw["close"].iloc[-1])
    assert (made["close"] / raw["close"]).tolist() == pytest.approx([factor] * len(raw), rel=1e-12)


@pytest.mark.parametrize(
    ("day", "cash", "currency", "words"),
    [
        pytest.param(
            date(2013, 4, 9),
            1.0,
            "USD",
            "AAPL: adjusted without dividend of 2013-04-09: 1 USD: no close of a session before it is stored;"
            " get the closes: backfill run --symbols AAPL --timeframes 1d --start 2013-04-02 --end 2013-04-08",
            id="no close",
        ),
        pytest.param(
            date(2012, 3, 7),
            1.0,
            "CAD",
            "AAPL: adjusted without dividend of 2012-03-07: 1 CAD is not in USD",
            id="foreign",
        ),
        pytest.param(
            date(2012, 3, 7),
            999.0,
            "USD",
            "AAPL: adjusted without dividend of 2012-03-07: 999 USD is not between 0 and the close before it, 530.26",
            id="more than the price",
        ),
    ],
)
def test_a_dividend_that_is_left_out_is_named(payment: Site, day: date, cash: float, currency: str, words: str) -> None:
    add_dividend(payment, day, cash, currency)
    span = ("AAPL", "1d", "2012-01-03", "2012-06-29")
    for read in (read_bars, read_features):
        with pytest.warns(IncompleteWarning) as seen:
            made = read(*span, adjust="all", url=payment.url)
        assert [str(warning.message) for warning in seen] == [words]
        assert seen[0].filename == __file__
        with pytest.raises(IncompleteError, match="adjusted without dividend"):
            read(*span, adjust="all", on_incomplete="raise", url=payment.url)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pd.testing.assert_frame_equal(made, read(*span, adjust="all", on_incomplete="ignore", url=payment.url))
            read(*span, adjust="splits", url=payment.url)


def test_a_payment_that_is_only_announced_is_not_known_today(payment: Site) -> None:
    before = read_bars(*SPAN, adjust="all", url=payment.url)
    add_dividend(payment, date(2100, 1, 4), 1.0)
    pd.testing.assert_frame_equal(before, read_bars(*SPAN, adjust="all", on_incomplete="raise", url=payment.url))
