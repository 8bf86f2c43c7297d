"""Looking an instrument up at a provider that knows who it is, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.names import EVER, Name
from backfill_pipeline.steps.identity import FRESH, look_up
from backfill_pipeline.storage.names import read_identity, read_lifetime, read_names, resolver, tickers, write_names
from backfill_pipeline.storage.symbols import add_symbol, get_instruments
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.polygon_reference import figi
from backfill_pipeline_tests.storage.stored import migrated, rows

LISTED = date(2012, 5, 18)
ON = date(2022, 6, 9)
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
LATER = NOW + FRESH
DAY = timedelta(days=1)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as started:
        started.market.list_from("FB", LISTED)
        started.market.rename("FB", "META", ON)
        yield started


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as connection:
        yield connection


def listed(conn: Connection, symbol: str) -> Instrument:
    with conn:
        add_symbol(conn, symbol, "stock", "XNYS")
        return get_instruments(conn, [symbol])[symbol]


def look(conn: Connection, standin: StandIn, of: Instrument, now: datetime = NOW) -> list[str]:
    return look_up(conn, provider(standin), of, now)


def lifetime(conn: Connection, of: Instrument) -> tuple[date | None, date | None, str | None]:
    return read_lifetime(conn, of.symbol_id)


def test_a_renamed_instrument_is_asked_for_under_the_names_of_the_time(conn: Connection, standin: StandIn) -> None:
    meta = listed(conn, "META")
    assert look(conn, standin, meta) == [
        "META: listed from 2012-05-18 to now (polygon)",
        "META: polygon called it FB until 2022-06-08",
    ]
    assert lifetime(conn, meta) == (LISTED, None, "polygon")
    assert tickers(conn, meta.symbol_id, "polygon", date(2022, 1, 1), date(2022, 12, 31), "META") == [
        ("FB", date(2022, 1, 1), ON - DAY),
        ("META", ON, date(2022, 12, 31)),
    ]
    whose = resolver(conn, "polygon")
    assert [whose("FB", LISTED), whose("META", ON), whose("META", ON - DAY), whose("FB", ON)] == [1, 1, None, None]


def test_a_look_costs_two_requests_and_is_good_for_a_month(conn: Connection, standin: StandIn) -> None:
    meta = listed(conn, "META")
    look(conn, standin, meta)
    assert len(standin.requests) == 2
    assert look(conn, standin, meta, LATER - timedelta(seconds=1)) == []
    assert len(standin.requests) == 2
    assert look(conn, standin, meta, LATER) == [], "asked again, and nothing is news"
    assert len(standin.requests) == 4


def test_a_symbol_that_is_followed_by_its_old_name_goes_on_under_the_new(conn: Connection, standin: StandIn) -> None:
    fb = listed(conn, "FB")
    assert look(conn, standin, fb)[-1] == (
        "FB: polygon calls it META since 2022-06-09; to follow suit: backfill symbols rename FB META --on 2022-06-09"
    )
    assert tickers(conn, fb.symbol_id, "polygon", ON, ON + DAY, "FB") == [("META", ON, ON + DAY)]
    standin.reset()
    assert look(conn, standin, fb, LATER) == []
    assert standin.requests[0].path == "/v3/reference/tickers/META"


def test_a_plain_symbol_states_no_names(conn: Connection, standin: StandIn) -> None:
    standin.market.list_from("AAPL", date(1980, 12, 12))
    aapl = listed(conn, "AAPL")
    assert look(conn, standin, aapl) == ["AAPL: listed from 1980-12-12 to now (polygon)"]
    assert read_names(conn) == []
    assert read_identity(conn, aapl.symbol_id, "polygon") == (figi("AAPL"), NOW)


def test_unknown_is_not_unlisted_and_not_asked_again_for_a_month(conn: Connection, standin: StandIn) -> None:
    standin.market.unknown("NOPE")
    nope = listed(conn, "NOPE")
    assert look(conn, standin, nope) == []
    assert lifetime(conn, nope) == (None, None, None)
    assert look(conn, standin, nope) == []
    assert len(standin.requests) == 1


@pytest.mark.parametrize("fault", ["503", "401", "connection_reset", "html_200"])
def test_a_provider_that_cannot_be_asked_changes_nothing_and_is_asked_at_the_next_doubt(
    conn: Connection, standin: StandIn, fault: str
) -> None:
    meta = listed(conn, "META")
    standin.fault(fault, times=None)
    assert look(conn, standin, meta) == []
    assert read_identity(conn, meta.symbol_id, "polygon") is None
    standin.clear_faults()
    assert look(conn, standin, meta) != []


def test_a_ticker_that_another_instrument_has_now_ends_ours(conn: Connection, standin: StandIn) -> None:
    """XYZ is delisted; years later another company is listed as XYZ."""
    standin.market.list_from("XYZ", date(2005, 3, 1))
    xyz = listed(conn, "XYZ")
    look(conn, standin, xyz)
    reused = date(2024, 5, 20)
    standin.market.list_from("NEWCO", reused)
    standin.market.rename("XYZ", "XYZ.GONE", date(2015, 3, 2))
    standin.market.rename("NEWCO", "XYZ", reused)
    standin.market.unknown(figi("XYZ"))

    (line,) = look(conn, standin, xyz, LATER)

    assert line == (
        f"XYZ: XYZ is another instrument at polygon now ({figi('NEWCO')}, not {figi('XYZ')}); XYZ ends on 2024-05-19"
        " and nothing more is asked for it. To follow the new one: backfill symbols rename XYZ XYZ.OLD"
        " --on 2024-05-20, then backfill symbols add XYZ"
    )
    assert lifetime(conn, xyz) == (date(2005, 3, 1), reused - DAY, "polygon")
    assert tickers(conn, xyz.symbol_id, "polygon", date(2024, 5, 1), date(2024, 6, 1), "XYZ") == [
        ("XYZ", date(2024, 5, 1), reused - DAY)
    ]
    assert resolver(conn, "polygon")("XYZ", reused) is None
    assert look(conn, standin, xyz, LATER + FRESH) == [], "said once"


def test_an_instrument_whose_ticker_was_given_away_goes_on_under_its_new(conn: Connection, standin: StandIn) -> None:
    standin.market.list_from("OLDCO", date(2005, 3, 1))
    old = listed(conn, "OLDCO")
    look(conn, standin, old)
    moved, reused = date(2024, 5, 1), date(2024, 6, 3)
    standin.market.list_from("NEWCO", reused)
    standin.market.rename("OLDCO", "MOVED", moved)
    standin.market.rename("NEWCO", "OLDCO", reused)

    lines = look(conn, standin, old, LATER)

    assert lines[0] == "OLDCO: polygon called it OLDCO until 2024-04-30"
    assert "calls it MOVED since 2024-05-01" in lines[1]
    assert lifetime(conn, old) == (date(2005, 3, 1), None, "polygon")
    whose = resolver(conn, "polygon")
    assert [whose("OLDCO", moved - DAY), whose("OLDCO", reused), whose("MOVED", reused)] == [1, None, 1]


def test_the_same_instrument_listed_again_is_followed_again(conn: Connection, standin: StandIn) -> None:
    standin.market.list_from("PAUSE", date(2005, 3, 1), date(2024, 5, 1))
    pause = listed(conn, "PAUSE")
    assert look(conn, standin, pause) == ["PAUSE: listed from 2005-03-01 to 2024-05-01 (polygon)"]
    standin.market.list_from("PAUSE", date(2005, 3, 1))
    assert look(conn, standin, pause, LATER) == ["PAUSE: listed from 2005-03-01 to now (polygon)"]


def test_what_a_person_stated_is_not_overruled(conn: Connection, standin: StandIn) -> None:
    meta = listed(conn, "META")
    stated = Name(meta.symbol_id, "polygon", "FB.X", date(2020, 1, 1), date(2020, 12, 31), by_hand=True)
    with conn:
        write_names(conn, meta.symbol_id, "polygon", [stated])
    look(conn, standin, meta)
    assert [(n.ticker, n.first, n.last) for n in read_names(conn)][:3] == [
        ("FB", LISTED, date(2019, 12, 31)),
        ("FB.X", date(2020, 1, 1), date(2020, 12, 31)),
        ("FB", date(2021, 1, 1), ON - DAY),
    ]


def test_one_instrument_followed_twice_is_told(conn: Connection, standin: StandIn) -> None:
    look(conn, standin, listed(conn, "META"))
    (line,) = look(conn, standin, listed(conn, "FB"))[1:]
    assert line == (
        "FB: polygon called it FB, META, but FB is META's ticker from 2012-05-18 to 2022-06-08 at polygon;"
        " is one of the two too many?"
    )


def test_a_lifetime_that_contradicts_itself_is_told_and_left(conn: Connection, standin: StandIn) -> None:
    standin.market.list_from("ODD", date(2020, 1, 2), date(2010, 1, 4))
    odd = listed(conn, "ODD")
    (line,) = look(conn, standin, odd)
    assert line == "ODD: polygon lists it from 2020-01-02 to 2010-01-04, which cannot be; its lifetime stays as it is"
    assert lifetime(conn, odd) == (None, None, None)


def test_a_ticker_taken_over_is_not_followed_back_into_its_former_holder(conn: Connection, standin: StandIn) -> None:
    meta, fb = listed(conn, "META"), listed(conn, "FB2")
    with conn:
        write_names(conn, meta.symbol_id, "*", [Name(meta.symbol_id, "*", "FB2", EVER, ON - DAY, by_hand=True)])
    standin.market.list_from("FB2", LISTED)
    look(conn, standin, fb)
    assert lifetime(conn, fb) == (ON, None, "polygon")
    assert rows(conn, "SELECT count(*) FROM symbol_names WHERE symbol_id = %s", fb.symbol_id) == [(0,)]
