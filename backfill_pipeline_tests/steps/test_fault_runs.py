"""The fault table through whole runs into the database: bars right or absent, partitions classed, one clear line, true
coverage; and the next run without the fault ends in the tables of a clean one.

Each fault strikes a run of minutes (a window in three pages), of days (a window in three pages), and of days that come
by the market (two requests for three symbols).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.providers.errors import ProviderStopped, Unreachable
from backfill_pipeline.providers.http import Patience
from backfill_pipeline.providers.polygon import PolygonProvider
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import database
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.providers.test_polygon_faults import CASES, Case
from backfill_pipeline_tests.standin import Market, StandIn
from backfill_pipeline_tests.steps.polygon_runs import Told, run, untrue
from backfill_pipeline_tests.steps.warehouses import empty, listed, opened, query, task
from backfill_pipeline_tests.tables import Tables, counts, differences, tables

NOW = datetime(2026, 8, 6, 12, tzinfo=UTC)
TOMORROW = NOW + timedelta(days=1)
KEY = "planted-key-0123456789"
PATIENCE = Patience(backoff=0.0001, connect=2.0, silence=0.3, whole=5.0)
WAYS = ("minutes", "days", "market")

# Bars as the provider has them at times: right as they are, until it restates them.
AS_SENT = {"missing_vw_n", "fractional_volume"}
MORE = [
    Case("429_retry_after"),
    Case("401", "some", kind=ProviderStopped, line=r"the key is not accepted \(401\)", options={"nth": 2}),
    # After a full page an empty one is not believed at once.
    Case("empty_absent", options={"nth": 2}),
    # Before the market opens nothing is expected, so nothing is missed by counting.
    Case("nan_price", "some", line="not a number", options={"row": 10}),
    Case("duplicate_conflicting", "some", line="rows of the same ts disagree", options={"row": 10}),
]
# What is refused of minutes is refused of days in other words, or as a conflict with the day that the stray row hit.
OF_DAYS = {"off_grid": "not the start of a day in", "outside_window": "rows of the same ts disagree"}
# Of kinds that are one to a run, the runs of minutes meet each, and those of days one.
TWINS = {"429_empty", "501", "502", "503", "504", "400_parameter", "empty_200", "empty_null", "null_price"}
# A whole market's day is one page, keyed by the date that was asked; its tickers stand in its rows.
NOT_OF_A_MARKET = re.compile("next_url|page|other_symbol|off_grid|outside_window")


def cases(way: str) -> Iterator[object]:
    for case in [*CASES, *MORE]:
        met = way == "minutes" or case.fault not in TWINS
        if case.fault in AS_SENT or not met or (way == "market" and NOT_OF_A_MARKET.search(case.fault)):
            continue
        if way == "days" and case.fault in OF_DAYS:
            case = replace(case, stored="some", line=OF_DAYS[case.fault])  # noqa: PLW2901  (the same case, told otherwise)
        if way == "market" and case.options.get("nth") == 2 and case.stored == "all":
            continue  # its pages are days
        yield pytest.param(way, case, id=f"{way} {case.id} {case.options or ''}".strip())


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    market = Market(symbols=("AAPL", "MSFT", "SPY"))
    market.split("AAPL", date(2026, 8, 3), 1, 2)  # so that adjusted bars are others
    with StandIn(market, now=NOW, keys=(KEY,)) as running:
        yield running


@pytest.fixture(scope="module")
def warehouse(server: EmbeddedServer, standin: StandIn) -> Iterator[Warehouse]:
    """One database for all cases, emptied before each: making one takes longer than a case."""
    with database(server) as url, opened(url, provider(standin), NOW) as made:
        yield made


@pytest.fixture(scope="module")
def clean(warehouse: Warehouse, standin: StandIn) -> dict[str, Tables]:
    """By way, the tables of a run that meets no fault; they hold the market's own bars."""
    found = {}
    for way in WAYS:
        empty(warehouse)
        told = go(warehouse, standin, way, NOW)
        assert (told.states, told.error, told.lines) == ({"complete"}, None, [])
        assert untrue(warehouse, standin.market) == []
        found[way] = tables(warehouse.conn)
        assert len(found[way]["bars"]) == {"minutes": 3810, "days": 26, "market": 6}[way]
    return found


def asking(standin: StandIn, way: str) -> PolygonProvider:
    made = provider(standin, patience=PATIENCE, page_rows={"minutes": 1000, "days": 10, "market": 50_000}[way])
    if way == "minutes":
        made._pages._per_session["AAPL"] = 30  # known as hardly trading: its window needs more pages than it thinks
    return made


def tasks_of(warehouse: Warehouse, way: str) -> list[Task]:
    names = ("AAPL", "MSFT", "SPY") if way == "market" else ("AAPL",)
    chain = INTRADAY if way == "minutes" else DAILY
    first = date(2026, 7, {"minutes": 29, "days": 1, "market": 30}[way])
    return [task(warehouse, listed(warehouse, name), chain, first, date(2026, 7, 31)) for name in names]


def go(warehouse: Warehouse, standin: StandIn, way: str, now: datetime) -> Told:
    return run(warehouse, asking(standin, way), tasks_of(warehouse, way), now)


@pytest.mark.parametrize(("way", "case"), [case for way in WAYS for case in cases(way)])
def test_a_run_that_meets_a_fault_stores_nothing_wrong_says_so_and_is_healed_by_the_next(
    warehouse: Warehouse, standin: StandIn, clean: dict[str, Tables], way: str, case: Case
) -> None:
    empty(warehouse)
    standin.reset()
    fault = standin.fault(case.fault, times=case.times, **case.options)
    told = go(warehouse, standin, way, NOW)
    assert fault.hit, "the fault did not strike: the case proves nothing"

    assert untrue(warehouse, standin.market) == []
    found = tables(warehouse.conn)
    assert set(finished(found)) <= set(finished(clean[way]))
    whole = counts(found) == counts(clean[way])
    assert_classed(told, case, whole=whole)
    assert_said(warehouse, told, case, whole=found == clean[way])
    assert standin.leaks == []

    standin.clear_faults()
    again = go(warehouse, standin, way, TOMORROW)
    assert (again.states, again.error) == ({"complete"}, None)
    assert differences(tables(warehouse.conn), clean[way]) == []


def finished(found: Tables) -> list[str]:
    """Bars of any timeframe that pass for final: one of a bucket that lacks minutes does not."""
    return [row for row in found["bars"] if row.split("\t")[-2] == "t"]


def assert_classed(told: Told, case: Case, *, whole: bool) -> None:
    """`whole`: no session lacks anything."""
    if case.kind is ProviderStopped or (case.kind is Unreachable and not told.outcomes):
        assert type(told.error) is case.kind
        assert told.states <= {"incomplete"}
    else:
        assert told.error is None
        assert ("incomplete" not in told.states) is whole
        assert told.states <= {"complete", "incomplete"}
    if case.stored == "all":
        assert whole


def assert_said(warehouse: Warehouse, told: Told, case: Case, *, whole: bool) -> None:
    """One line each, and the reason among them or beside the row that was refused."""
    refused = [str(reason) for (reason,) in query(warehouse, "SELECT reason FROM quarantine")]
    assert all("\n" not in line and KEY not in line and "Traceback" not in line for line in told.lines)
    if not whole:
        assert any(re.search(case.line or r"\d+ of \d+ bars are missing", line) for line in [*told.lines, *refused])
    if "incomplete" in told.states:
        assert told.error or any(re.search(case.line, line) for line in told.lines)


@pytest.mark.parametrize("way", WAYS)
def test_a_delayed_answer_is_a_full_one(
    warehouse: Warehouse, standin: StandIn, clean: dict[str, Tables], way: str
) -> None:
    empty(warehouse)
    standin.reset()
    standin.set(status="DELAYED")
    told = go(warehouse, standin, way, NOW)
    standin.set(status="OK")
    assert (told.states, told.lines) == ({"complete"}, [])
    assert differences(tables(warehouse.conn), clean[way]) == []


@pytest.mark.parametrize("fault", sorted(AS_SENT))
def test_what_was_sent_without_or_with_other_volumes_is_stored_so_and_restated_the_next_night(
    warehouse: Warehouse, standin: StandIn, fault: str
) -> None:
    """Inside the correction window every night asks again; what then differs is a revision."""

    def nights(*, faulty: bool) -> Tables:
        empty(warehouse)
        standin.reset()
        tasks = [task(warehouse, listed(warehouse, "AAPL"), INTRADAY, date(2026, 8, 4), date(2026, 8, 5))]
        if faulty:
            standin.fault(fault, times=None)
        first = run(warehouse, asking(standin, "minutes"), tasks, NOW)
        altered = "timeframe = '1m' AND (vwap IS NULL OR volume::numeric % 1 = 0.123456)"
        assert query(warehouse, f"SELECT count(*) FROM bars WHERE {altered}") == [(1920 if faulty else 0,)]
        standin.clear_faults()
        second = run(warehouse, asking(standin, "minutes"), tasks, TOMORROW)
        assert first.states == second.states == {"complete"}
        assert untrue(warehouse, standin.market) == []
        return tables(warehouse.conn)

    right = nights(faulty=False)
    assert query(warehouse, "SELECT count(*) FROM bar_revisions") == [(0,)]
    assert differences(nights(faulty=True), right) == []
    assert query(warehouse, "SELECT DISTINCT kind::text FROM bar_revisions") == [("restated",)]
