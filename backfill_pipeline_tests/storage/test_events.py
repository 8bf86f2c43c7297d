"""The accepted events as they are read, and `bars_adjusted`: hand-made bars and factors worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.adjust import Dividend, Split
from backfill_pipeline.storage.events import clear_stale, mark_stale, read_dividends, read_splits, stale_since
from backfill_pipeline_tests.storage.stored import migrated, rows

MONDAY = date(2024, 3, 4)
THURSDAY = date(2024, 3, 7)


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as opened:
        rows(opened, "INSERT INTO symbols (symbol, asset_class, calendar) VALUES ('ABC', 'stock', 'XNYS')")
        rows(opened, "INSERT INTO symbols (symbol, asset_class, calendar) VALUES ('XYZ', 'stock', 'XNYS')")
        yield opened


def split(
    conn: Connection, day: str, old: float, new: float, provider: str = "polygon", accepted: str = "true"
) -> None:
    rows(
        conn,
        "INSERT INTO splits (symbol_id, ex_date, split_from, split_to, adjustment_type, provider_id, provider,"
        " accepted, reason, seen_at) VALUES (1, %s, %s, %s, '', '', %s, %s::boolean, '', now())",
        *(day, old, new, provider, None if accepted == "null" else accepted),
    )


def bar(conn: Connection, timeframe: str, day: str, prices: tuple[float, ...], symbol_id: int = 1, **more: str) -> None:
    """Open, high, low, close, volume, vwap; 10 trades."""
    rows(
        conn,
        "INSERT INTO bars (symbol_id, timeframe, ts, session, segment, open, high, low, close, volume, vwap, trades,"
        " final, provider)"
        " VALUES (%s, %s, %s::date + interval '5 hours', %s, %s, %s, %s, %s, %s, %s, %s, %s, true, 'p')",
        *(symbol_id, timeframe, day, day, more.get("segment", "regular"), *prices, more.get("trades", "10")),
    )


def adjusted(conn: Connection, timeframe: str, symbol: str = "ABC") -> list[tuple[object, ...]]:
    return rows(
        conn,
        "SELECT session::text, open, high, low, close, volume, vwap, trades, factor FROM bars_adjusted"
        " WHERE symbol = %s AND timeframe = %s ORDER BY ts",
        *(symbol, timeframe),
    )


def test_only_accepted_splits_are_read_by_ex_date_and_each_once(conn: Connection) -> None:
    split(conn, "2024-03-07", 1, 4)
    split(conn, "2024-03-07", 1, 4, "tradier")
    split(conn, "2020-08-31", 10, 1)
    split(conn, "2021-01-04", 1, 2, accepted="false")
    split(conn, "2022-01-04", 1, 2, accepted="null")
    assert read_splits(conn, 1) == [Split(date(2020, 8, 31), 0.1), Split(THURSDAY, 4.0)]
    assert read_splits(conn, 2) == []


def test_a_day_has_one_accepted_split_at_most(conn: Connection) -> None:
    split(conn, "2024-03-07", 1, 4)
    with pytest.raises(errors.UniqueViolation):
        split(conn, "2024-03-07", 1, 2)


def test_accepted_payments_of_one_day_are_read_one_by_one_and_two_providers_say_the_same_once(conn: Connection) -> None:
    for cash, kind, provider, accepted in (
        (0.25, "recurring", "polygon", True),
        (0.25, "recurring", "tradier", True),
        (1.0, "special", "polygon", True),
        (9.0, "odd", "polygon", False),
    ):
        rows(
            conn,
            "INSERT INTO dividends (symbol_id, ex_date, cash_amount, currency, distribution_type, provider_id,"
            " provider, accepted, reason, seen_at) VALUES (1, %s, %s, 'USD', %s, '', %s, %s, '', now())",
            *(THURSDAY, cash, kind, provider, accepted),
        )
    assert read_dividends(conn, 1) == [Dividend(THURSDAY, 0.25, "USD"), Dividend(THURSDAY, 1.0, "USD")]


def test_prices_before_every_later_accepted_split_are_scaled_and_volume_the_other_way(conn: Connection) -> None:
    split(conn, "2024-03-07", 1, 4)
    split(conn, "2024-03-11", 2, 1)  # two become one
    split(conn, "2024-03-11", 1, 7, accepted="false")
    for day in ("2024-03-06", "2024-03-07", "2024-03-11"):
        bar(conn, "1d", day, (100, 104, 96, 102, 1000, 101))
        bar(conn, "1d", day, (100, 104, 96, 102, 1000, 101), symbol_id=2)
    bar(conn, "1m", "2024-03-06", (100, 104, 96, 102, 1000, 101), segment="pre")
    # 4:1 and then 1:2: two shares of today for one of before, and half a one for one in between.
    assert adjusted(conn, "1d") == [
        ("2024-03-06", 50, 52, 48, 51, 2000, 50.5, 10, 0.5),
        ("2024-03-07", 200, 208, 192, 204, 500, 202, 10, 2),
        ("2024-03-11", 100, 104, 96, 102, 1000, 101, 10, 1),
    ]
    assert {row[-1] for row in adjusted(conn, "1d", "XYZ")} == {1}
    assert adjusted(conn, "1m") == []  # regular bars only, as market_data has them


def test_the_same_split_told_by_two_providers_counts_once(conn: Connection) -> None:
    split(conn, "2024-03-07", 1, 4)
    split(conn, "2024-03-07", 1, 4, "tradier")
    bar(conn, "1d", "2024-03-06", (100, 104, 96, 102, 1000, 101))
    assert [row[-1] for row in adjusted(conn, "1d")] == [0.25]


def week(conn: Connection) -> None:
    """A week of days with a 4:1 split on Thursday, and the bar that mixes them; and the week before, all before it."""
    days = [
        ("2024-03-04", (100, 108, 96, 104, 10, 102)),
        ("2024-03-05", (104, 112, 100, 108, 10, 106)),
        ("2024-03-06", (108, 110, 104, 106, 10, 107)),
        ("2024-03-07", (26, 27, 25, 26, 40, 26)),
        ("2024-03-08", (26, 29, 25.5, 28, 80, 27)),
    ]
    for day, prices in days:
        bar(conn, "1d", day, prices)
    bar(conn, "1w", "2024-03-04", (100, 112, 25, 28, 150, 47.4), trades="50")
    bar(conn, "1w", "2024-02-26", (96, 100, 92, 100, 50, 98), trades="50")
    split(conn, "2024-03-07", 1, 4)


def test_a_week_with_a_split_inside_is_built_from_its_adjusted_days(conn: Connection) -> None:
    week(conn)
    vwap = (102 * 10 + 106 * 10 + 107 * 10 + 26 * 40 + 27 * 80) / (40 * 3 + 40 + 80)
    assert adjusted(conn, "1w") == [
        ("2024-02-26", 24, 25, 23, 25, 200, 24.5, 50, 0.25),
        ("2024-03-04", 25, 29, 24, 28, 240, pytest.approx(vwap), 50, 1),
    ]


def test_what_is_unknown_of_a_day_is_unknown_of_such_a_week(conn: Connection) -> None:
    week(conn)
    rows(conn, "UPDATE bars SET vwap = NULL, trades = NULL WHERE timeframe = '1d' AND session = '2024-03-04'")
    # The day has 40 of the week's 240 shares, more than the 5 % that may be missing.
    assert adjusted(conn, "1w")[1][6:8] == (None, None)


def test_a_split_on_monday_mixes_nothing(conn: Connection) -> None:
    bar(conn, "1w", "2024-03-04", (100, 112, 25, 28, 150, 47.4))
    bar(conn, "1w", "2024-02-26", (96, 100, 92, 100, 50, 98))
    split(conn, "2024-03-04", 1, 4)
    assert [(row[0], row[1], row[-1]) for row in adjusted(conn, "1w")] == [
        ("2024-02-26", 24, 0.25),
        ("2024-03-04", 100, 1),
    ]


def test_marks_keep_the_earliest_day_until_their_chain_is_computed(conn: Connection) -> None:
    assert stale_since(conn, 1, "1m") is None
    mark_stale(conn, 1, THURSDAY)
    mark_stale(conn, 1, MONDAY)
    mark_stale(conn, 1, THURSDAY)
    clear_stale(conn, 1, "1d")
    assert [stale_since(conn, 1, base) for base in ("1m", "1d")] == [MONDAY, None]
    assert stale_since(conn, 2, "1m") is None
