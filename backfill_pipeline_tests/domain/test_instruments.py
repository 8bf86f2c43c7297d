"""Which texts may be a symbol: tickers that look like numbers, nulls or paths are; what keys are cut at is not."""

import pytest

from backfill_pipeline.domain.instruments import check_symbol, default_calendar


@pytest.mark.parametrize(
    "text",
    [
        *("AAPL", "BRK.B", "BRK/B", "BRK-B", "CpL.CL", "KIMpL", "X:BTCUSD", "BP.", "A..B", "^GSPC", "ES=F"),
        *("NA", "NAN", "TRUE", "NO", "null", "1e5", "000660"),
        *("../../etc", "%2F", "x';DROP", "a" * 64),
    ],
)
def test_a_ticker_is_taken_as_it_is_written(text: str) -> None:
    assert check_symbol(text) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("A|B", r"'A\|B' holds '\|'", id="pipe"),
        pytest.param("A,B", "'A,B' holds ','", id="comma"),
        pytest.param("A...B", r"'A...B' holds '\.\.\.'", id="range dots"),
        pytest.param("....", r"holds '\.\.\.'", id="four dots"),
        pytest.param("A B", "'A B' holds a space", id="space"),
        pytest.param(" A", "' A' holds a space", id="leading space"),
        pytest.param("A\n", r"'A\\n' holds a space or an unprintable", id="newline"),
        pytest.param("A\u00a0B", "holds a space or an unprintable", id="no-break space"),
        pytest.param("A\x00", "holds a space or an unprintable", id="NUL"),
        pytest.param("A\u200b", "holds a space or an unprintable", id="zero-width space"),
        pytest.param("\ud800", "holds a space or an unprintable", id="lone surrogate"),
        pytest.param("", "must have 1 to 64 characters", id="empty"),
        pytest.param("a" * 65, "must have 1 to 64 characters", id="long"),
    ],
)
def test_a_text_that_cannot_be_a_partition_key_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_symbol(text)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        pytest.param(False, "symbol False is a bool, not text; in YAML write it in quotes", id="YAML NO"),
        pytest.param(100000.0, "symbol 100000.0 is a float", id="YAML 1e5"),
        pytest.param(660, "symbol 660 is a int", id="YAML 000660"),
        pytest.param(None, "symbol None is a NoneType", id="YAML null"),
        pytest.param(b"AAPL", "symbol b'AAPL' is a bytes", id="bytes"),
    ],
)
def test_what_a_parser_turned_into_something_else_is_refused_with_the_cure(value: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_symbol(value)


def test_crypto_trades_round_the_clock_and_stocks_in_new_york() -> None:
    assert default_calendar("BTCUSDT", "crypto") == "24/7"
    assert default_calendar("X:BTCUSD", "stock") == "24/7"
    assert default_calendar("BRK.B", "stock") == "XNYS"
    assert default_calendar("SPY", "etf") == "XNYS"
