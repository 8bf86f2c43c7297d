"""1,000 stretches of minutes, sessions and days are withheld by a provider: what is found missing is what was withheld,
and once the provider has it again, one run ends in the tables of a clean one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import cast

import pytest

from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros
from backfill_pipeline.steps.repair import repair_tasks
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.gaps import StoredGap, list_gaps
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.absences import disagreeing, weekdays
from backfill_pipeline_tests.steps.polygon_runs import Told, run, untrue
from backfill_pipeline_tests.steps.warehouses import at, empty, ny, opened, query
from backfill_pipeline_tests.steps.withholding import Kind, Withholding, database
from backfill_pipeline_tests.tables import Tables, differences, tables

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
# Each of some 250 stretches.
ROUNDS = 4
SPRING = {"first": date(2024, 2, 20), "last": date(2024, 4, 5)}  # clocks go forward on 03-10, closed on 03-29
KINDS = (
    Kind("EXACT", **SPRING, auction=0.08, lost=0.55),
    # Clocks go back on 11-03, closed on 11-28, a half day on 11-29.
    Kind("PLAIN", date(2024, 10, 21), date(2024, 12, 6), extended=True, lost=0.55),
    # Closed on 06-19 and 07-04, a half day on 07-03.
    Kind("NOISY", date(2024, 6, 10), date(2024, 7, 26), auction=0.1, noise=0.003, lost=0.35, shortest=2),
    # Half days on 11-29 and 12-24, closed on 11-28, 12-25, 01-01 and 01-09.
    Kind("NODAY", date(2024, 11, 18), date(2025, 1, 10), daily=False, lost=0.3, shortest=5),
    Kind("X:BTCUSD", date(2024, 3, 4), date(2024, 3, 17), lost=0.5),
    Kind("RARE", **SPRING, trades=48 / 390, auction=0.1, noise=0.003),
    Kind("SPARSE", **SPRING, trades=0.3, daily=False),
    Kind("OFTEN", **SPRING, trades=0.9, auction=0.05, noise=0.002),
)
# Least shares of the withheld volume that is found, of symbols that do not trade every minute.
LEAST = {"RARE": 0.4, "SPARSE": 0.8, "OFTEN": 0.95}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(Withholding(KINDS), now=NOW) as running:
        yield running


@pytest.fixture(scope="module")
def market(standin: StandIn) -> Withholding:
    assert isinstance(standin.market, Withholding)
    return standin.market


@pytest.fixture(scope="module")
def warehouse(server: EmbeddedServer, standin: StandIn) -> Iterator[Warehouse]:
    """One database for all rounds, emptied before each."""
    with database(server, standin, NOW) as made:
        yield made


@pytest.fixture(scope="module")
def clean(warehouse: Warehouse, standin: StandIn, market: Withholding) -> Tables:
    empty(warehouse)
    told = run(warehouse, provider(standin), market.tasks(warehouse), NOW)
    assert (told.states, told.error) == ({"complete"}, None)
    assert untrue(warehouse, market) == []
    assert query(warehouse, "SELECT count(*) FROM gaps WHERE resolved_at IS NULL") == [(0,)]
    return tables(warehouse.conn)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_gaps_are_what_was_withheld_and_are_filled_once_it_is_there(
    warehouse: Warehouse, standin: StandIn, market: Withholding, clean: Tables, seed: int
) -> None:
    empty(warehouse)
    market.provide_again()
    assert market.draw(seed) >= 1000 / ROUNDS
    told = run(warehouse, provider(standin), market.tasks(warehouse), NOW)
    assert told.error is None
    assert untrue(warehouse, market) == []
    gaps = open_gaps(warehouse)
    for kind in KINDS:
        assert_found(market, kind, {window for window, _ in gaps[kind.symbol, "1m"]})
    days = {(symbol, day) for (symbol, base), found in gaps.items() if base == "1d" for _, day in found}
    assert days == market.lost_days
    assert_told(told, gaps)
    assert_counted(warehouse, market)

    market.provide_again()
    again = run(warehouse, provider(standin), market.tasks(warehouse), NOW)
    always = {kind.symbol for kind in KINDS if kind.always}
    assert again.error is None
    assert {outcome.state for outcome in again.outcomes if outcome.symbol in always} == {"complete"}
    assert differences(_of(tables(warehouse.conn), always), _of(clean, always)) == []
    # A loss that passes for silence is not asked for again, unless a person wants it.
    rest = sorted(set(market.kinds) - always)
    for symbol in rest:
        query(warehouse, "SELECT reopen(%s, '1m', '2024-01-01', '2025-12-31')", symbol)
    assert run(warehouse, provider(standin), market.tasks(warehouse, rest), NOW).states == {"complete"}
    assert differences(tables(warehouse.conn), clean) == []


def _of(dumped: Tables, symbols: set[str]) -> Tables:
    return {name: [row for row in rows if row.split("\t", 1)[0] in symbols] for name, rows in dumped.items()}


def test_what_never_comes_is_asked_for_twice_then_weekly_and_says_so(database_url: str) -> None:
    """Thirty nights. Three minutes that the day's volume does not miss are believed after a week; the others never."""
    days = weekdays(date(2025, 7, 7), 20)
    lost = {"EXACT": 30, "NODAY": 30, "NOISY": 3}
    kinds = {"EXACT": {}, "NODAY": {"daily": False}, "NOISY": {"noise": 0.004}}
    market = Withholding([Kind(symbol, days[0], days[-1], **columns) for symbol, columns in kinds.items()])
    for symbol, length in lost.items():
        market.withhold(symbol, ny(days[10], 11), ny(days[10], 11, length))
    asked, attempts = [], []
    with StandIn(market, now=NOW) as standin, opened(database_url, provider(standin), NOW) as warehouse:
        run(warehouse, provider(standin), market.tasks(warehouse), NOW)
        first = [(gap.symbol, gap.verdict, gap.evidence["by"], gap.attempts) for gap in listed_gaps(warehouse)]
        assert first == [
            ("EXACT", "outage", "volume", 0),
            ("NODAY", "missing", "habit", 0),
            ("NOISY", "missing", "habit", 0),
        ]
        for night in range(1, 31):
            standin.reset()
            now = NOW + timedelta(days=night)
            tasks = repair_tasks(at(warehouse, now), {chain.name: days[0] for chain in CHAINS}, None, again=False)
            run(warehouse, provider(standin), tasks, now)
            if standin.requests:
                asked.append(night)
                attempts.append({gap.symbol: gap.attempts for gap in listed_gaps(warehouse)})
                assert {gap.next_attempt_at for gap in listed_gaps(warehouse)} == {
                    now + timedelta(days=1 if night == 1 else 7)
                }
        assert asked == [1, 2, 9, 16, 23, 30]
        assert attempts[1] == {"EXACT": 2, "NODAY": 2, "NOISY": 2}
        assert attempts[2] == {"EXACT": 3, "NODAY": 3}
        assert attempts[-1] == {"EXACT": 6, "NODAY": 6}
        resolved = "SELECT symbol, resolution FROM gaps JOIN symbols USING (symbol_id) WHERE resolved_at IS NOT NULL"
        assert query(warehouse, resolved) == [("NOISY", "agreed no_trade")]
        assert disagreeing(warehouse) == []


def listed_gaps(warehouse: Warehouse) -> list[StoredGap]:
    with warehouse.conn:
        return list_gaps(warehouse.conn, None, None)


def open_gaps(warehouse: Warehouse) -> defaultdict[tuple[str, str], set[tuple[Window, date]]]:
    """By symbol and base, windows and their sessions."""
    rows = query(
        warehouse,
        "SELECT symbol, timeframe::text, lower(time_window), upper(time_window), session"
        " FROM gaps JOIN symbols USING (symbol_id) JOIN sessions USING (calendar)"
        " WHERE resolved_at IS NULL AND time_window <@ tstzrange(day_start, day_end)",
    )
    found: defaultdict[tuple[str, str], set[tuple[Window, date]]] = defaultdict(set)
    for symbol, base, low, high, day in cast("list[tuple[str, str, datetime, datetime, date]]", rows):
        found[symbol, base].add((Window(to_micros(low), to_micros(high)), day))
    return found


def assert_found(market: Withholding, kind: Kind, gaps: set[Window]) -> None:
    """Of one that trades every minute, exactly what is absent; of others whole sessions, and nothing that was only
    silent.
    """
    absent, lost = market.absent(kind.symbol), market.lost(kind.symbol)
    if kind.always:
        assert gaps == {window for runs in absent.values() for window in runs}
        return
    false = [gap for gap in gaps if not any(ts in gap for ts in lost)]
    assert false == [], f"{kind.symbol}: {len(false)} gaps of minutes that did not trade"
    sessions = market.sessions(kind.symbol)
    wholes = {Window(int(sessions.open[row]), int(sessions.close[row])) for row in market.rows_of(kind.symbol)}
    assert gaps >= wholes & {window for runs in absent.values() for window in runs}
    found = sum(volume for ts, volume in lost.items() if any(ts in gap for gap in gaps))
    share = found / sum(lost.values())
    assert share >= LEAST[kind.symbol], f"{kind.symbol}: {share:.1%} of the withheld volume is found"


def assert_told(told: Told, gaps: Mapping[tuple[str, str], set[tuple[Window, date]]]) -> None:
    """A partition is incomplete where one of its sessions has a gap, and complete elsewhere. Those of minutes are days,
    those of days are months.
    """
    assert told.states == {"complete", "incomplete"}
    for outcome in told.outcomes:
        period, base = outcome.period, "1m" if outcome.period.first == outcome.period.last else "1d"
        lacking = [day for _, day in gaps.get((outcome.symbol, base), ()) if period.first <= day <= period.last]
        assert outcome.state == ("incomplete" if lacking else "complete"), (outcome.symbol, period.key, lacking)


def assert_counted(warehouse: Warehouse, market: Withholding) -> None:
    """Statuses and the view `completeness` say what the market has, and what the gaps expect; the rest is explained."""
    assert disagreeing(warehouse) == []
    lacking = query(
        warehouse,
        "SELECT symbol, timeframe::text, sum(expected - found)::bigint FROM gaps JOIN symbols USING (symbol_id)"
        " WHERE resolved_at IS NULL GROUP BY 1, 2",
    )
    missing = {(str(symbol), str(base)): int(str(count)) for symbol, base, count in lacking}
    right: dict[tuple[str, str], tuple[int, int, int]] = {}
    for kind in KINDS:
        sessions, rows = market.sessions(kind.symbol), market.rows_of(kind.symbol)
        absent = [sum(run.end - run.start for run in runs) // MINUTE for runs in market.absent(kind.symbol).values()]
        expected = sessions.expected_1m[rows.start : rows.stop].tolist()
        stored = [count - gone for count, gone in zip(expected, absent, strict=True)]
        status = query(warehouse, _STATUS, kind.symbol)
        assert [row[:2] for row in status] == list(zip(expected, stored, strict=True))
        assert all(row[0] == row[1] + row[2] + row[3] for row in status)  # type: ignore[operator]  # counts
        right[kind.symbol, "1m"] = (sum(expected), sum(stored), missing.get((kind.symbol, "1m"), 0))
        if kind.daily:
            lost = sum(symbol == kind.symbol for symbol, _ in market.lost_days)
            right[kind.symbol, "1d"] = (len(rows), len(rows) - lost, lost)
    view = query(
        warehouse,
        "SELECT symbol, timeframe::text, expected, stored, missing, explained, not_due, complete_pct = 100"
        " FROM completeness WHERE timeframe IN ('1m', '1d')",
    )
    assert {(row[0], row[1]): row[2:] for row in view} == {
        place: (expected, stored, gone, expected - stored - gone, 0, gone == 0)
        for place, (expected, stored, gone) in right.items()
    }


_STATUS = """
SELECT expected, stored, missing, (SELECT coalesce(sum(value::integer), 0) FROM jsonb_each_text(explained))
FROM session_status JOIN symbols USING (symbol_id) WHERE symbol = %s AND timeframe = '1m' ORDER BY session
"""
