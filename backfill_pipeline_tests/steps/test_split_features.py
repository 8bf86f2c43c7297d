"""Features over a split: on the share basis of their own bar, from the run after the split became known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.adjust import PRICE_COLUMNS
from backfill_pipeline.domain.feature_list import FEATURES
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import CHAINS, DAILY, INTRADAY, Chain
from backfill_pipeline.steps.split_features import refresh_stale
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.events import mark_stale, stale_since
from backfill_pipeline.storage.symbols import symbol_lock
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    Row,
    backfill,
    empty,
    listed,
    micros,
    opened,
    query,
)
from backfill_pipeline_tests.tables import Tables, differences, tables

# A 4:1 split on a Wednesday; minutes of three weeks around it, days of six months.
EX = date(2024, 11, 13)
HOLIDAYS = {date(2024, 7, 4), date(2024, 9, 2), date(2024, 11, 28), date(2024, 12, 25)}
DAYS = [day for day in (date(2024, 7, 1) + timedelta(days=i) for i in range(183)) if day.weekday() < 5]
DAYS = [day for day in DAYS if day not in HOLIDAYS]
MINUTES = [day for day in DAYS if date(2024, 11, 6) <= day <= date(2024, 11, 20)]
LATER = datetime(2025, 3, 1, tzinfo=UTC)
RATIO = 4.0


def divided(row: Row, shares: float) -> Row:
    opening, high, low, close, volume, vwap, trades = row
    assert vwap is not None
    return opening / shares, high / shares, low / shares, close / shares, volume * shares, vwap / shares, trades


def market(*, adjusted: bool) -> Exchange:
    """Prices a quarter from the ex-date on; adjusted for it, they are so all along."""
    exchange = Exchange().trade(MINUTES)
    exchange.days = Exchange().trade(DAYS).days
    ex = micros(EX, 0)
    for book in (exchange.minutes, exchange.days):
        book |= {ts: divided(row, RATIO) for ts, row in book.items() if adjusted or ts >= ex}
    return exchange


@pytest.fixture
def exchange() -> Exchange:
    return market(adjusted=False)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


def tell(warehouse: Warehouse, instrument: Instrument, *, ex_date: date = EX, ratio: float = RATIO) -> None:
    """A split becomes known and accepted, and the symbol is marked in the same transaction."""
    with warehouse.conn, warehouse.conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO splits (symbol_id, ex_date, split_from, split_to, adjustment_type, provider_id, provider,"
            " accepted, reason, seen_at) VALUES (%s, %s, 1, %s, 'forward_split', 'x', 'exchange', true, 'told', now())",
            (instrument.symbol_id, ex_date, ratio),
        )
        mark_stale(warehouse.conn, instrument.symbol_id, ex_date)


def refresh(warehouse: Warehouse, instrument: Instrument, chain: Chain) -> int:
    subject = warehouse.subject(instrument, chain)
    with symbol_lock(warehouse.conn, instrument.symbol_id, chain.base), warehouse.conn:
        return refresh_stale(warehouse, subject)


def load(warehouse: Warehouse, instrument: Instrument) -> None:
    backfill(warehouse, instrument, INTRADAY, MINUTES[0], MINUTES[-1])
    backfill(warehouse, instrument, DAILY, DAYS[0], DAYS[-1])


def known_from_the_start(warehouse: Warehouse) -> Tables:
    """The tables of one run over everything with the split known, in an emptied database."""
    empty(warehouse)
    abc = listed(warehouse)
    tell(warehouse, abc)
    load(warehouse, abc)
    return tables(warehouse.conn)


def features(warehouse: Warehouse) -> dict[tuple[str, int], dict[str, float | None]]:
    names = [feature.name for feature in FEATURES]
    rows = query(
        warehouse,
        f"SELECT timeframe::text, (extract(epoch FROM ts) * 1000000)::bigint, {', '.join(names)} FROM features",
    )
    return {(row[0], row[1]): dict(zip(names, row[2:], strict=True)) for row in rows}  # type: ignore[misc]


def basis_of(timeframe: str, ts: int) -> float:
    """What brings a value of a bar to the basis after the split: a week closes on the new one if its Sunday does."""
    reach = timedelta(days=6 if timeframe == "1w" else 0)
    return 1.0 if ts + reach // timedelta(microseconds=1) >= micros(EX, 0) else 1 / RATIO


def test_features_of_adjusted_bars_are_adjusted_features_of_bars_in_every_timeframe(
    warehouse: Warehouse, database_url: str
) -> None:
    known_from_the_start(warehouse)
    ours = features(warehouse)
    above = "SELECT b.timeframe, b.ts FROM bars AS b JOIN features AS f USING (symbol_id, timeframe, ts)"
    above += " WHERE b.close > f.sma_20 ORDER BY 1, 2"
    our_signals = query(warehouse, above)
    empty(warehouse)
    with opened(database_url, market(adjusted=True), LATER) as plain:
        load(plain, listed(plain))
        theirs = features(plain)
        assert query(plain, above) == our_signals
    assert len(our_signals) > 1000
    assert ours.keys() == theirs.keys()
    assert {timeframe for timeframe, _ in ours} == {*INTRADAY.timeframes, *DAILY.timeframes}
    for (timeframe, ts), values in ours.items():
        for name, value in values.items():
            expected = theirs[timeframe, ts][name]
            assert (value is None) == (expected is None), (timeframe, ts, name)
            if value is not None and expected is not None:
                factor = basis_of(timeframe, ts) if name in PRICE_COLUMNS else 1.0
                scale = max(abs(expected), 1.0)
                assert math.isclose(value * factor, expected, rel_tol=1e-9, abs_tol=1e-9 * scale), (timeframe, ts, name)


def test_a_split_that_becomes_known_later_changes_values_from_its_ex_date_on_and_ends_in_the_tables_of_one_run(
    warehouse: Warehouse,
) -> None:
    whole = known_from_the_start(warehouse)
    empty(warehouse)
    abc = listed(warehouse)
    load(warehouse, abc)
    unaware = tables(warehouse.conn)
    tell(warehouse, abc)
    assert refresh(warehouse, abc, INTRADAY) > 0
    assert stale_since(warehouse.conn, abc.symbol_id, "1m") is None
    assert stale_since(warehouse.conn, abc.symbol_id, "1d") == EX, "the other chain is still to be done"
    assert refresh(warehouse, abc, DAILY) > 0
    aware = tables(warehouse.conn)
    assert differences(aware, whole) == []
    assert aware["bars"] == unaware["bars"], "bars stay unadjusted"
    changed = {tuple(row.split("\t")[1:3]) for row in set(aware["features"]) ^ set(unaware["features"])}
    first = {timeframe: min(ts for one, ts in changed if one == timeframe) for timeframe, _ in changed}
    assert first == {
        **dict.fromkeys(INTRADAY.timeframes, "2024-11-13 14:30:00+00"),
        "1d": "2024-11-13 05:00:00+00",
        "1w": "2024-11-11 05:00:00+00",  # the week that closes on the new basis
    }
    assert [refresh(warehouse, abc, chain) for chain in CHAINS] == [0, 0], "nothing is left to do"


def test_a_split_that_is_withdrawn_leaves_no_trace(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    load(warehouse, abc)
    before = tables(warehouse.conn)
    tell(warehouse, abc)
    assert all(refresh(warehouse, abc, chain) for chain in CHAINS)
    query(warehouse, "UPDATE splits SET accepted = false")
    with warehouse.conn:
        mark_stale(warehouse.conn, abc.symbol_id, EX)
    assert all(refresh(warehouse, abc, chain) for chain in CHAINS)
    assert differences(tables(warehouse.conn), before) == []


def test_day_by_day_over_a_split_is_the_whole_history(warehouse: Warehouse) -> None:
    whole = known_from_the_start(warehouse)
    empty(warehouse)
    abc = listed(warehouse)
    tell(warehouse, abc)
    for first, last in ((DAYS[0], date(2024, 11, 12)), (EX, EX), (date(2024, 11, 14), DAYS[-1])):
        backfill(warehouse, abc, DAILY, first, last)
    for day in (MINUTES[-1] - timedelta(days=i) for i in range((MINUTES[-1] - MINUTES[0]).days + 1)):
        backfill(warehouse, abc, INTRADAY, day, day)
    assert differences(tables(warehouse.conn), whole) == []


def test_a_restated_day_reaches_the_features_of_its_split_week_though_the_stored_week_stays(
    warehouse: Warehouse, exchange: Exchange
) -> None:
    abc = listed(warehouse)
    tell(warehouse, abc)
    load(warehouse, abc)
    before = tables(warehouse.conn)
    thursday = micros(date(2024, 11, 14), 0)
    opening, high, *rest = exchange.days[thursday]
    exchange.days[thursday] = (opening, high * 1.5, *rest)  # the week's highest price, in new shares
    query(warehouse, "UPDATE coverage SET valid_until = '2024-01-01' WHERE timeframe = '1d'")
    backfill(warehouse, abc, DAILY, date(2024, 11, 11), date(2024, 11, 15))
    after = tables(warehouse.conn)
    assert {row.split("\t")[1] for row in set(after["bars"]) ^ set(before["bars"])} == {"1d"}
    assert "1w" in {row.split("\t")[1] for row in set(after["features"]) ^ set(before["features"])}
    assert differences(after, known_from_the_start(warehouse)) == []


def test_a_mark_of_a_chain_without_bars_goes_without_a_row_written(warehouse: Warehouse) -> None:
    abc = listed(warehouse)
    tell(warehouse, abc)
    assert [refresh(warehouse, abc, chain) for chain in CHAINS] == [0, 0]
    assert query(warehouse, "SELECT * FROM features_stale") == []
