"""The registry and the lock that everybody who works on a symbol takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import date

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.storage.bars import write_bars
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.rows import Key
from backfill_pipeline.storage.symbols import (
    Registered,
    UnknownSymbolError,
    add_symbol,
    get_instruments,
    list_symbols,
    remove_symbol,
    symbol_lock,
)
from backfill_pipeline_tests.storage.stored import NOW, START, as_bars, migrated, rows, values

ODD = ["NA", "TRUE", "1e5", "KIMpL", "kimPL", "BRK.B", "X:BTC/USD", "O'Neill", 'a"b', "%s", "Ünï", "a\\b", "NULL"]


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        yield connection


def test_no_name_is_taken_for_anything_else(conn: Connection) -> None:
    with conn:
        assert all(add_symbol(conn, symbol, "stock", "XNYS") for symbol in ODD)
        assert not any(add_symbol(conn, symbol, "crypto", "24/7") for symbol in ODD)
    assert list(get_instruments(conn, ODD[::-1])) == ODD[::-1]
    assert {instrument.asset_class for instrument in get_instruments(conn, ODD).values()} == {"stock"}


def test_unknown_symbols_are_all_named_with_the_command_that_adds_them(conn: Connection) -> None:
    with conn:
        add_symbol(conn, "A", "stock", "XNYS")
    with pytest.raises(UnknownSymbolError) as error:
        get_instruments(conn, ["B", "A", "a"])
    assert str(error.value) == "symbols B, a not registered; add: backfill symbols add B a"
    assert error.value.symbols == ("B", "a")
    assert get_instruments(conn, []) == {}


def test_the_list_is_by_priority_and_knows_which_bars_are_wanted(conn: Connection) -> None:
    with conn:
        for symbol in ("B", "A", "C"):
            add_symbol(conn, symbol, "etf", "XNYS", first_date=date(2020, 1, 1), last_date=date(2021, 1, 1))
        rows(conn, "UPDATE symbols SET priority = 1 WHERE symbol = 'C'")
        for base in ("1m", "1d"):
            want(conn, 1, base, Window(START, START + 1))
            want(conn, 1, base, Window(START + 5, START + 6))
    with conn:
        remove_symbol(conn, "A", with_bars=False)
    lifetime = (date(2020, 1, 1), date(2021, 1, 1))
    assert list_symbols(conn) == [
        Registered(Instrument(3, "C", "etf", "XNYS", *lifetime), True, 1, ()),  # noqa: FBT003
        Registered(Instrument(2, "A", "etf", "XNYS", *lifetime), False, 100, ()),  # noqa: FBT003
        Registered(Instrument(1, "B", "etf", "XNYS", *lifetime), True, 100, ("1m", "1d")),  # noqa: FBT003
    ]


def test_removing_with_bars_leaves_nothing_of_the_symbol_and_all_of_the_others(conn: Connection) -> None:
    with conn:
        for i, symbol in enumerate(("A", "B"), start=1):
            add_symbol(conn, symbol, "stock", "XNYS")
            want(conn, i, "1m", Window(START, START + 1))
            key = Key(i, "1m", Window(START, START + 10**12))
            for seed in (1, 2):
                write_bars(conn, key, as_bars({0: values(seed)}), "p", now=NOW, keep_revisions=True)
    with conn:
        assert remove_symbol(conn, "A", with_bars=False) == 0
        assert remove_symbol(conn, "A", with_bars=True) == 2
        with pytest.raises(UnknownSymbolError):
            remove_symbol(conn, "A", with_bars=True)
    for table in ("symbols", "bars", "bar_revisions", "wanted"):
        assert rows(conn, f"SELECT DISTINCT symbol_id FROM {table}") == [(2,)]


def _is_free(url: str, symbol_id: int, number: int = 1) -> bool:
    with closing(connect(url)) as other:
        return bool(rows(other, "SELECT pg_try_advisory_lock(%s, %s)", number, symbol_id)[0][0])


def test_the_lock_keeps_others_out_of_one_chain_of_one_symbol(database_url: str, conn: Connection) -> None:
    with symbol_lock(conn, 7, "1m"):
        assert not _is_free(database_url, 7)
        assert _is_free(database_url, 8)
        assert _is_free(database_url, 7, number=2)
        assert conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    assert _is_free(database_url, 7)


def test_the_lock_is_given_back_when_the_work_fails_and_when_its_transaction_is_broken(
    database_url: str, conn: Connection
) -> None:
    with pytest.raises(psycopg2.errors.UndefinedTable), symbol_lock(conn, 7, "1m"):
        rows(conn, "SELECT * FROM nowhere")
    assert _is_free(database_url, 7)


def test_the_second_waits_for_the_first(database_url: str, conn: Connection) -> None:
    order: list[str] = []

    def second() -> None:
        with closing(connect(database_url)) as other, symbol_lock(other, 7, "1d"):
            order.append("second")

    with symbol_lock(conn, 7, "1d"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_an_error_that_ends_the_connection_is_not_hidden_by_the_lock(database_url: str, conn: Connection) -> None:
    with pytest.raises(psycopg2.OperationalError), symbol_lock(conn, 7, "1m"):
        rows(conn, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert _is_free(database_url, 7)
