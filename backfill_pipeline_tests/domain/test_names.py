"""Periods of names: which ticker when, whose a ticker is, and what a rename states."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.names import (
    ANY_PROVIDER,
    EVER,
    FOREVER,
    Name,
    NameBook,
    cut,
    is_doubtful,
    joined,
    names_of_changes,
    renamed,
    renamed_anywhere,
)

DAY = timedelta(days=1)
FIRST = date(2022, 1, 1)
CHANGE = date(2022, 6, 9)
LAST = date(2022, 12, 31)


def stock(symbol_id: int, symbol: str, first: date | None = None, last: date | None = None) -> Instrument:
    return Instrument(symbol_id, symbol, "stock", "XNYS", first, last)


META = stock(1, "META")
FB_UNTIL = Name(1, "polygon", "FB", EVER, CHANGE - DAY)
META_SINCE = Name(1, "polygon", "META", CHANGE)


def test_where_nothing_is_stated_the_symbol_is_the_ticker() -> None:
    book = NameBook([META], [], "polygon")
    assert book.tickers(1, FIRST, LAST) == [("META", FIRST, LAST)]
    assert (book.resolve("META", FIRST), book.resolve("FB", FIRST)) == (1, None)


def test_a_rename_cuts_the_days_asked_for_and_nothing_else() -> None:
    book = NameBook([META], [FB_UNTIL, META_SINCE], "polygon")
    assert book.tickers(1, FIRST, LAST) == [("FB", FIRST, CHANGE - DAY), ("META", CHANGE, LAST)]
    assert book.tickers(1, CHANGE, CHANGE) == [("META", CHANGE, CHANGE)]
    assert [book.resolve(*of) for of in (("FB", CHANGE - DAY), ("FB", CHANGE), ("META", CHANGE - DAY))] == [
        1,
        None,
        None,
    ]


def test_what_one_provider_calls_it_says_nothing_of_the_others() -> None:
    assert NameBook([META], [FB_UNTIL, META_SINCE], "tradier").tickers(1, FIRST, LAST) == [("META", FIRST, LAST)]


def test_a_provider_s_own_names_go_before_those_of_any() -> None:
    anywhere = [Name(1, ANY_PROVIDER, "FB", EVER, CHANGE - DAY), Name(1, ANY_PROVIDER, "META", CHANGE)]
    own = Name(1, "polygon", "FB.X", FIRST, FIRST + DAY)
    book = NameBook([META], [*anywhere, own], "polygon")
    assert book.tickers(1, FIRST, CHANGE) == [
        ("FB.X", FIRST, FIRST + DAY),
        ("FB", FIRST + 2 * DAY, CHANGE - DAY),
        ("META", CHANGE, CHANGE),
    ]
    assert book.resolve("FB", FIRST) is None


def test_a_swapped_ticker_is_each_one_s_in_its_time() -> None:
    """GOOG was class A until 2014-04-02; since then class A is GOOGL and GOOG is class C."""
    swap = date(2014, 4, 3)
    class_a, class_c = stock(1, "GOOGL"), stock(2, "GOOG")
    names = [Name(1, ANY_PROVIDER, "GOOG", EVER, swap - DAY), Name(1, ANY_PROVIDER, "GOOGL", swap)]
    book = NameBook([class_a, class_c], names, "polygon")
    assert [book.resolve("GOOG", day) for day in (swap - DAY, swap)] == [1, 2]
    assert [book.resolve("GOOGL", day) for day in (swap - DAY, swap)] == [None, 1]
    assert book.tickers(2, swap - 30 * DAY, swap + DAY) == [("GOOG", swap, swap + DAY)]


def test_a_ticker_says_nothing_of_days_before_its_instrument_was_listed_or_after() -> None:
    book = NameBook([stock(1, "NEW", CHANGE, CHANGE + 9 * DAY)], [], "polygon")
    assert book.tickers(1, FIRST, LAST) == [("NEW", CHANGE, CHANGE + 9 * DAY)]
    days = (CHANGE - DAY, CHANGE, CHANGE + 9 * DAY, CHANGE + 10 * DAY)
    assert [book.resolve("NEW", day) for day in days] == [None, 1, 1, None]


def test_changes_in_any_order_become_periods_that_follow_one_another() -> None:
    listed = date(2012, 5, 18)
    changes = [(CHANGE, "META"), (listed, "FB")]
    expected = [Name(1, "polygon", "FB", EVER, CHANGE - DAY), Name(1, "polygon", "META", CHANGE)]
    assert names_of_changes(1, "polygon", changes, None) == expected
    assert names_of_changes(1, "polygon", changes[::-1], listed)[0].first == listed
    assert names_of_changes(1, "polygon", changes, date(2015, 1, 1))[0].first == listed
    assert names_of_changes(1, "polygon", [*changes, (date(2023, 1, 3), "META")], None) == expected
    assert names_of_changes(1, "polygon", [], None) == []


def test_a_rename_states_the_old_name_where_none_was_stated() -> None:
    old, new = Name(1, "*", "FB", by_hand=True), Name(1, "*", "META", CHANGE, by_hand=True)
    first = [Name(1, "*", "FB", EVER, CHANGE - DAY, by_hand=True), new]
    assert renamed_anywhere([], old, new) == first
    again = Name(1, "*", "MVRS", date(2024, 1, 2), by_hand=True)
    assert renamed_anywhere(first, Name(1, "*", "META", by_hand=True), again) == [
        first[0],
        Name(1, "*", "META", CHANGE, date(2024, 1, 1), by_hand=True),
        again,
    ]


def test_a_rename_changes_a_provider_s_own_names_only_where_they_are_the_old_one() -> None:
    names = [Name(1, "polygon", "FB.A", EVER, FIRST - DAY), Name(1, "polygon", "FB", FIRST, FOREVER)]
    assert renamed(names, "FB", "META", CHANGE) == [
        names[0],
        Name(1, "polygon", "FB", FIRST, CHANGE - DAY),
        Name(1, "polygon", "META", CHANGE, by_hand=True),
    ]
    assert renamed(names, "OTHER", "META", CHANGE) == names
    assert renamed(names, "FB", "META", EVER + DAY)[1:] == [Name(1, "polygon", "META", FIRST, by_hand=True)]


@pytest.mark.parametrize(
    ("pattern", "doubtful"),
    [
        pytest.param("1111111111", False, id="all there"),
        pytest.param("0000011111", True, id="begins with five absent"),
        pytest.param("0000111111", False, id="begins with four absent"),
        pytest.param("1100000111", True, id="a hole of five: the ticker was another's before"),
        pytest.param("1110000111", False, id="a hole of four"),
        pytest.param("1111111000", True, id="the last three absent"),
        pytest.param("1111111100", False, id="the last two absent"),
        pytest.param("000", True, id="nothing but absent"),
        pytest.param("00", False, id="too little to tell"),
        pytest.param("", False, id="nothing asked"),
    ],
)
def test_long_absence_is_reason_to_ask_who_it_is(pattern: str, doubtful: bool) -> None:
    assert is_doubtful(np.array([mark == "1" for mark in pattern], dtype=bool)) is doubtful


days = st.integers(0, 12).map(lambda n: FIRST + n * DAY)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Instrument], list[Name]]:
    """Instruments and names that the tables could hold: no day has two names, or two instruments of one."""
    lifetimes = draw(st.lists(st.tuples(st.none() | days, st.none() | days), min_size=3, max_size=3))
    instruments = [stock(i, "ABC"[i], *life) for i, life in enumerate(lifetimes) if None in life or life[0] <= life[1]]  # type: ignore[operator]  # dates
    names: list[Name] = []
    drawn = st.tuples(st.integers(0, 2), st.sampled_from(["p", "*"]), st.sampled_from("ABCD"), days, days)
    for symbol_id, provider, ticker, one, other in draw(st.lists(drawn, max_size=8)):
        name = Name(symbol_id, provider, ticker, min(one, other), max(one, other))
        near = [n for n in names if n.provider == provider and (n.symbol_id == symbol_id or n.ticker == ticker)]
        if cut([name], [n.days for n in near]) == [name]:
            names.append(name)
    return instruments, names


@given(books())
def test_a_ticker_leads_back_to_its_instrument_and_no_day_has_two(book: tuple[list[Instrument], list[Name]]) -> None:
    """Day by day: the rule in words, for every instrument and ticker."""
    instruments, names = book
    made = NameBook(instruments, names, "p")
    for n in range(13):
        day = FIRST + n * DAY
        tickers = {one.symbol_id: made.tickers(one.symbol_id, day, day) for one in instruments}
        for one in instruments:
            assert tickers[one.symbol_id] == [(t, day, day) for t in "ABCD" if made.resolve(t, day) == one.symbol_id]
            stated = {x.provider: x.ticker for x in names if x.symbol_id == one.symbol_id and x.first <= day <= x.last}
            listed = (one.first_date or EVER) <= day <= (one.last_date or FOREVER)
            if not listed:
                assert tickers[one.symbol_id] == []
            elif "p" in stated:
                assert tickers[one.symbol_id] == [(stated["p"], day, day)]
            elif len(instruments) == 1:
                assert tickers[one.symbol_id] == [(stated.get("*", one.symbol), day, day)]


@given(st.lists(st.tuples(days, days), max_size=5), days, days)
def test_cutting_and_joining_lose_no_day(holes: list[tuple[date, date]], first: date, last: date) -> None:
    name = Name(1, "p", "A", min(first, last), max(first, last))
    spans = [(min(hole), max(hole)) for hole in holes]
    left = cut([name], spans)
    covered = [day for n in range(13) if any(x.first <= (day := FIRST + n * DAY) <= x.last for x in left)]
    hidden = {FIRST + n * DAY for n in range(13) if any(a <= FIRST + n * DAY <= b for a, b in spans)}
    whole = {name.first + n * DAY for n in range((name.last - name.first).days + 1)}
    assert set(covered) == whole - hidden
    assert joined([*left, *cut([name], [x.days for x in left])]) == [name]
