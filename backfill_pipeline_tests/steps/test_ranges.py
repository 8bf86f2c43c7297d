"""Ranges of a repair as text and back; a wrong one is one line."""

from datetime import date

import pytest

from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.repairing import Stretch
from backfill_pipeline.steps.ranges import as_ranges, parse_ranges, stretched, stretches_of
from backfill_pipeline.steps.requests import BackfillRequest, RequestError

GOOD = {"symbol": "AAPL", "timeframe": "1m", "start": "2024-05-13", "end": "2024-05-17"}


def test_ranges_come_back_as_they_were() -> None:
    stretches = [
        Stretch("X:BTCUSD", "intraday", date(2024, 5, 1), date(2024, 5, 2)),
        Stretch("NO", "daily", date(2024, 1, 1), date(2024, 5, 31)),
    ]
    assert parse_ranges(as_ranges(stretches)) == stretches
    assert as_ranges(stretches)[1] == {"symbol": "NO", "timeframe": "1d", "start": "2024-01-01", "end": "2024-05-31"}


def test_a_timeframe_stands_for_its_chain() -> None:
    assert [one.chain for one in parse_ranges([GOOD | {"timeframe": "1w"}, GOOD | {"timeframe": "4h"}])] == [
        "daily",
        "intraday",
    ]


def test_a_request_is_a_range_for_each_symbol_and_chain() -> None:
    request = BackfillRequest(("A", "B"), ("1h", "5m", "1d"), date(2024, 5, 1), date(2024, 5, 2))
    assert [one.place for one in stretches_of(request)] == [
        ("A", "intraday"),
        ("A", "daily"),
        ("B", "intraday"),
        ("B", "daily"),
    ]


def test_periods_that_follow_one_another_are_one_stretch() -> None:
    week = periods_between(date(2024, 5, 13), date(2024, 5, 19), "day")
    found = stretched(("A", "intraday"), [week[6], *week[:3]])
    assert [(one.first, one.last, one.partitions) for one in found] == [
        (date(2024, 5, 13), date(2024, 5, 15), 3),
        (date(2024, 5, 19), date(2024, 5, 19), 1),
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param({"symbol": False}, "in YAML write it in quotes: 'NO'", id="NO without quotes"),
        pytest.param({"timeframe": "2h"}, "timeframe '2h' is not known; use one of 1m 5m", id="unknown timeframe"),
        pytest.param({"start": "May"}, "start 'May' is not a date; write it as 2024-03-01", id="no date"),
        pytest.param({"start": "2024-05-18"}, "range of AAPL: start 2024-05-18 is after end 2024-05-17", id="reversed"),
        pytest.param({"end": None}, "a range has no 'end'; give symbol, timeframe, start and end", id="no end"),
    ],
)
def test_a_wrong_range_is_one_line(change: dict[str, object], line: str) -> None:
    config = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(RequestError) as told:
        parse_ranges([config])
    assert line in str(told.value)
    assert "\n" not in str(told.value)
