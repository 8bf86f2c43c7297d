"""Progress of runs side by side, in any order, done twice and killed: percent never falls and ends where it must."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.grain import Period, periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.pace import Pace
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.router import Router
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline.steps import progress as steps
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.progress import Progress, Share, begin, command_of, nothing_to_do
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.jobs import BackfillJob, find_job, is_held, is_through, read_progress
from backfill_pipeline_tests.storage.stored import migrated

NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
DAYS = periods_between(date(2024, 5, 6), date(2024, 5, 10), "day")
SYMBOLS = [Instrument(n, name, "stock", "XNYS", None, None) for n, name in enumerate(("ABC", "DEF", "GHI"))]
WHOLE = [Task(symbol, INTRADAY, tuple(DAYS)) for symbol in SYMBOLS]


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with migrated(database_url) as made:
        yield made


@pytest.fixture
def warehouse(conn: Connection) -> Warehouse:
    return Warehouse(conn, Router([SyntheticProvider()]), lambda: NOW)


class Runs:
    """Runs side by side, each on a connection of its own as if in a process of its own."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._open: list[Connection] = []

    def begin(self, share: Share, work: Work) -> Progress:
        progress = begin(self._warehouse, share, WHOLE, [], work)
        assert progress is not None
        self._open.append(steps._open.pop())
        return progress

    def end(self) -> None:
        """As if their processes ended."""
        while self._open:
            self._open.pop().close()


@pytest.fixture
def runs(warehouse: Warehouse) -> Iterator[Runs]:
    made = Runs(warehouse)
    yield made
    made.end()


def outcome(symbol: str, period: Period, *, bad: bool) -> PartitionOutcome:
    if bad:
        return PartitionOutcome(symbol, period, "incomplete", f"{symbol} {period.key} 1m: 1 of 390 bars are missing")
    return PartitionOutcome(symbol, period, "complete", "")


def read(conn: Connection, name: str) -> BackfillJob:
    with conn:
        job = find_job(conn, name)
    assert job is not None
    return job


# Which of five runs (one a day, as Dagster cuts a backfill), what of its partitions, and whether it writes then.
STEPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.booleans()), max_size=40)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=STEPS,
    bad=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=2),
    ends=st.permutations(range(5)),
)
def test_percent_never_falls_over_runs_side_by_side_and_none_of_them_ends_the_job_of_all(
    conn: Connection,
    runs: Runs,
    order: list[tuple[int, int, bool]],
    bad: set[tuple[int, int]],
    ends: list[int],
) -> None:
    backfill = secrets.token_hex(4)
    works = [Work() for _ in DAYS]
    each = [runs.begin(Share(backfill, f"{backfill}-{n}", "ui", is_all=False), work) for n, work in enumerate(works)]
    seen: list[float] = [0.0]
    told: set[tuple[int, int]] = set()
    for run, symbol, writes in order:
        name = SYMBOLS[symbol].symbol
        works[run].received_of[name, "1m"] += 390
        each[run].heard(INTRADAY, outcome(name, DAYS[run], bad=(run, symbol) in bad))
        told.add((run, symbol))
        if writes:
            each[run].flush()
        seen.append(read(conn, backfill).progress_pct)
    for run in ends:
        for symbol, instrument in enumerate(SYMBOLS):
            if (run, symbol) not in told:
                each[run].heard(INTRADAY, outcome(instrument.symbol, DAYS[run], bad=(run, symbol) in bad))
        assert read(conn, backfill).is_open
        each[run].ended("completed")
        seen.append(read(conn, backfill).progress_pct)

    runs.end()
    job = read(conn, backfill)
    assert seen == sorted(seen)
    assert job.progress_pct == 100
    assert job.status == "running", "other runs of the backfill may be yet to come"
    with conn:
        through, message = is_through(conn, job.id)
    assert (through, message is not None) == (True, bool(bad))
    assert job.total_records_fetched == 390 * len(order)
    assert job.symbols_completed == 3 - len({symbol for _, symbol in bad})
    with conn:
        failed = {row.symbol for row in read_progress(conn, job.id) if row.status == "failed"}
    assert failed == {SYMBOLS[symbol].symbol for _, symbol in bad}


def test_a_run_done_twice_counts_once_and_its_job_goes_on(conn: Connection, runs: Runs) -> None:
    first = runs.begin(Share("root", "root", "schedule"), Work())
    first.heard(INTRADAY, outcome("ABC", DAYS[0], bad=False))
    first.ended("failed", "the run failed with KeyError")
    failed = read(conn, "root")
    assert (failed.status, failed.progress_pct) == ("failed", 6.66)
    assert failed.error_message == (
        "the run failed with KeyError; what is stored stays, go on with: backfill run --symbols ABC,DEF,GHI"
        " --timeframes 1m --start 2024-05-06 --end 2024-05-10"
    )

    again = runs.begin(Share("root", "retry", "schedule"), Work())
    again.heard(INTRADAY, outcome("ABC", DAYS[0], bad=False))
    again.flush()
    assert (read(conn, "root").status, read(conn, "root").progress_pct) == ("running", 6.66)
    again.ended("completed")
    job = read(conn, "root")
    assert (job.status, job.progress_pct, job.error_message) == ("completed", 100, None)


def test_a_run_is_held_while_its_process_lives(conn: Connection, runs: Runs) -> None:
    progress = runs.begin(Share("root", "root", "shell"), Work())
    progress.ended("completed")
    assert is_held(conn, "root"), "what a run does after its bars is part of it"
    runs.end()
    deadline = datetime.now(UTC).timestamp() + 5
    while is_held(conn, "root"):
        assert datetime.now(UTC).timestamp() < deadline


def test_progress_is_not_taken_back_with_a_window(conn: Connection, warehouse: Warehouse, runs: Runs) -> None:
    work = Work()
    progress = runs.begin(Share("root", "root", "shell"), work)
    with conn.cursor() as cursor:
        cursor.execute("INSERT INTO symbols (symbol, asset_class, calendar) VALUES ('ABC', 'stock', 'XNYS')")
        work.written_of["ABC", "1m"] += 7
        progress.heard(INTRADAY, outcome("ABC", DAYS[0], bad=False))
        progress.flush()
    conn.rollback()
    job = read(conn, "root")
    assert (job.progress_pct, job.total_records_inserted) == (6.66, 7)
    with conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM symbols")
        assert cursor.fetchall() == [(0,)]


def test_a_run_goes_on_when_its_progress_cannot_be_written(
    conn: Connection, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    progress = runs.begin(Share("root", "root", "shell"), Work())
    with conn.cursor() as cursor:
        cursor.execute("ALTER TABLE backfill_job_days RENAME TO elsewhere")
    conn.commit()
    progress.heard(INTRADAY, outcome("ABC", DAYS[0], bad=False))
    progress.ended("completed")
    assert 'relation "backfill_job_days" does not exist' in caplog.text


def test_progress_that_could_not_be_written_is_told_by_the_run_itself(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    """By the thread that writes it, a log in the same lost database would raise where nobody catches it."""
    progress = runs.begin(Share("root", "root", "shell"), Work())
    with progress.kept_live():
        runs.end()  # its connection is gone
        progress.heard(INTRADAY, outcome("ABC", DAYS[0], bad=False))
        time.sleep(1.5 * steps.EVERY)
        assert caplog.records == []
    assert [record.threadName for record in caplog.records] == ["MainThread"]
    assert "no longer written: connection already closed" in caplog.text


def test_nothing_to_do_is_completed_at_once(conn: Connection, warehouse: Warehouse) -> None:
    job_id = nothing_to_do(warehouse, None, "shell", [(WHOLE[0], ""), (WHOLE[1], "not served: too old")])
    job = read(conn, job_id)
    assert (job.status, job.progress_pct, job.symbols_completed, job.symbols) == ("completed", 100, 2, ["ABC", "DEF"])
    with conn:
        rows = {(row.symbol, row.status, row.error_message) for row in read_progress(conn, job_id)}
    assert rows == {("ABC", "skipped", None), ("DEF", "skipped", "not served: too old")}
    assert read(conn, nothing_to_do(warehouse, None, "schedule", [])).progress_pct == 100


def test_the_command_ends_today_at_the_latest(conn: Connection, warehouse: Warehouse) -> None:
    job = read(conn, nothing_to_do(warehouse, None, "shell", [(WHOLE[0], "")]))
    assert command_of(job, date(2024, 5, 8)).endswith("--start 2024-05-06 --end 2024-05-08")


def test_the_end_is_by_the_budget_or_by_the_pace_whichever_is_later() -> None:
    pace = Pace((0, 0))
    assert pace.left(0, 0, 100, 0, is_idle=True) is None
    assert pace.left(5, 40, 100, 30, is_idle=True) == 30, "40 were complete before: they say nothing of the rest"
    assert pace.left(6, 40, 100, 30, is_idle=False) == 30
    assert pace.left(15, 60, 100, 5, is_idle=False) == 20, "20 in 10 s since it began to fetch: 40 more in 20 s"
    assert pace.left(15, 60, 100, 300, is_idle=False) == 300
    assert pace.left(25, 100, 100, 0, is_idle=False) == 0
