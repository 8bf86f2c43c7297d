"""A person says what an instrument is called: checked words, and what they state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.names import EVER, FOREVER, Name
from backfill_pipeline.steps.rename import Alias, Rename, parse_alias, parse_rename, state_alias, state_rename
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.storage.names import read_names, tickers, write_lifetime, write_names
from backfill_pipeline.storage.symbols import UnknownSymbolError, add_symbol, get_instruments
from backfill_pipeline_tests.storage.stored import migrated

TODAY = date(2024, 6, 3)
ON = date(2022, 6, 9)
DAY = timedelta(days=1)
USED = ("polygon", "tradier")


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """With FB (1) and AAPL (2) registered."""
    with migrated(database_url) as connection:
        with connection:
            for symbol in ("FB", "AAPL"):
                add_symbol(connection, symbol, "stock", "XNYS")
        yield connection


def rename(conn: Connection, old: str, new: str, on: date = ON, provider: str = "*") -> None:
    with conn:
        state_rename(conn, Rename(old, new, on, provider))


def called(conn: Connection, provider: str, symbol: str) -> list[tuple[str, date, date]]:
    return tickers(conn, 1, provider, EVER, FOREVER, symbol)


META = [("FB", EVER, ON - DAY), ("META", ON, FOREVER)]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param({"new": "FB"}, "FB is called so already; give another name", id="the same"),
        pytest.param({"new": "A|B"}, "symbol 'A|B' holds '|'", id="no symbol"),
        pytest.param({"on": "June"}, "on 'June' is not a date; write it as 2024-03-01", id="no date"),
        pytest.param({"on": "2024-06-04"}, "on 2024-06-04 is not between 1990-01-01", id="future"),
        pytest.param({"on": "1989-12-31"}, "on 1989-12-31 is not between 1990-01-01", id="before calendars"),
        pytest.param({"provider": "poly"}, "provider 'poly' is not in use; use one of polygon, tradier", id="provider"),
    ],
)
def test_a_wrong_rename_is_one_line(change: dict[str, str], line: str) -> None:
    words: dict[str, str | None] = {"old": "FB", "new": "META", "on": "2022-06-09", "provider": None, **change}
    with pytest.raises(RequestError) as error:
        parse_rename(**words, providers=USED, today=TODAY)  # type: ignore[arg-type]  # by name
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param({"ticker": ""}, "symbol '' must have 1 to 64 characters", id="no ticker"),
        pytest.param({"provider": "*"}, "provider '*' is not in use; use one of polygon, tradier", id="every provider"),
        pytest.param({"first": "2024-06-04", "last": "2024-06-03"}, "from 2024-06-04 is after to", id="reversed"),
        pytest.param({"last": "now"}, "to 'now' is not a date", id="no date"),
    ],
)
def test_a_wrong_alias_is_one_line(change: dict[str, str], line: str) -> None:
    words = {"symbol": "BRK/B", "provider": "polygon", "ticker": "BRK.B", "first": None, "last": None, **change}
    with pytest.raises(RequestError) as error:
        parse_alias(**words, providers=USED)  # type: ignore[arg-type]  # by name
    assert str(error.value).startswith(line)


def test_good_words_are_taken_as_they_are() -> None:
    assert parse_rename("FB", "META", "2022-06-09", None, providers=USED, today=ON) == Rename("FB", "META", ON)
    assert parse_alias("BRK/B", "polygon", "BRK.B", None, "2022-06-09", providers=USED) == Alias(
        "BRK/B", "polygon", "BRK.B", EVER, ON
    )


def test_every_provider_knows_a_renamed_symbol_by_the_name_of_the_time(conn: Connection) -> None:
    rename(conn, "FB", "META")
    assert get_instruments(conn, ["META"])["META"].symbol_id == 1
    for provider in USED:
        assert called(conn, provider, "META") == META


def test_renamed_twice_has_three_names(conn: Connection) -> None:
    rename(conn, "FB", "META")
    rename(conn, "META", "MVRS", date(2024, 1, 2))
    assert called(conn, "polygon", "MVRS") == [
        META[0],
        ("META", ON, date(2024, 1, 1)),
        ("MVRS", date(2024, 1, 2), FOREVER),
    ]


def test_a_provider_that_states_its_own_names_has_the_new_one_from_the_day(conn: Connection) -> None:
    with conn:
        write_names(conn, 1, "polygon", [Name(1, "polygon", "FB", date(2012, 5, 18))])
        write_names(conn, 1, "tradier", [Name(1, "tradier", "FB.US", EVER, FOREVER, by_hand=True)])
    rename(conn, "FB", "META")
    assert called(conn, "polygon", "META") == META
    assert called(conn, "tradier", "META") == [("FB.US", EVER, FOREVER)], "spelt otherwise, and nobody said it changed"
    assert [name.by_hand for name in read_names(conn) if name.provider == "polygon"] == [False, True]


def test_one_provider_alone_may_keep_the_old_name_for_the_old_days(conn: Connection) -> None:
    with conn:
        write_names(conn, 1, "binance", [Name(1, "binance", "FB")])
    rename(conn, "FB", "META", provider="polygon")
    assert called(conn, "polygon", "META") == META
    assert called(conn, "tradier", "META") == [("META", EVER, FOREVER)]
    assert called(conn, "binance", "META") == [("FB", EVER, FOREVER)]


def test_an_instrument_is_not_called_anything_before_it_was_listed(conn: Connection) -> None:
    """So that a ticker's former holder keeps its days."""
    with conn:
        write_names(conn, 2, "*", [Name(2, "*", "FB", EVER, date(2005, 1, 3)), Name(2, "*", "AAPL", date(2005, 1, 4))])
        write_lifetime(conn, 1, date(2012, 5, 18), None, "polygon")
    rename(conn, "FB", "META")
    assert called(conn, "polygon", "META") == [("FB", date(2012, 5, 18), ON - DAY), META[1]]


@pytest.mark.parametrize(
    ("act", "error", "line"),
    [
        pytest.param(
            lambda conn: rename(conn, "FB", "AAPL"),
            RequestError,
            "AAPL is registered already, as an instrument of its own; give another name, or remove it",
            id="a new name that is registered",
        ),
        pytest.param(
            lambda conn: rename(conn, "FBB", "META"),
            UnknownSymbolError,
            "symbol FBB not registered; add: backfill symbols add FBB",
            id="an unknown symbol",
        ),
        pytest.param(
            lambda conn: rename(conn, "FB", "META", date(2012, 5, 18)),
            RequestError,
            "on 2012-05-18 is not after 2012-05-18, the first day of FB",
            id="before its first day",
        ),
        pytest.param(
            lambda conn: rename(conn, "FB", "APC"),
            RequestError,
            "FB is not renamed: APC is AAPL's ticker until now",
            id="a name another has",
        ),
        pytest.param(
            lambda conn: state_alias(conn, Alias("FB", "polygon", "AAPL")),
            RequestError,
            "AAPL is registered already",
            id="an alias that is another symbol",
        ),
        pytest.param(
            lambda conn: state_alias(conn, Alias("FB", "*", "APC", ON, ON)),
            RequestError,
            "FB is not called so: APC is AAPL's ticker until now",
            id="an alias another has",
        ),
    ],
)
def test_what_cannot_be_so_is_one_line_and_changes_nothing(
    conn: Connection, act: Callable[[Connection], None], error: type[Exception], line: str
) -> None:
    apc = Name(2, "*", "APC", by_hand=True)
    with conn:
        write_names(conn, 2, "*", [apc])
        write_lifetime(conn, 1, date(2012, 5, 18), None, "polygon")
    with pytest.raises(error) as caught:
        act(conn)
    assert str(caught.value).startswith(line)
    conn.rollback()
    assert read_names(conn) == [apc]
    assert set(get_instruments(conn, ["FB", "AAPL"])) == {"FB", "AAPL"}


def test_an_alias_replaces_what_was_stated_of_its_days_and_no_more(conn: Connection) -> None:
    for wish in (
        Alias("FB", "polygon", "FB.OLD"),
        Alias("FB", "polygon", "FB.NEW", ON),
        Alias("FB", "polygon", "FB.NEW", ON),
        Alias("FB", "polygon", "FB", ON + 9 * DAY, ON + 9 * DAY),
    ):
        with conn:
            state_alias(conn, wish)
    assert called(conn, "polygon", "FB") == [
        ("FB.OLD", EVER, ON - DAY),
        ("FB.NEW", ON, ON + 8 * DAY),
        ("FB", ON + 9 * DAY, ON + 9 * DAY),
        ("FB.NEW", ON + 10 * DAY, FOREVER),
    ]
    assert called(conn, "tradier", "FB") == [("FB", EVER, FOREVER)]


def test_an_alias_may_be_a_symbol_that_was_once_its_own(conn: Connection) -> None:
    """GOOGL was called GOOG until 2014-04-02; both are followed."""
    with conn:
        state_alias(conn, Alias("FB", "polygon", "AAPL", EVER, ON))
    assert called(conn, "polygon", "FB") == [("AAPL", EVER, ON), ("FB", ON + DAY, FOREVER)]
    assert tickers(conn, 2, "polygon", ON, ON + DAY, "AAPL") == [("AAPL", ON + DAY, ON + DAY)]
