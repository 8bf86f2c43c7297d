"""A session of which the preferred provider has nothing, or not all: the next one is asked, and whose bars it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Chain
from backfill_pipeline_tests.standin import Market, StandIn, write_flat_files
from backfill_pipeline_tests.steps.sources import Desk, days_between, desk
from backfill_pipeline_tests.steps.warehouses import listed, query

# New York's summer: the regular session is 13:30 to 20:00 UTC.
MON, TUE, WED, THU, FRI = days_between(date(2024, 5, 6), date(2024, 5, 10))
LATER = datetime(2024, 5, 20, 12, tzinfo=UTC)
BOTH = ("files", "polygon")
NAMES = ("AAPL", "MSFT")
ELEVEN, HALF_PAST = datetime(2024, 5, 8, 15, tzinfo=UTC), datetime(2024, 5, 8, 15, 30, tzinfo=UTC)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=NAMES), now=LATER) as started:
        yield started


@pytest.fixture
def site(database_url: str, standin: StandIn, tmp_path: Path) -> Iterator[Desk]:
    with desk(database_url, standin, tmp_path, LATER) as made:
        yield made


def write(
    site: Desk, *days: date, names: tuple[str, ...] = NAMES, without: tuple[datetime, datetime] | None = None
) -> None:
    market = Market(symbols=NAMES)
    if without:
        market.withhold("AAPL", *without)
    write_flat_files(site.folder, market, names, days)


def stored(site: Desk) -> list[tuple[object, ...]]:
    return query(
        site.conn_of,
        "SELECT session, timeframe::text, count(*), sum(volume), count(DISTINCT provider) FROM bars"
        " GROUP BY session, timeframe ORDER BY session, timeframe",
    )


def open_gaps(site: Desk) -> list[tuple[object, ...]]:
    return query(
        site.conn_of, "SELECT expected, verdict, attempts FROM gaps WHERE resolved_at IS NULL ORDER BY time_window"
    )


def run(site: Desk, *providers: str, again: bool = True, chain: Chain = INTRADAY) -> set[str]:
    tasks = site.tasks([listed(site.conn_of, "AAPL")], chain, MON, FRI)
    told = site.run(providers, [replace(one, again=again) for one in tasks])
    assert told.error is None
    return {outcome.state for outcome in told.outcomes}


@pytest.mark.parametrize("chain", [INTRADAY, DAILY], ids=["minutes", "days"])
def test_a_day_whose_file_has_nothing_of_the_symbol_comes_from_polygon_in_the_same_run(
    site: Desk, chain: Chain
) -> None:
    write(site, MON, TUE, THU, FRI)
    write(site, WED, names=("MSFT",))
    assert run(site, *BOTH, chain=chain) == {"complete"}
    base = "1m" if chain is INTRADAY else "1d"
    assert site.sources(base) == {MON: "files", TUE: "files", WED: "polygon", THU: "files", FRI: "files"}
    assert len(site.asked("polygon")) == 1
    assert query(site.conn_of, "SELECT DISTINCT provider FROM session_status WHERE session = %s", WED) == [("polygon",)]
    before = stored(site)

    site.standin.reset()
    assert run(site, *BOTH, chain=chain) == {"complete"}
    assert (site.asked("polygon"), stored(site)) == ([], before)


def test_what_nobody_has_is_asked_of_both_and_counts_as_one_attempt_a_day(site: Desk) -> None:
    write(site, MON, TUE, THU, FRI)
    write(site, WED, names=("MSFT",))
    site.standin.market.withhold("AAPL", datetime(2024, 5, 8, 4, tzinfo=UTC), datetime(2024, 5, 9, 4, tzinfo=UTC))
    asked = []
    for days in (0, 0.5, 1, 1.5, 2, 3, 9):
        site.at(LATER + timedelta(days=days))
        site.standin.reset()
        site.standin.set(now=LATER + timedelta(days=days))
        assert run(site, *BOTH, again=False) == {"complete", "incomplete"}
        asked.append(len(site.asked("polygon")))
    assert asked == [2, 0, 1, 0, 1, 0, 1]  # the second: did anything trade that day at all?
    assert open_gaps(site) == [(390, "missing", 3)]


def test_a_half_hour_that_the_file_lacks_comes_from_polygon_at_the_next_attempt_with_the_whole_session(
    site: Desk,
) -> None:
    """A session is one provider's: half a day of one and half of another has jumps that nobody traded."""
    write(site, MON, TUE, THU, FRI)
    write(site, WED, without=(ELEVEN, HALF_PAST))
    assert run(site, "files", chain=DAILY) == {"complete"}
    assert run(site, *BOTH) == {"complete", "incomplete"}
    assert site.asked("polygon") == []
    assert open_gaps(site) == [(30, "outage", 0)]

    site.at(LATER + timedelta(days=1))
    assert run(site, *BOTH, again=False) == {"complete"}
    assert len(site.asked("polygon")) == 1
    assert site.sources() == {MON: "files", TUE: "files", WED: "polygon", THU: "files", FRI: "files"}
    assert open_gaps(site) == []
    assert query(site.conn_of, "SELECT resolution FROM gaps") == [("filled",)]
    with_all = [row for row in stored(site) if row[0] == WED]

    site.at(LATER + timedelta(days=8))  # nobody is asked again, and whoever comes back does not take it over
    write(site, WED)
    assert run(site, *BOTH) == {"complete"}
    assert [row for row in stored(site) if row[0] == WED] == with_all
    assert len(site.asked("polygon")) == 1


def test_of_two_that_lack_bars_the_one_with_more_is_kept_and_the_preferred_one_where_they_are_even(site: Desk) -> None:
    write(site, MON, TUE, THU, FRI)
    write(site, WED, without=(ELEVEN, HALF_PAST))
    assert run(site, "files", chain=DAILY) == {"complete"}
    assert run(site, *BOTH) == {"complete", "incomplete"}
    before = stored(site)

    site.standin.market.withhold("AAPL", ELEVEN - timedelta(minutes=5), HALF_PAST)
    site.at(LATER + timedelta(days=1))
    assert run(site, *BOTH, again=False) == {"complete", "incomplete"}
    assert len(site.asked("polygon")) == 1
    assert (stored(site), open_gaps(site)) == (before, [(30, "outage", 1)])
    assert site.sources()[WED] == "files"


def test_corrections_come_from_the_provider_whose_bars_are_stored(site: Desk) -> None:
    """On the evening after Wednesday, the file of Wednesday lacks the symbol; on Thursday Polygon corrects a bar."""
    write(site, MON, TUE)
    write(site, WED, THU, FRI, names=("MSFT",))
    site.at(datetime(2024, 5, 9, 16, tzinfo=UTC))
    site.run(BOTH, site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, MON, WED))
    assert site.sources() == {MON: "files", TUE: "files", WED: "polygon"}
    site.standin.market.restate("AAPL", ELEVEN, volume=12345.0)
    site.at(datetime(2024, 5, 10, 16, tzinfo=UTC))
    site.run(BOTH, site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, MON, WED))
    corrected = "SELECT volume, provider FROM bars WHERE timeframe = '1m' AND ts = %s"
    assert query(site.conn_of, corrected, ELEVEN) == [(12345.0, "polygon")]
