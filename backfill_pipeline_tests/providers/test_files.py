"""Flat files in a folder: what is served, read once for all, and left unanswered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import to_micros, union
from backfill_pipeline.providers.base import MarketProvider
from backfill_pipeline.providers.errors import NeverServed, ProviderStopped
from backfill_pipeline.providers.files import FilesProvider
from backfill_pipeline_tests.providers.flat_folders import (
    FIRST,
    LAST,
    MARKET,
    ODD,
    SESSIONS,
    TIMEFRAMES,
    file_of,
    known,
    rewrite,
    stock,
    whole_market,
    window_start,
    write_odd,
)
from backfill_pipeline_tests.providers.polygons import AAPL, BITCOIN, CRYPTO, NOW, XNYS, asking, hear, same
from backfill_pipeline_tests.standin import write_flat_files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_odd(tmp_path_factory.mktemp("flat_files"))


@pytest.fixture
def folder(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "flat_files"))


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
@pytest.mark.parametrize("symbol", ODD)
def test_every_ticker_is_the_text_that_it_is(folder: Path, symbol: str, timeframe: Base) -> None:
    heard = hear(FilesProvider(folder), asking(FIRST, LAST, timeframe, stock(symbol)))
    assert heard.error is None
    assert same(heard.raw, known(symbol, timeframe))
    assert len(heard.stored) == (4 * 960 if timeframe == "1m" else 4)
    assert heard.refused == ()
    assert heard.answered == [heard.request.window]
    assert heard.notes == []


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_a_whole_market_day_is_read_once_for_all(folder: Path, timeframe: Base) -> None:
    of: MarketProvider = FilesProvider(folder)
    assert isinstance(of, MarketProvider)
    answers = of.fetch_market(whole_market(timeframe, FIRST, *ODD, "NOTHERE"), NOW)
    assert set(answers) == {*ODD, "NOTHERE"}
    for symbol in ODD:
        assert same(answers[symbol].bars, known(symbol, timeframe, [FIRST]))
    day = XNYS.days_window(FIRST, FIRST)
    assert all(answer.answered == (day,) and answer.note == "" for answer in answers.values())
    assert len(answers["NOTHERE"].bars) == 0


def test_one_by_one_and_all_at_once_agree_and_again(folder: Path) -> None:
    of = FilesProvider(folder)
    for day in SESSIONS:
        answers = of.fetch_market(whole_market("1m", day, "AAPL"), NOW)
        for _ in range(2):
            assert same(hear(of, asking(day, day)).raw, answers["AAPL"].bars)


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
@pytest.mark.parametrize(
    ("days", "starts"),
    [
        pytest.param((date(2024, 3, 8), date(2024, 3, 11)), (5, 4), id="clocks go forward"),
        pytest.param((date(2024, 11, 1), date(2024, 11, 4)), (4, 5), id="clocks go back"),
    ],
)
def test_days_start_at_midnight_in_new_york_in_summer_and_winter(
    tmp_path: Path, days: tuple[date, date], starts: tuple[int, int], timeframe: Base
) -> None:
    write_flat_files(tmp_path, MARKET, ["AAPL"], days)
    heard = hear(FilesProvider(tmp_path), asking(*days, timeframe))
    assert same(heard.stored, known("AAPL", timeframe, days))
    first_hours = [hour if timeframe == "1d" else hour + 4 for hour in starts]
    for day, hour in zip(days, first_hours, strict=True):
        assert to_micros(datetime(day.year, day.month, day.day, hour, tzinfo=UTC)) in heard.stored.ts
    assert heard.answered == [heard.request.window]


def test_a_days_bar_is_labelled_by_the_day_asked_and_not_by_its_row(folder: Path) -> None:
    rewrite(file_of(folder, FIRST, "1d"), lambda text: text.replace(window_start(FIRST), window_start(FIRST, hours=16)))
    bars = FilesProvider(folder).fetch_market(whole_market("1d", FIRST, "AAPL"), NOW)["AAPL"].bars
    assert bars.ts.tolist() == [XNYS.days_window(FIRST, FIRST).start]


def test_a_day_is_due_at_eleven_in_new_york_the_next_day() -> None:
    due = FilesProvider.settle.due_at(XNYS)
    for day, hour in ((date(2026, 8, 5), 15), (date(2026, 1, 6), 16)):
        row = XNYS.rows_between(day, day).start
        assert due[row] == to_micros(datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(days=1))
    assert not FilesProvider.live


def test_served_is_from_the_first_file_to_the_last(folder: Path) -> None:
    write_flat_files(folder, MARKET, ["AAPL"], [date(2003, 9, 10), date(2026, 8, 5)], ["day"])
    root = folder / "us_stocks_sip/day_aggs_v1"
    for stray in ("2001/01/notes.txt", "2027/01/2027-01-04.csv.gz.part", "2027/02/2027-03-01.csv.gz", "latest"):
        (root / stray).parent.mkdir(parents=True, exist_ok=True)
        (root / stray).touch()
    of = FilesProvider(folder)
    served = of.served(AAPL, "1d", XNYS)
    assert served.window == XNYS.days_window(date(2003, 9, 10), date(2026, 8, 5))
    assert served.reason == "files has 2003-09-10 to 2026-08-05 in us_stocks_sip/day_aggs_v1"
    assert of.served(AAPL, "1m", XNYS).window == XNYS.days_window(FIRST, LAST)


def test_the_folder_is_looked_at_once_a_minute(folder: Path) -> None:
    now = 0.0
    of = FilesProvider(folder, clock=lambda: now)
    before = of.served(AAPL, "1m", XNYS)
    write_flat_files(folder, MARKET, ["AAPL"], [date(2026, 8, 4)])
    assert of.served(AAPL, "1m", XNYS) == before
    now = 60.0
    assert of.served(AAPL, "1m", XNYS).window == XNYS.days_window(FIRST, date(2026, 8, 4))


@pytest.mark.parametrize("instrument", [BITCOIN, Instrument(4, "C:EURUSD", "stock", "XNYS")])
def test_only_us_stocks_are_served(folder: Path, instrument: Instrument) -> None:
    of = FilesProvider(folder)
    sessions = CRYPTO if instrument.asset_class == "crypto" else XNYS
    assert of.served(instrument, "1m", sessions).window is None
    assert of.market(instrument, "1m") is None
    assert isinstance(hear(of, asking(FIRST, LAST, "1m", instrument)).error, NeverServed)
    with pytest.raises(NeverServed):
        of.fetch_market(replace(whole_market("1m", FIRST, "AAPL"), market="crypto"), NOW)


@pytest.mark.parametrize("symbol", ["AAPL", "SPY"])
@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_stocks_and_funds_of_new_york_come_together(folder: Path, symbol: str, timeframe: Base) -> None:
    instrument = Instrument(1, symbol, "etf" if symbol == "SPY" else "stock", "XNYS")
    of = FilesProvider(folder)
    assert of.market(instrument, timeframe) == "us_stocks_sip"
    assert of.page_rows(timeframe) is None
    assert of.expected_wait(1000) == 0
    assert of.lifetime(symbol) is None


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_a_session_without_a_file_stays_unanswered_and_is_named(folder: Path, timeframe: Base) -> None:
    gone = file_of(folder, SESSIONS[1], timeframe)
    gone.unlink()
    of = FilesProvider(folder)
    heard = hear(of, asking(FIRST, LAST, timeframe))
    name = str(gone.relative_to(folder))
    assert heard.error is None
    assert heard.notes == [f"files: {name} is missing"]
    # The weekend belongs to the Friday before it.
    answered = [XNYS.days_window(FIRST, FIRST), XNYS.days_window(date(2026, 7, 31), LAST)]
    assert heard.answered == union(answered)
    assert len(heard.stored) == 3 * (960 if timeframe == "1m" else 1)
    answer = of.fetch_market(whole_market(timeframe, SESSIONS[1], "AAPL"), NOW)["AAPL"]
    assert (len(answer.bars), answer.answered, answer.note) == (0, (), f"files: {name} is missing")
    write_flat_files(folder, MARKET, ODD, [SESSIONS[1]])
    assert hear(of, asking(FIRST, LAST, timeframe)).answered == [heard.request.window]


def test_many_missing_files_are_one_note(folder: Path) -> None:
    heard = hear(FilesProvider(folder), asking(date(2026, 7, 1), LAST))
    assert heard.notes == ["files: us_stocks_sip/minute_aggs_v1/2026/07/2026-07-01.csv.gz is missing and 18 more"]


def test_a_folder_that_is_not_there_stops_and_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, why in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path / "file", "Not a directory")):
        of = FilesProvider(place)
        heard = hear(of, asking(FIRST, LAST))
        assert type(heard.error) is ProviderStopped
        assert str(heard.error) == f"files: {place}: {why}; correct BACKFILL_FILES, or what is there"
        with pytest.raises(ProviderStopped):
            of.fetch_market(whole_market("1d", FIRST, "AAPL"), NOW)
        # What is wanted is not cut to nothing by a drive that is not mounted: asking is what tells.
        served = of.served(AAPL, "1m", XNYS)
        assert served.window is not None
        assert served.reason == str(heard.error)


def test_a_folder_without_files_serves_nothing_and_says_where_it_looked(tmp_path: Path) -> None:
    served = FilesProvider(tmp_path).served(AAPL, "1m", XNYS)
    assert (served.window, served.reason) == (None, "files has no day file in us_stocks_sip/minute_aggs_v1")


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(folder: Path) -> None:
    loop = folder / "us_stocks_sip/minute_aggs_v1/2019"
    loop.symlink_to(loop)
    served = FilesProvider(folder).served(AAPL, "1m", XNYS)
    assert served.window is not None
    assert served.reason.startswith(f"files: {loop}: Too many levels of symbolic links")
