"""Flat files, Polygon, Tradier and Binance side by side: whose bars a session gets, and who takes over from whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline_tests.standin import Market, StandIn, write_flat_files
from backfill_pipeline_tests.steps.sources import Desk, days_between, desk, opened_files
from backfill_pipeline_tests.steps.warehouses import listed, query

# New York's summer: a session is 08:00 to 24:00 UTC, its regular part 13:30 to 20:00, and a day ends at 04:00 UTC.
MON, TUE, WED, THU, FRI = days_between(date(2024, 5, 6), date(2024, 5, 10))
NOON = datetime(2024, 5, 9, 16, tzinfo=UTC)  # Thursday
LATER = datetime(2024, 5, 20, 12, tzinfo=UTC)
NAMES = ("AAPL", "MSFT", "SPY", "IBM", "GOOG")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Market(symbols=NAMES), now=NOON) as started:
        yield started


@pytest.fixture
def site(database_url: str, standin: StandIn, tmp_path: Path) -> Iterator[Desk]:
    with desk(database_url, standin, tmp_path, NOON) as made:
        yield made


def write(site: Desk, *days: date) -> None:
    write_flat_files(site.folder, site.standin.market, NAMES, days)


def states(outcomes: Sequence[PartitionOutcome]) -> dict[str, set[str]]:
    """Partition → its states, of all symbols."""
    found: dict[str, set[str]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.period.key, set()).add(outcome.state)
    return found


def closes(site: Desk, symbol: str, day: date) -> list[tuple[object, ...]]:
    return query(
        site.conn_of,
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, close, volume FROM bars"
        " JOIN symbols USING (symbol_id) WHERE timeframe = '1m' AND symbol = %s AND session = %s ORDER BY ts",
        symbol,
        day,
    )


def truth(site: Desk, symbol: str, day: date, until: datetime | None = None) -> list[tuple[object, ...]]:
    bars = site.standin.market.minutes(symbol, site.standin.market.sessions(symbol).days_window(day, day))
    bars = bars.take(bars.ts < to_micros(until)) if until else bars
    return list(zip(*(c.tolist() for c in (bars.ts, bars.open, bars.close, bars.volume)), strict=True))


def test_history_is_the_files_the_last_days_polygons_and_today_tradiers_until_polygon_has_it(site: Desk) -> None:
    write(site, MON, TUE)
    stocks = [listed(site.conn_of, name) for name in NAMES[:3]]
    sources = ("files", "polygon", "tradier")
    with opened_files() as opened:
        told = site.run(sources, site.tasks(stocks, INTRADAY, MON, THU))
        assert sorted(opened) == [str(MON), str(TUE)]  # each once, whatever the number of symbols
    whole, going_on = {"complete"}, {"in progress"}
    keys = [str(day) for day in (MON, TUE, WED, THU)]
    assert states(told.outcomes) == dict(zip(keys, (whole, whole, whole, going_on), strict=True))
    assert (told.error, len(told.outcomes)) == (None, 12)
    assert site.sources() == {MON: "files", TUE: "files", WED: "polygon", THU: "tradier"}
    assert (len(site.asked("polygon")), len(site.asked("tradier"))) == (3, 3)
    for name in NAMES[:3]:
        for day in (MON, TUE, WED):
            assert closes(site, name, day) == truth(site, name, day)
        assert closes(site, name, THU) == truth(site, name, THU, until=NOON)
    final = "SELECT session, bool_or(final), bool_and(final) FROM bars GROUP BY session ORDER BY session"
    # Final is what is older than two sessions; of today nothing is.
    assert [(day, any_) for day, any_, _ in query(site.conn_of, final)] == [
        (MON, True),
        (TUE, False),
        (WED, False),
        (THU, False),
    ]

    site.at(datetime(2024, 5, 10, 4, 14, tzinfo=UTC))  # a minute before Polygon's Thursday is due
    told = site.run(sources, site.tasks(stocks, INTRADAY, THU, THU))
    assert states(told.outcomes) == {str(THU): {"in progress"}}
    assert site.sources()[THU] == "tradier"
    assert closes(site, "AAPL", THU) == truth(site, "AAPL", THU)

    site.at(datetime(2024, 5, 10, 4, 16, tzinfo=UTC))
    asked = len(site.asked("tradier"))
    told = site.run(sources, site.tasks(stocks, INTRADAY, MON, THU))
    assert states(told.outcomes) == {key: {"complete"} for key in keys}
    assert site.sources() == {MON: "files", TUE: "files", WED: "polygon", THU: "polygon"}
    assert len(site.asked("tradier")) == asked
    # Polygon counts trades, Tradier does not: every bar is another, none is lost.
    trades = "SELECT count(*), count(trades) FROM bars WHERE session = %s AND timeframe = '1m'"
    count = 3 * len(truth(site, "AAPL", THU))
    assert query(site.conn_of, trades, THU) == [(count, count)]
    statuses = "SELECT DISTINCT session, provider FROM session_status ORDER BY session"
    providers = [(MON, "files"), (TUE, "files"), (WED, "polygon"), (THU, "polygon")]
    assert query(site.conn_of, statuses) == providers


def test_a_missing_day_file_and_a_damaged_one_come_from_polygon_in_the_same_run(site: Desk) -> None:
    """The damaged one is the first that is read: a file is no sign that nothing can be had of the others."""
    site.at(LATER)
    write(site, *days_between(MON, FRI))
    site.damage(MON)
    site.damage(MON, "day")
    for kind in ("minute", "day"):
        site.file(WED, kind).unlink()
    stocks = [listed(site.conn_of, name) for name in NAMES]
    with opened_files() as opened:
        told = site.run(("files", "polygon"), site.tasks(stocks, INTRADAY, MON, FRI))
        assert sorted(opened) == [str(day) for day in days_between(MON, FRI)]
    assert (told.error, states(told.outcomes)) == (None, {str(d): {"complete"} for d in days_between(MON, FRI)})
    expected = {MON: "polygon", TUE: "files", WED: "polygon", THU: "files", FRI: "files"}
    assert site.sources() == expected
    assert len(site.asked("polygon")) == 5  # one a symbol, for both days

    site.standin.reset()
    told = site.run(("files", "polygon"), site.tasks(stocks, DAILY, MON, FRI))
    assert (told.error, states(told.outcomes)) == (None, {"2024-05": {"complete"}})
    assert site.sources("1d") == expected
    assert len(site.asked("polygon")) == 2  # two days of the whole market
    weeks = "SELECT count(*), sum(volume) FROM bars WHERE timeframe = '1w'"
    volume = sum(float(site.standin.market.days(name, MON, FRI).volume.sum()) for name in NAMES)
    assert query(site.conn_of, weeks) == [(5, pytest.approx(volume, rel=1e-12))]


def test_without_another_provider_the_missing_and_the_damaged_day_are_told_and_the_rest_is_done(site: Desk) -> None:
    site.at(LATER)
    write(site, *days_between(MON, FRI))
    site.damage(MON)
    site.file(WED).unlink()
    told = site.run(("files",), site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, MON, FRI))
    assert told.error is None
    monday, wednesday = sorted(told.lines)
    assert monday.startswith(f"AAPL {MON} 1m: 390 of 390 bars are missing (files: ")
    assert f"{MON}.csv.gz: the file is cut short or damaged; fetch it anew" in monday
    assert wednesday.startswith(f"AAPL {WED} 1m: 390 of 390 bars are missing (files: ")
    assert f"{WED}.csv.gz is missing" in wednesday
    assert site.sources() == dict.fromkeys((TUE, THU, FRI), "files")


def test_older_sessions_go_by_the_page_and_the_newest_first_though_a_file_is_newer(site: Desk) -> None:
    """Wednesday's file is there before it is due, so it is read with what is asked symbol by symbol."""
    site.at(datetime(2024, 5, 9, 12, tzinfo=UTC))
    write(site, WED)
    first = date(2023, 12, 7)  # 104 sessions of 960 minutes: two pages, and three if they were cut at New Year
    told = site.run(("files", "polygon"), site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, first, WED))
    assert (told.error, told.states) == (None, {"complete", "in progress"})
    assert [day for day, source in site.sources().items() if source == "files"] == [WED]
    starts = [int(path.split("/minute/")[1].split("/")[0]) for path in site.asked("polygon")]
    assert len(starts) == 2
    assert starts[1] < starts[0]


@pytest.mark.parametrize("too_old", ["refused", "clipped"])
def test_what_is_older_than_polygons_plan_comes_from_files_in_the_same_run(site: Desk, too_old: str) -> None:
    site.at(datetime(2026, 5, 9, 12, tzinfo=UTC))  # two years of 730 days: the plan begins on Thursday the 9th
    site.standin.set(history_years=2, too_old=too_old)
    first = date(2024, 5, 1)
    write(site, *days_between(first, WED))
    told = site.run(("polygon", "files"), site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, first, FRI))
    assert (told.error, set(states(told.outcomes))) == (None, {str(day) for day in days_between(first, FRI)})
    assert {outcome.state for outcome in told.outcomes} == {"complete"}
    found = site.sources()
    assert {day for day, source in found.items() if source == "polygon"} == {THU, FRI}
    assert {day for day, source in found.items() if source == "files"} == {
        day for day in days_between(first, WED) if day.weekday() < 5
    }
    served = "SELECT provider, (lower(time_window) AT TIME ZONE 'America/New_York')::date FROM served ORDER BY provider"
    assert query(site.conn_of, served) == [("files", first), ("polygon", THU)]


def test_what_polygon_refuses_for_good_the_next_provider_brings(site: Desk) -> None:
    site.at(LATER)
    site.standin.set(not_entitled=("/v2/aggs/",))
    first = date(2024, 5, 13)
    task = site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, first, date(2024, 5, 17))
    told = site.run(("polygon", "tradier"), task)
    assert (told.error, {outcome.state for outcome in told.outcomes}) == (None, {"complete"})
    assert set(site.sources().values()) == {"tradier"}
    assert (len(site.asked("polygon")), len(site.asked("tradier"))) == (1, 1)
    # What nobody has stays missing, with the reason; it is asked for once more, because a person may have paid.
    told = site.run(("polygon", "tradier"), site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, MON, TUE))
    assert {outcome.state for outcome in told.outcomes} == {"incomplete"}
    assert all("not entitled to this data" in line for line in told.lines)


def test_bitcoin_at_one_venue_is_never_a_stand_in_for_bitcoin_over_all(site: Desk) -> None:
    site.at(LATER)
    coins = {name: listed(site.conn_of, name, "crypto", "24/7") for name in ("BTCUSDT", "X:BTCUSD")}
    told = site.run(("binance",), site.tasks(list(coins.values()), INTRADAY, MON, MON))
    assert {outcome.symbol: outcome.state for outcome in told.outcomes} == {
        "BTCUSDT": "complete",
        "X:BTCUSD": "not served",
    }
    assert site.sources(symbol="BTCUSDT") == {MON: "binance"}
    assert site.sources(symbol="X:BTCUSD") == {}
    assert all("symbol=BTCUSDT&" in path for path in site.asked("binance"))

    told = site.run(("polygon", "binance"), site.tasks(list(coins.values()), INTRADAY, MON, TUE))
    assert {outcome.state for outcome in told.outcomes} == {"complete"}
    assert site.sources(symbol="X:BTCUSD") == {MON: "polygon", TUE: "polygon"}
    assert site.sources(symbol="BTCUSDT") == {MON: "binance", TUE: "binance"}
    site.standin.set(not_entitled=("X:BTCUSD",))
    told = site.run(("polygon", "binance"), site.tasks([coins["X:BTCUSD"]], INTRADAY, WED, WED))
    assert [outcome.state for outcome in told.outcomes] == ["incomplete"]
    assert WED not in site.sources(symbol="X:BTCUSD")


def test_between_two_stretches_that_are_served_nothing_is_expected(site: Desk) -> None:
    """Files of a week, and Tradier's last ten days: completeness counts what either has, and not the hole."""
    site.at(datetime(2024, 6, 6, 12, tzinfo=UTC))
    write(site, *days_between(MON, FRI))
    told = site.run(("files", "tradier"), site.tasks([listed(site.conn_of, "AAPL")], INTRADAY, MON, date(2024, 6, 5)))
    assert told.error is None
    tradiers = [date(2024, 5, 28), date(2024, 5, 29), date(2024, 5, 30), date(2024, 5, 31)]
    tradiers += [date(2024, 6, 3), date(2024, 6, 4), date(2024, 6, 5)]  # the 27th was Memorial Day
    assert site.sources() == dict.fromkeys(days_between(MON, FRI), "files") | dict.fromkeys(tradiers, "tradier")
    of_hole = {outcome.state for outcome in told.outcomes if FRI < outcome.period.first < date(2024, 5, 25)}
    assert of_hole == {"not served", "complete"}  # complete are its weekends
    served = "SELECT provider, timeframe::text, reason FROM served ORDER BY provider"
    assert query(site.conn_of, served) == [
        ("files", "1m", f"files has {MON} to {FRI} in us_stocks_sip/minute_aggs_v1"),
        ("tradier", "1m", "from 2024-05-27 (tradier keeps 10 days of minutes of all hours)"),
    ]
    view = query(
        site.conn_of,
        "SELECT timeframe::text, wanted_from, wanted_to, expected, stored, explained, missing, not_due, complete_pct"
        " FROM completeness WHERE timeframe IN ('1m', '1h') ORDER BY expected DESC",
    )
    rest = (0, 0, 0, 100)
    assert view == [
        ("1m", MON, date(2024, 6, 5), 12 * 390, 12 * 390, *rest),
        ("1h", MON, date(2024, 6, 5), 12 * 7, 12 * 7, *rest),
    ]
