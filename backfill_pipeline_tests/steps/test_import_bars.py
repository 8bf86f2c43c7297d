"""Files of bars into a warehouse, stored as a provider's answer is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from backfill_pipeline import read_bars
from backfill_pipeline.domain.completeness import State
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline.steps.nightly import nightly_tasks
from backfill_pipeline.steps.sampling import take_sample
from backfill_pipeline.steps.task import survey as partitions
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps.imports import DAYS, LATER, NAMES, contents, look, minutes, request, save, take
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    backfill,
    listed,
    micros,
    opened,
    query,
    row_of,
    task,
)


@pytest.fixture
def exchange() -> Exchange:
    """It serves other years: what is imported can be had from nobody else."""
    return Exchange(serves=(date(2020, 1, 1), date(2020, 12, 31)))


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        listed(made)
        yield made


def state(warehouse: Warehouse, chain: Chain, first: date, last: date) -> set[State]:
    (instrument,) = [listed(warehouse)]
    return set(partitions(warehouse, task(warehouse, instrument, chain, first, last)).values())


def test_a_file_is_stored_as_an_answer_is(
    database_url: str, tmp_path: Path, warehouse: Warehouse, exchange: Exchange
) -> None:
    """The oracle: the same rows sent by a provider."""
    exchange.trade(DAYS)
    sent = listed(warehouse, "SENT")
    exchange.serves = (date(2020, 1, 1), date(2024, 12, 31))
    backfill(warehouse, sent, INTRADAY, DAYS[0], DAYS[-1])
    exchange.serves, exchange.requests = (date(2020, 1, 1), date(2020, 12, 31)), []

    (found,) = take(warehouse, request(save(tmp_path, minutes().sample(frac=1, random_state=1))))

    assert (found.sessions, found.bars, found.incomplete, found.notes) == (3, 1170, 0, [])
    for table in ("bars", "features", "session_status"):
        (mine, theirs) = (
            query(
                warehouse,
                f"SELECT to_jsonb(t) - 'symbol_id' - 'provider' - 'checked_at' FROM {table} AS t JOIN symbols"
                " USING (symbol_id) WHERE symbol = %s ORDER BY 1",
                symbol,
            )
            for symbol in ("ABC", "SENT")
        )
        assert mine == theirs, table
    assert query(warehouse, "SELECT DISTINCT provider FROM bars ORDER BY 1") == [("exchange",), ("import:mine",)]
    assert len(read_bars("ABC", "30m", DAYS[0], DAYS[-1], on_incomplete="raise", url=database_url)) == 39


def test_nobody_is_asked_for_imported_sessions_and_they_are_complete(
    tmp_path: Path, warehouse: Warehouse, exchange: Exchange
) -> None:
    exchange.serves = (date(2020, 1, 1), date(2024, 12, 31))
    take(warehouse, request(save(tmp_path, minutes())))
    assert state(warehouse, INTRADAY, DAYS[0], DAYS[-1]) == {"complete"}
    assert take_sample(warehouse) == 0
    outcomes = backfill(warehouse, listed(warehouse), INTRADAY, DAYS[0], DAYS[-1])
    assert {outcome.state for outcome in outcomes.values()} == {"complete"}
    exchange.serves = (date(2020, 1, 1), date(2020, 12, 31))
    assert state(warehouse, INTRADAY, DAYS[0], DAYS[-1]) == {"complete"}, "no provider need serve them"
    assert list(nightly_tasks(warehouse, {"intraday": DAYS[0], "daily": DAYS[0]})) == []
    assert exchange.requests == []


def test_a_dry_run_says_all_and_stores_nothing(tmp_path: Path, warehouse: Warehouse) -> None:
    frame = minutes()
    frame.loc[5, "high"] = 1.0
    frame = pd.concat([frame, frame.iloc[[7]].assign(ts=micros(DAYS[0], 3))])
    frame = pd.concat([frame, frame.iloc[[7]].assign(ts=micros(date(2024, 5, 4), 10))])
    before = contents(warehouse)

    (found,) = look(warehouse, request(save(tmp_path, frame)))

    assert (found.rows, found.sessions, found.bars, found.outside) == (1172, 3, 1169, 2)
    assert dict(found.refused) == {"high is below open or close": 1}
    assert (found.first, found.last) == (DAYS[0], DAYS[-1])
    assert contents(warehouse) == before
    (stored,) = take(warehouse, request(tmp_path / "mine.csv"))
    assert (stored.bars, stored.incomplete) == (1169, 1)
    assert query(warehouse, "SELECT reason, provider FROM quarantine") == [
        ("high is below open or close", "import:mine")
    ]
    gaps = query(warehouse, "SELECT lower(time_window) FROM gaps WHERE resolved_at IS NULL")
    assert gaps == [(datetime(2024, 5, 6, 13, 35, tzinfo=UTC),)]


def test_sessions_of_another_provider_stay_unless_they_are_to_be_replaced(
    tmp_path: Path, warehouse: Warehouse, exchange: Exchange
) -> None:
    exchange.serves = (date(2020, 1, 1), date(2024, 12, 31))
    exchange.trade(DAYS[1:2])
    backfill(warehouse, listed(warehouse), INTRADAY, DAYS[1], DAYS[1])
    frame = minutes().assign(volume=5.0)
    path = save(tmp_path, frame[frame["ts"] != micros(DAYS[1], 3)])  # even if the other provider has more
    whose = "SELECT session, string_agg(DISTINCT provider, ' ') FROM bars GROUP BY session ORDER BY session"

    (found,) = take(warehouse, request(path))

    assert (found.sessions, dict(found.kept)) == (2, {"exchange": 1})
    assert [name for _, name in query(warehouse, whose)] == ["import:mine", "exchange", "import:mine"]
    (found,) = take(warehouse, request(path, replace=True))
    assert (found.sessions, dict(found.kept)) == (3, {})
    assert [name for _, name in query(warehouse, whose)] == ["import:mine"] * 3
    assert query(warehouse, "SELECT count(*) FROM bar_revisions") == [(390,)]


def test_another_import_of_the_same_name_changes_what_differs(tmp_path: Path, warehouse: Warehouse) -> None:
    path = save(tmp_path, minutes())
    take(warehouse, request(path))
    frame = minutes()
    frame.loc[10, "volume"] = 7.0
    take(warehouse, request(save(tmp_path, frame)))
    assert query(warehouse, "SELECT kind FROM bar_revisions") == [("restated",)]
    assert query(warehouse, "SELECT volume FROM bars WHERE timeframe = '1m' AND volume = 7") == [(7.0,)]


def test_labels_of_ends_and_local_times_mean_the_same_bars(tmp_path: Path, warehouse: Warehouse) -> None:
    take(warehouse, request(save(tmp_path, minutes())))
    before = query(warehouse, "SELECT md5(string_agg(b::text, ' ' ORDER BY timeframe, ts)) FROM bars AS b")
    frame = minutes()
    ends = pd.to_datetime(frame["ts"], unit="us", utc=True).dt.tz_convert("America/New_York") + timedelta(minutes=1)
    frame["ts"] = ends.dt.tz_localize(None)
    (found,) = take(warehouse, request(save(tmp_path, frame), tz="America/New_York", label="end"))
    assert found.bars == 1170
    assert query(warehouse, "SELECT md5(string_agg(b::text, ' ' ORDER BY timeframe, ts)) FROM bars AS b") == before


def test_days_are_sessions_by_their_date_and_weeks_follow(tmp_path: Path, warehouse: Warehouse) -> None:
    days = [day.date() for day in pd.bdate_range("2024-05-06", "2024-05-17")]
    rows = [(day, *row_of(micros(day, 12))) for day in days]
    frame = pd.DataFrame(rows, columns=["Date", *NAMES[1:]])
    frame.to_parquet(tmp_path / "days.parquet")
    (found,) = take(warehouse, request(tmp_path / "days.parquet", "1d"))
    assert (found.sessions, found.incomplete) == (10, 0)
    starts = query(warehouse, "SELECT timeframe::text, ts FROM bars ORDER BY timeframe, ts")
    assert starts[0] == ("1d", datetime(2024, 5, 6, 4, tzinfo=UTC))
    assert [ts for timeframe, ts in starts if timeframe == "1w"] == [starts[0][1], starts[5][1]]
    assert state(warehouse, DAILY, days[0], days[-1]) == {"complete"}


def test_several_symbols_come_in_any_order(tmp_path: Path, warehouse: Warehouse) -> None:
    for symbol in ("NA", "1e5"):
        listed(warehouse, symbol)
    frames = [minutes(DAYS[:2]).assign(ticker=symbol) for symbol in ("NA", "1e5")]
    frame = pd.concat(frames).sort_values("ts", kind="stable")
    found = take(warehouse, request(save(tmp_path, frame), symbol=None))
    assert {one.symbol: (one.sessions, one.bars) for one in found} == {"NA": (2, 780), "1e5": (2, 780)}
    stored = query(
        warehouse, "SELECT symbol, count(*) FROM market_data_all WHERE timeframe = '1m' GROUP BY 1 ORDER BY 1"
    )
    assert stored == [("1e5", 780), ("NA", 780)]


def test_what_spans_years_is_spooled_by_the_half_year(tmp_path: Path, warehouse: Warehouse) -> None:
    days = [day.date() for day in pd.bdate_range("2024-01-02", "2024-12-31") if day.day < 6 and day.month in (6, 7, 12)]
    days = [day for day in days if day not in (date(2024, 7, 4),)]
    warehouse.now.now = datetime(2025, 3, 1, tzinfo=UTC)  # type: ignore[attr-defined]  # the tests' clock
    frame = minutes(days)
    (found,) = take(warehouse, request(save(tmp_path, frame[::-1])))
    assert (found.sessions, found.bars, found.incomplete) == (len(days), len(frame), 0)
