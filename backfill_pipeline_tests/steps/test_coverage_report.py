"""What is said of a range: slices, what is missing of it, how long that takes. And that nothing is asked or written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.grain import period_of
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Timeframe, chain_of
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.steps.coverage_report import CoverageReport, InFlight, Stretch, coverage_report
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline_tests.steps.warehouses import Exchange, at, backfill, listed, micros, opened, query, task

NOW = datetime(2024, 6, 3, 15, tzinfo=UTC)  # Monday, an hour and a half into New York's session
WEEK = [date(2024, 5, day) for day in (20, 21, 22, 23, 24)]
# Memorial Day is Monday 27 May.
LAST_WEEK = [date(2024, 5, day) for day in (28, 29, 30, 31)]


class Priced(Exchange):
    """Every request waits 12 s for its turn."""

    __hash__ = object.__hash__

    def expected_wait(self, requests: int) -> float:
        return 12.0 * requests


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade([*WEEK, *LAST_WEEK])


@pytest.fixture
def site(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, NOW) as warehouse:
        yield warehouse


def report(
    site: Warehouse,
    instrument: Instrument,
    timeframe: Timeframe,
    first: date,
    last: date,
    in_flight: InFlight | None = None,
) -> CoverageReport:
    return coverage_report(site, task(site, instrument, chain_of(timeframe), first, last), timeframe, in_flight)


def slices(found: CoverageReport) -> tuple[int, int, float]:
    progress = found.backfill_progress
    return progress.completed_slices, progress.total_slices, progress.progress_percent


def test_a_range_nobody_asked_for_is_missing_as_one_stretch_over_the_weekend_and_the_holiday(site: Warehouse) -> None:
    found = report(site, listed(site), "1h", WEEK[0], LAST_WEEK[-1])

    assert found.status == "gaps_detected"
    assert slices(found) == (0, 9, 0.0)
    assert found.missing == (Stretch(WEEK[0], LAST_WEEK[-1], 9),)
    assert found.next_command == "backfill run --symbols ABC --timeframes 1h --start 2024-05-20 --end 2024-05-31"


def test_what_is_stored_is_complete_and_counted_in_the_asked_timeframe(site: Warehouse) -> None:
    stock = listed(site)
    backfill(site, stock, INTRADAY, WEEK[0], WEEK[-1])

    hours, minutes = (report(site, stock, timeframe, WEEK[0], date(2024, 5, 26)) for timeframe in ("1h", "1m"))

    assert (hours.status, slices(hours), hours.missing) == ("coverage_complete", (5, 5, 100.0), ())
    assert (hours.backfill_progress.bars_written, minutes.backfill_progress.bars_written) == (5 * 7, 5 * 390)
    assert (hours.eta_seconds, hours.next_command, hours.served) == (None, None, None)


def test_an_absent_hour_makes_its_session_missing_and_the_newest_is_named_first(
    site: Warehouse, exchange: Exchange
) -> None:
    exchange.silent = [Window(micros(day, 11), micros(day, 12)) for day in (WEEK[1], WEEK[3], WEEK[4], LAST_WEEK[0])]
    stock = listed(site)
    backfill(site, stock, INTRADAY, WEEK[0], LAST_WEEK[-1])

    found = report(site, stock, "5m", WEEK[0], LAST_WEEK[-1])

    assert found.missing == (Stretch(WEEK[3], LAST_WEEK[0], 3), Stretch(WEEK[1], WEEK[1], 1))
    assert slices(found) == (5, 9, 55.55), "cut: five ninths are 55.555 %"
    assert found.next_command == "backfill run --symbols ABC --timeframes 5m --start 2024-05-21 --end 2024-05-28"


def test_a_month_is_one_slice_of_days(site: Warehouse) -> None:
    stock = listed(site)
    backfill(site, stock, DAILY, *(LAST_WEEK[0], LAST_WEEK[-1]))

    found = report(site, stock, "1w", date(2024, 4, 29), NOW.date())

    assert slices(found) == (0, 2, 0.0), "nothing of June is due yet"
    assert found.missing == (Stretch(date(2024, 4, 29), WEEK[-1], 20),)
    assert slices(report(site, stock, "1d", LAST_WEEK[0], NOW.date())) == (1, 1, 100.0)


def test_a_session_that_is_not_due_is_no_slice_until_it_is(site: Warehouse, exchange: Exchange) -> None:
    stock, today = listed(site), NOW.date()
    exchange.trade([today])
    backfill(site, stock, INTRADAY, LAST_WEEK[-1], today)

    assert slices(report(site, stock, "1m", LAST_WEEK[-1], today)) == (1, 1, 100.0)
    tonight = at(site, datetime(2024, 6, 4, 1, tzinfo=UTC))
    assert slices(report(tonight, stock, "1m", LAST_WEEK[-1], today)) == (1, 2, 50.0)


def test_days_without_trade_have_nothing_that_could_be_missing(site: Warehouse) -> None:
    found = report(site, listed(site), "1m", date(2024, 5, 25), date(2024, 5, 27))

    assert (found.status, slices(found)) == ("coverage_complete", (0, 0, 100.0))


def test_sessions_before_a_symbol_was_listed_are_not_missing(site: Warehouse) -> None:
    young = listed(site, "YOUNG", lifetime=(WEEK[3], LAST_WEEK[0]))

    assert report(site, young, "1m", WEEK[0], LAST_WEEK[-1]).missing == (Stretch(WEEK[3], LAST_WEEK[0], 3),)


def test_what_nobody_serves_is_said_and_not_counted(site: Warehouse, exchange: Exchange) -> None:
    stock = listed(site)
    exchange.serves = (WEEK[2], LAST_WEEK[-1])
    backfill(site, stock, INTRADAY, WEEK[0], WEEK[-1])

    found = report(site, stock, "1m", WEEK[0], WEEK[-1])

    assert (found.status, slices(found)) == ("coverage_complete", (3, 3, 100.0))
    assert found.served == "the exchange serves 2024-05-22 to 2024-05-31"
    assert report(site, stock, "1m", WEEK[2], WEEK[-1]).served is None


def test_a_range_of_which_nothing_is_served_is_not_complete(site: Warehouse, exchange: Exchange) -> None:
    exchange.serves = (LAST_WEEK[0], LAST_WEEK[-1])

    found = report(site, listed(site), "1m", WEEK[0], WEEK[-1])

    assert (found.status, slices(found), found.missing) == ("gaps_detected", (0, 0, 0.0), ())
    assert (found.eta_seconds, found.next_command) == (None, None)


def test_runs_split_what_is_missing_into_running_queued_and_waiting(site: Warehouse) -> None:
    stock = listed(site)
    backfill(site, stock, INTRADAY, WEEK[4], WEEK[4])
    days = [period_of(day, "day") for day in WEEK]
    hands = InFlight(frozenset(days[2:]), frozenset(days[1:]))

    found = report(site, stock, "1m", WEEK[0], WEEK[-1], hands)

    progress = found.backfill_progress
    assert found.status == "backfilling"
    assert (progress.completed_slices, progress.running_slices, progress.queued_slices, progress.waiting) == (
        1,
        2,
        1,
        1,
    )
    nobody = report(site, stock, "1m", WEEK[0], WEEK[-1], InFlight(frozenset(days[4:]), frozenset()))
    assert nobody.status == "gaps_detected", "the run is at a day that is there already"
    unknown = report(site, stock, "1m", WEEK[0], WEEK[-1])
    assert unknown.status == "gaps_detected"
    assert (unknown.backfill_progress.running_slices, unknown.backfill_progress.queued_slices) == (None, None)


def test_the_time_is_that_of_the_requests_still_to_ask(database_url: str) -> None:
    priced = Priced(page=50_000).trade(WEEK)
    with opened(database_url, priced, NOW) as site:
        stock = listed(site)
        half_year = report(site, stock, "1m", date(2023, 12, 1), LAST_WEEK[-1])
        assert half_year.missing[0].sessions == 20 + 21 + 20 + 20 + 22 + 22
        # 52 whole sessions of 960 minutes fit into a page.
        assert half_year.eta_seconds == 3 * 12
        assert priced.requests == []
        backfill(site, stock, INTRADAY, *(WEEK[0], WEEK[-1]))
        assert report(site, stock, "1m", WEEK[0], LAST_WEEK[-1]).eta_seconds == 12, "one request for the last week"


def test_a_report_asks_nobody_and_writes_nothing(site: Warehouse, exchange: Exchange) -> None:
    stock = listed(site)
    backfill(site, stock, INTRADAY, WEEK[0], WEEK[2])
    names = query(site, "SELECT relname FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relkind = 'r'")
    version = "SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM {}"
    before = [query(site, version.format(name)) for (name,) in names]
    asked = len(exchange.requests)

    assert report(site, stock, "1m", WEEK[0], LAST_WEEK[-1]).status == "gaps_detected"
    assert report(site, stock, "1d", WEEK[0], LAST_WEEK[-1]).status == "gaps_detected"

    assert [query(site, version.format(name)) for (name,) in names] == before
    assert len(exchange.requests) == asked
