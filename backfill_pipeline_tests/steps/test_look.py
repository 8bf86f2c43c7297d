"""Damage done by another hand is found, shown as missing, and made good: by the look itself or by the next run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.steps.look import look
from backfill_pipeline.steps.looked import Lacking, Looked
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.looks import last_look
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import database
from backfill_pipeline_tests.steps.absences import disagreeing
from backfill_pipeline_tests.steps.warehouses import Exchange, at, backfill, both_chains, empty, listed, opened, query
from backfill_pipeline_tests.steps.week import FRI, LATER, MON, THU, TUE, WED
from backfill_pipeline_tests.tables import Tables, differences, tables

WEEK = (MON, TUE, WED, THU, FRI)
NEXT_DAY = LATER + timedelta(days=1)
MINUTES = "timeframe = '1m' AND session = '2024-05-08'"
ONE = f"{MINUTES} AND ts = '2024-05-08 15:00Z'"
DAY = "timeframe = '1d' AND session = '2024-05-08'"
COPIED = (
    "INSERT INTO bars SELECT symbol_id, timeframe, ts + interval '{}', session, segment, open, high, low, close,"
    " volume, vwap, trades, final, provider FROM bars WHERE " + ONE
)


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange().trade(WEEK).trade([WED], extended=True)


@pytest.fixture(scope="module")
def warehouse(server: EmbeddedServer, exchange: Exchange) -> Iterator[Warehouse]:
    """A complete week of ABC; every test leaves it as it was."""
    with database(server) as url, opened(url, exchange, LATER) as made:
        both_chains(made, listed(made), MON, FRI)
        yield made


@pytest.fixture(scope="module")
def clean(warehouse: Warehouse) -> Tables:
    return tables(warehouse.conn)


@pytest.fixture(autouse=True)
def _left_clean(warehouse: Warehouse, clean: Tables) -> Iterator[None]:
    yield
    left = differences(tables(warehouse.conn), clean) + disagreeing(warehouse)
    if left:  # the next test starts from a complete week all the same
        empty(warehouse)
        both_chains(warehouse, listed(warehouse), MON, FRI)
    assert left == []


def found(looked: Looked) -> list[tuple[str, str, date, date, int]]:
    return [(one.chain, one.kind, one.first, one.last, one.sessions) for one in looked.findings]


def missing(warehouse: Warehouse, timeframe: str) -> int:
    """As people see it, in the view."""
    ((count,),) = query(warehouse, "SELECT missing FROM completeness WHERE timeframe = %s", timeframe)
    return int(str(count))


def repair(warehouse: Warehouse, chain: Chain) -> None:
    """The next run, which needs one request, and a look after it that finds nothing."""
    exchange = warehouse.router.providers[0]
    assert isinstance(exchange, Exchange)
    exchange.requests.clear()
    outcomes = backfill(warehouse, listed(warehouse), chain, MON, FRI)
    assert {outcome.state for outcome in outcomes.values()} == {"complete"}
    assert len(exchange.requests) == 1
    assert look(warehouse).good


def test_nothing_is_found_where_nobody_has_been(warehouse: Warehouse) -> None:
    before = query(warehouse, "SELECT md5(string_agg(t::text || ctid || xmin, '')) FROM session_status AS t")
    looked = look(warehouse)
    assert (looked.findings, looked.lacking, looked.sessions, looked.filled) == ([], [], 10, 0)
    assert looked.good
    assert query(warehouse, "SELECT md5(string_agg(t::text || ctid || xmin, '')) FROM session_status AS t") == before
    last = last_look(warehouse.conn)
    warehouse.conn.rollback()
    assert last is not None
    assert (last.looked_at, last.sessions, last.found) == (LATER, 10, {})


DAMAGES = [
    pytest.param(f"DELETE FROM bars WHERE {ONE}", INTRADAY, id="a deleted row"),
    pytest.param(f"DELETE FROM bars WHERE {MINUTES}", INTRADAY, id="a deleted day"),
    pytest.param(f"DELETE FROM bars WHERE {MINUTES} AND ts = '2024-05-08 09:00Z'", INTRADAY, id="a row of pre-market"),
    pytest.param(COPIED.format("30 seconds"), INTRADAY, id="an inserted row"),
    pytest.param(COPIED.format("11 hours"), INTRADAY, id="a row at night"),
    pytest.param(f"UPDATE bars SET open = open + 0.0001 WHERE {ONE}", INTRADAY, id="an edited price"),
    pytest.param(f"UPDATE bars SET volume = volume + 0.0001 WHERE {ONE}", INTRADAY, id="an edited volume"),
    pytest.param(f"UPDATE bars SET high = low, low = high WHERE {ONE}", INTRADAY, id="exchanged prices"),
    pytest.param(f"UPDATE bars SET close = 'Infinity' WHERE {ONE}", INTRADAY, id="infinity"),
    pytest.param(f"UPDATE bars SET close = 'NaN' WHERE {ONE}", INTRADAY, id="no number"),
    pytest.param(f"UPDATE bars SET segment = 'pre' WHERE {ONE}", INTRADAY, id="another segment"),
    pytest.param(f"UPDATE bars SET close = close * 2 WHERE {DAY}", DAILY, id="a doubled daily close"),
    pytest.param(f"DELETE FROM bars WHERE {DAY}", DAILY, id="a deleted daily bar"),
]


@pytest.mark.parametrize(("damage", "chain"), DAMAGES)
def test_changed_bars_are_missing_until_they_are_asked_for_again(
    warehouse: Warehouse, damage: str, chain: Chain
) -> None:
    query(warehouse, damage)
    query(warehouse, "UPDATE session_status SET checked_at = %s", LATER)
    looked = look(at(warehouse, NEXT_DAY))
    assert found(looked) == [(chain.name, "changed", WED, WED, 1)]
    days = "--start 2024-05-08 --end 2024-05-08"
    assert looked.commands == [f"backfill run --symbols ABC --timeframes {chain.base} {days}"]
    assert missing(warehouse, chain.base) == (390 if chain is INTRADAY else 1)
    assert query(warehouse, "SELECT evidence ->> 'by', next_attempt_at FROM gaps WHERE resolved_at IS NULL") == [
        ("changed by another hand", NEXT_DAY)
    ]
    assert query(warehouse, "SELECT timeframe::text, session FROM session_status WHERE checked_at > %s", LATER) == [
        (chain.base, WED)
    ]
    again = look(warehouse)
    assert (again.findings, again.lacking) == ([], [Lacking("ABC", chain.base, WED, WED, 1, 0)])
    repair(warehouse, chain)


def test_an_edit_is_found_also_after_its_session_was_judged_anew(warehouse: Warehouse) -> None:
    query(warehouse, f"UPDATE bars SET close = close + 0.01 WHERE {ONE}")
    exchange = warehouse.router.providers[0]
    assert isinstance(exchange, Exchange)
    exchange.requests.clear()
    backfill(warehouse, listed(warehouse), INTRADAY, MON, FRI, ask=False)
    assert found(look(warehouse)) == [("intraday", "changed", WED, WED, 1)]
    repair(warehouse, INTRADAY)


def test_bars_of_a_lost_answer_are_missing_until_it_is_asked_for_again(warehouse: Warehouse) -> None:
    query(warehouse, "DELETE FROM coverage WHERE timeframe = '1m'")
    looked = look(warehouse)
    assert found(looked) == [("intraday", "unvouched", MON, FRI, 5)]
    assert str(looked.findings[0]).startswith("ABC intraday 2024-05-06 to 2024-05-10 (5 sessions): the answer that")
    assert missing(warehouse, "1m") == 5 * 390
    assert look(warehouse).findings == []
    repair(warehouse, INTRADAY)


@pytest.mark.parametrize(
    ("damage", "findings"),
    [
        pytest.param(
            "DELETE FROM bars WHERE timeframe = '5m' AND ts = '2024-05-08 15:00Z'",
            [("intraday", "derived", WED, WED, 1)],
            id="a deleted bar",
        ),
        pytest.param(
            "DELETE FROM bars WHERE timeframe = '1h' AND ts = '2024-05-08 09:00Z'",
            [("intraday", "derived", WED, WED, 1)],
            id="a deleted bar of the pre-market",
        ),
        pytest.param(
            "DELETE FROM bars WHERE timeframe NOT IN ('1m', '1d')",
            [("intraday", "derived", MON, FRI, 5), ("daily", "derived", MON, MON, 1)],
            id="all of them",
        ),
        pytest.param("DELETE FROM bars WHERE timeframe = '1w'", [("daily", "derived", MON, MON, 1)], id="a week"),
        pytest.param(
            "UPDATE bars SET volume = volume + 1 WHERE timeframe = '1w'",
            [("daily", "derived", MON, MON, 1)],
            id="a week's volume",
        ),
        pytest.param(
            "DELETE FROM features WHERE timeframe = '1m' AND ts = '2024-05-08 15:00Z'",
            [("intraday", "features", WED, WED, 1)],
            id="a row of features",
        ),
        pytest.param(
            "UPDATE features SET ts = ts + interval '1 second' WHERE timeframe = '1d' AND ts = '2024-05-08 04:00Z'",
            [("daily", "features", WED, WED, 1)],
            id="features of a bar that is none",
        ),
        pytest.param(
            "DELETE FROM features",
            [("intraday", "features", MON, FRI, 5), ("daily", "features", MON, FRI, 5)],
            id="all features",
        ),
    ],
)
def test_what_is_derived_is_made_good_by_the_look_itself(
    warehouse: Warehouse, clean: Tables, damage: str, findings: object
) -> None:
    query(warehouse, damage)
    looked = look(warehouse)
    assert sorted(found(looked)) == sorted(findings)  # type: ignore[call-overload]  # a list of tuples
    assert looked.lacking == []
    assert differences(tables(warehouse.conn), clean) == []
    assert look(warehouse).good


def test_a_session_that_nobody_knows_of_any_more_is_open_again(warehouse: Warehouse) -> None:
    """Its bars and its answer are there, and no run would ask."""
    query(warehouse, "DELETE FROM session_status WHERE timeframe = '1m' AND session = '2024-05-08'")
    looked = look(warehouse)
    assert found(looked) == [("intraday", "stray", WED, WED, 1), ("intraday", "forgotten", WED, WED, 1)]
    assert looked.lacking == [Lacking("ABC", "1m", WED, WED, 1, 1)]
    repair(warehouse, INTRADAY)


def test_what_nobody_has_asked_for_yet_lacks_bars_and_is_no_damage(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    with warehouse.conn:
        want(warehouse.conn, abc.symbol_id, "1m", warehouse.sessions("XNYS").days_window(THU, date(2024, 5, 15)))
    looked = look(warehouse)
    lacking = Lacking("ABC", "1m", date(2024, 5, 13), date(2024, 5, 15), 3, 3)
    assert (looked.findings, looked.lacking) == ([], [lacking])
    query(warehouse, "DELETE FROM wanted WHERE timeframe = '1m'")
    with warehouse.conn:
        want(warehouse.conn, abc.symbol_id, "1m", warehouse.sessions("XNYS").days_window(MON, FRI))


def test_bars_of_days_that_nobody_asked_for_are_told_and_left(warehouse: Warehouse) -> None:
    moved = COPIED.replace("ts + interval '{}', session", "ts + interval '5 days', session + 5")
    query(warehouse, moved)
    for _ in range(2):
        assert [str(one) for one in look(warehouse).findings] == [
            "ABC intraday 2024-05-13: 1 bar that no answer has brought; not counted, and not touched"
        ]
    query(warehouse, "DELETE FROM bars WHERE session = '2024-05-13'")
    assert look(warehouse).good


def test_sums_that_were_not_kept_are_filled_in_and_not_doubted(warehouse: Warehouse) -> None:
    written = query(warehouse, "SELECT * FROM session_status ORDER BY timeframe, session")
    query(warehouse, "UPDATE session_status SET bars = NULL, price_sum = NULL, volume_sum = NULL")
    looked = look(warehouse)
    assert (looked.good, looked.filled) == (True, 10)
    filled = query(warehouse, "SELECT * FROM session_status ORDER BY timeframe, session")
    for row, known in zip(filled, written, strict=True):
        assert row[:12] == known[:12]
        assert [float(str(value)) for value in row[12:]] == pytest.approx(
            [float(str(v)) for v in known[12:]], rel=1e-13
        )
    query(warehouse, f"UPDATE bars SET close = close + 0.0001 WHERE {ONE}")
    assert found(look(warehouse)) == [("intraday", "changed", WED, WED, 1)]
    repair(warehouse, INTRADAY)
    query(warehouse, "DELETE FROM coverage")
    look(warehouse)
    both_chains(warehouse, listed(warehouse), MON, FRI)


def test_an_incremental_look_is_about_what_was_written_since(warehouse: Warehouse) -> None:
    query(warehouse, f"UPDATE bars SET close = close + 0.01 WHERE {ONE}")
    query(warehouse, "DELETE FROM features WHERE ts = '2024-05-09 15:00Z' AND timeframe = '1m'")
    query(warehouse, "UPDATE session_status SET checked_at = %s WHERE session = '2024-05-09'", NEXT_DAY)
    looked = look(warehouse, since=NEXT_DAY)
    assert (looked.complete, looked.sessions) == (False, 2)
    assert found(looked) == [("intraday", "features", THU, THU, 1)]
    query(warehouse, "UPDATE session_status SET checked_at = %s WHERE session = '2024-05-08'", NEXT_DAY)
    assert found(look(warehouse, since=NEXT_DAY)) == [("intraday", "changed", WED, WED, 1)]
    repair(warehouse, INTRADAY)


def test_only_the_named_symbols_and_none_that_was_removed_are_looked_at(warehouse: Warehouse) -> None:
    query(warehouse, f"UPDATE bars SET close = close + 0.01 WHERE {ONE}")
    other = listed(warehouse, "OTHER")
    assert look(warehouse, symbols=["OTHER"]).good
    with removed(warehouse, "ABC"):
        assert look(warehouse).good
    assert found(look(warehouse, symbols=["ABC"])) == [("intraday", "changed", WED, WED, 1)]
    query(warehouse, "DELETE FROM symbols WHERE symbol_id = %s", other.symbol_id)
    repair(warehouse, INTRADAY)


@contextmanager
def removed(warehouse: Warehouse, symbol: str) -> Iterator[None]:
    query(warehouse, "UPDATE symbols SET active = false WHERE symbol = %s", symbol)
    yield
    query(warehouse, "UPDATE symbols SET active = true WHERE symbol = %s", symbol)
