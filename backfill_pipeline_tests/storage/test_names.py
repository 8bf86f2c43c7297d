"""What instruments are called, as the tables keep it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.names import ANY_PROVIDER, EVER, Name
from backfill_pipeline.storage.names import (
    NameTakenError,
    describe,
    last_session,
    other_holders,
    read_identity,
    read_lifetime,
    read_names,
    rename_symbol,
    resolver,
    tickers,
    write_identity,
    write_lifetime,
    write_names,
)
from backfill_pipeline.storage.symbols import add_symbol, get_instruments, remove_symbol
from backfill_pipeline_tests.storage.stored import NOW, migrated, rows

ON = date(2022, 6, 9)
DAY = timedelta(days=1)
FB = Name(1, "polygon", "FB", EVER, ON - DAY)
META = Name(1, "polygon", "META", ON)
YEAR = (date(2022, 1, 1), date(2022, 12, 31))


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """With META (1) and METV (2) registered."""
    with migrated(database_url) as connection:
        with connection:
            for symbol in ("META", "METV"):
                add_symbol(connection, symbol, "stock", "XNYS")
        yield connection


def state(conn: Connection, *names: Name) -> bool:
    with conn:
        return write_names(conn, names[0].symbol_id, names[0].provider, names)


def test_what_is_stated_is_read_back_and_writing_it_again_is_no_news(conn: Connection) -> None:
    by_hand = Name(2, ANY_PROVIDER, "NA", date(2020, 1, 1), date(2020, 1, 1), by_hand=True)
    assert state(conn, FB, META)
    assert state(conn, by_hand)
    before = rows(conn, "SELECT ctid, xmin::text FROM symbol_names ORDER BY 1")
    assert not state(conn, FB, META)
    assert read_names(conn) == [FB, META, by_hand]
    assert read_names(conn, 2) == [by_hand]
    assert rows(conn, "SELECT ctid, xmin::text FROM symbol_names ORDER BY 1") == before
    assert rows(conn, "SELECT valid_from::text, valid_to::text FROM symbol_names WHERE ticker IN ('FB', 'META')") == [
        ("-infinity", "2022-06-08"),
        ("2022-06-09", None),
    ]
    assert state(conn, META)
    assert read_names(conn, 1) == [META]


def test_tickers_are_those_of_the_period_asked_for(conn: Connection) -> None:
    state(conn, FB, META)
    assert tickers(conn, 1, "polygon", *YEAR, "META") == [("FB", YEAR[0], ON - DAY), ("META", ON, YEAR[1])]
    assert tickers(conn, 1, "tradier", *YEAR, "META") == [("META", *YEAR)]
    assert tickers(conn, 2, "polygon", *YEAR, "METV") == [("METV", *YEAR)]


def test_days_on_which_the_symbol_was_another_s_ticker_are_in_no_piece(conn: Connection) -> None:
    """A fund had META before Facebook did."""
    for provider in ("polygon", ANY_PROVIDER):
        state(conn, Name(2, provider, "META", EVER, date(2022, 1, 30)), Name(2, provider, "METV", date(2022, 1, 31)))
        assert tickers(conn, 1, "polygon", *YEAR, "META") == [("META", date(2022, 1, 31), YEAR[1])]
    state(conn, Name(1, "tradier", "META"))
    assert tickers(conn, 1, "tradier", *YEAR, "META") == [("META", *YEAR)], "what is stated goes before"


def test_the_resolver_knows_whose_a_ticker_is_on_a_day(conn: Connection) -> None:
    state(conn, FB, META)
    with conn:
        write_lifetime(conn, 2, date(2021, 6, 30), date(2022, 5, 31), "polygon")
    whose = resolver(conn, "polygon")
    assert [whose("FB", ON - DAY), whose("FB", ON), whose("META", ON), whose("META", ON - DAY)] == [1, None, 1, None]
    assert [whose("METV", day) for day in (date(2021, 6, 29), date(2021, 6, 30), date(2022, 6, 1))] == [None, 2, None]
    assert whose("meta", ON) is None, "tickers are case-sensitive"
    assert resolver(conn, "tradier")("META", ON - DAY) == 1


def test_a_ticker_of_another_instrument_is_refused_in_words(conn: Connection) -> None:
    state(conn, FB, META)
    with pytest.raises(NameTakenError) as error:
        state(conn, Name(2, "polygon", "FB", date(2022, 6, 8)))
    assert str(error.value) == "FB is META's ticker to 2022-06-08 at polygon"
    assert state(conn, Name(2, "polygon", "FB", ON)), "a ticker that is free may be given to another"
    assert state(conn, Name(2, "tradier", "FB")), "each provider has its own tickers"
    assert [(symbol, name.ticker) for symbol, name in other_holders(conn, 1, "FB")] == [("METV", "FB")] * 2
    assert [name for _, name in other_holders(conn, None, "META")] == [META]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param((1, "polygon", "X", "2022-06-08", None), id="a second name of a day"),
        pytest.param((2, "polygon", "FB", "2022-06-08", None), id="a second instrument of a ticker"),
    ],
)
def test_the_database_itself_holds_a_day_to_one_name_and_one_instrument(conn: Connection, wrong: tuple[object]) -> None:
    state(conn, FB, META)
    with pytest.raises(psycopg2.errors.ExclusionViolation):
        rows(conn, "INSERT INTO symbol_names VALUES (%s, %s, %s, %s, %s, false)", *wrong)


def test_periods_are_described_for_people() -> None:
    assert describe(FB) == "to 2022-06-08 at polygon"
    assert describe(Name(1, ANY_PROVIDER, "META", ON)) == "from 2022-06-09 until now"


def test_an_identity_that_is_known_stays_while_the_last_look_moves_on(conn: Connection) -> None:
    assert read_identity(conn, 1, "polygon") is None
    for told, known in ((None, None), ("BBG1", "BBG1"), (None, "BBG1"), ("BBG2", "BBG1")):
        with conn:
            write_identity(conn, 1, "polygon", told, NOW)
        assert read_identity(conn, 1, "polygon") == (known, NOW)


def test_a_renamed_symbol_keeps_its_id_and_its_lifetime(conn: Connection) -> None:
    with conn:
        write_lifetime(conn, 1, ON, None, "polygon")
        rename_symbol(conn, 1, "MVRS")
    assert get_instruments(conn, ["MVRS"])["MVRS"].symbol_id == 1
    assert read_lifetime(conn, 1) == (ON, None, "polygon")
    assert last_session(conn, 1) is None


def test_what_is_removed_with_its_bars_leaves_its_ticker_to_others(conn: Connection) -> None:
    state(conn, FB, META)
    with conn:
        write_identity(conn, 1, "polygon", "BBG1", NOW)
        remove_symbol(conn, "META", with_bars=True)
    assert read_names(conn) == []
    assert state(conn, Name(2, "polygon", "FB"))
