"""However a backfill is cut, ordered and spread over time, the tables end up the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.grain import GRAINS, Grain
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.domain.windows import Window, to_datetime
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps.warehouses import (
    Clock,
    at,
    backfill,
    both_chains,
    empty,
    listed,
    micros,
    ny,
    opened,
)
from backfill_pipeline_tests.tables import differences, tables

# The clocks change on 2024-11-03, 11-29 and 12-24 are half days, and a year ends.
FIRST, LAST = date(2024, 10, 30), date(2025, 1, 8)
DAYS = (LAST - FIRST).days + 1
LATER = datetime(2025, 3, 1, tzinfo=UTC)
HOLES = {
    "ABC": [
        Window(micros(date(2024, 11, 4), 9, 30), micros(date(2024, 11, 4), 10, 7)),
        Window(micros(date(2024, 11, 29), 12, 59), micros(date(2024, 12, 2), 9, 31)),
        Window(micros(date(2024, 12, 30), 0), micros(date(2024, 12, 31), 0)),
    ]
}

# The database is emptied for every example.
QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@st.composite
def cuttings(draw: st.DrawFn) -> list[tuple[date, date]]:
    """Stretches of days that together are the whole range, some of them overlapping, in any order."""
    cuts = sorted(draw(st.sets(st.integers(1, DAYS - 1), min_size=1, max_size=4)))
    edges = [0, *cuts, DAYS]
    reach = draw(st.lists(st.integers(0, 9), min_size=len(cuts) + 1, max_size=len(cuts) + 1))
    pieces = [(max(0, a - over), b - 1) for (a, b), over in zip(pairwise(edges), reach, strict=True)]
    return [(FIRST + timedelta(days=a), FIRST + timedelta(days=b)) for a, b in draw(st.permutations(pieces))]


@settings(max_examples=4, **QUIET)
@given(
    cutting=cuttings(),
    grains=st.tuples(st.sampled_from(GRAINS), st.sampled_from(GRAINS)),
    extended=st.booleans(),
)
def test_any_cutting_into_tasks_in_any_order_gives_the_tables_of_one_run(
    database_url: str, cutting: list[tuple[date, date]], grains: tuple[Grain, Grain], *, extended: bool
) -> None:
    with opened(database_url, SyntheticProvider(extended=extended, withheld=HOLES), LATER) as plain:
        empty(plain)
        both_chains(plain, listed(plain), FIRST, LAST)
        whole = tables(plain.conn)
        assert len(whole["wanted"]) == 2
        empty(plain)
        cut = Warehouse(plain.conn, plain.router, Clock(LATER), *grains)
        abc = listed(cut)
        for first, last in cutting:
            for chain in CHAINS:
                backfill(cut, abc, chain, first, last)
        assert differences(tables(cut.conn), whole) == []


@settings(max_examples=3, **QUIET)
@given(st.lists(st.integers(0, 15 * 24 * 60), min_size=3, max_size=12))
def test_runs_at_any_moments_end_in_the_tables_of_one_run_at_the_last(database_url: str, moments: list[int]) -> None:
    first, last = date(2024, 11, 22), date(2024, 12, 6)
    clocks = [ny(first, 0) + timedelta(minutes=minute) for minute in sorted(moments)]
    with opened(database_url, SyntheticProvider(extended=True, withheld=HOLES), LATER) as warehouse:
        empty(warehouse)
        abc = listed(warehouse)
        for clock in clocks:
            both_chains(at(warehouse, clock), abc, first, last)
        night_by_night = tables(warehouse.conn)
        empty(warehouse)
        both_chains(at(warehouse, clocks[-1]), listed(warehouse), first, last)
        assert differences(night_by_night, tables(warehouse.conn)) == []


def test_day_by_day_is_the_whole_history(database_url: str) -> None:
    first, last = date(2024, 11, 25), date(2024, 12, 6)
    with opened(database_url, SyntheticProvider(extended=True, withheld=HOLES), LATER) as warehouse:
        abc = listed(warehouse)
        for passed in range((last - first).days + 1):
            day = first + timedelta(days=passed)
            both_chains(at(warehouse, ny(day, 20, 30)), abc, first, day)
        incremental = tables(warehouse.conn)
        empty(warehouse)
        both_chains(at(warehouse, ny(last, 20, 30)), listed(warehouse), first, last)
        assert differences(incremental, tables(warehouse.conn)) == []


def test_withheld_minutes_are_exactly_what_is_missing(database_url: str) -> None:
    with opened(database_url, SyntheticProvider(withheld=HOLES), LATER) as warehouse:
        outcomes = backfill(warehouse, listed(warehouse), CHAINS[0], FIRST, LAST)
        missing = {key: o.message.split(": ")[1] for key, o in outcomes.items() if o.state == "incomplete"}
        assert missing == {
            "2024-11-04": "37 of 390 bars are missing",
            "2024-11-29": "1 of 210 bars are missing",
            "2024-12-02": "1 of 390 bars are missing",
            "2024-12-30": "390 of 390 bars are missing",
        }
        with warehouse.conn, warehouse.conn.cursor() as cursor:
            cursor.execute("SELECT DISTINCT ts FROM bars WHERE timeframe = '1m'")
            stored = {row[0] for row in cursor.fetchall()}
        assert not [
            ts for hole in HOLES["ABC"] for ts in stored if to_datetime(hole.start) <= ts < to_datetime(hole.end)
        ]
