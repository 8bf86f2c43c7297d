"""What a person may ask for, and the one line that answers what they may not."""

from __future__ import annotations

from datetime import date

import pytest

from backfill_pipeline.steps.requests import BackfillRequest, RequestError, parse_date, parse_request

TODAY = date(2024, 5, 15)


def _parse(
    symbols: object = ("AAPL",),
    timeframes: object = ("1d",),
    days: int | None = None,
    start: str | None = None,
    end: str | None = None,
) -> BackfillRequest:
    return parse_request(symbols, timeframes, days=days, start=start, end=end, today=TODAY)  # type: ignore[arg-type]  # some are wrong on purpose


def test_the_last_days_include_today() -> None:
    assert (_parse(days=1).start, _parse(days=1).end) == (TODAY, TODAY)
    assert (_parse(days=30).start, _parse(days=30).end) == (date(2024, 4, 16), TODAY)


def test_start_and_end_are_both_included_and_repetitions_count_once() -> None:
    request = _parse(("BRK.B", "NA", "1e5", "BRK.B"), ("1h", "1d", "1h"), start="2024-02-29", end="2024-05-15")
    assert request == BackfillRequest(("BRK.B", "NA", "1e5"), ("1h", "1d"), date(2024, 2, 29), TODAY)
    assert [chain.name for chain in request.chains] == ["intraday", "daily"]
    assert [chain.name for chain in _parse(timeframes=("1w",), days=1).chains] == ["daily"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give days, or both start and end, as in 2024-03-01"),
        ({"start": "2024-01-01"}, "give days, or both start and end, as in 2024-03-01"),
        ({"days": 3, "end": "2024-01-01"}, "give either days or start and end, not both"),
        ({"days": 0}, "days is 0; give 1 or more"),
        ({"days": 10**9}, "days is 1000000000; give 12554 at most: calendars start 1990-01-01"),
        ({"start": "1989-12-31", "end": "2024-01-01"}, "start 1989-12-31 is before 1990-01-01"),
        ({"start": "2024-05-02", "end": "2024-05-01"}, "start 2024-05-02 is after end 2024-05-01; swap them"),
        ({"start": "2024-05-02", "end": "2024-05-16"}, "end 2024-05-16 is in the future; today is 2024-05-15 (UTC)"),
        ({"start": "01.05.2024", "end": "2024-05-16"}, "start '01.05.2024' is not a date; write it as 2024-03-01"),
        ({"days": 1, "symbols": ()}, "0 symbols given; give 1 to 100"),
        ({"days": 1, "symbols": [f"S{i}" for i in range(101)]}, "101 symbols given; give 1 to 100"),
        ({"days": 1, "symbols": (False,)}, "symbol False is a bool, not text"),
        ({"days": 1, "symbols": ("A|B",)}, "holds '|'"),
        ({"days": 1, "timeframes": ()}, "no timeframes given; give one or more of 1m 5m 15m 30m 1h 4h 1d 1w"),
        ({"days": 1, "timeframes": ("2h",)}, "timeframe '2h' is not known; use one of 1m 5m"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as error:
        _parse(**arguments)  # type: ignore[arg-type]  # by name
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_longest_possible_request_is_accepted() -> None:
    assert _parse(days=12554).start == date(1990, 1, 1)


def test_a_date_object_is_a_date_too() -> None:
    assert parse_date("start", TODAY) == TODAY
