"""Jobs of real runs through each door, one with a failing partition; and those of runs that ended without a word."""

import io
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg2
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs import reconcile_runs
from backfill_pipeline.defs.reconcile_runs import reconcile, reconcile_sensor
from backfill_pipeline.defs.running import _interrupts_seen, asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.jobs import (
    BackfillJob,
    JobProgress,
    find_job,
    hold,
    list_jobs,
    open_job,
    read_progress,
    start_run,
)
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.defs.test_backfill_target import launched, part
from backfill_pipeline_tests.sites import NOW, Exchange, Site, failure, site

pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
DAYS = ["2024-05-13", "2024-05-14"]
CHAIN = ["1m", "5m", "15m", "30m", "1h", "4h"]


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("progress"), exchange) as made:
        yield made


def job_of(desk: Site, dagster_id: str) -> tuple[BackfillJob, list[JobProgress]]:
    with closing(connect(desk.url)) as conn:
        job = find_job(conn, dagster_id)
        assert job is not None
        return job, read_progress(conn, job.id)


def master(desk: Site, symbol: str, *, ok: bool = True, **tags: str) -> dg.ExecuteInProcessResult:
    config = {"symbols": [symbol], "timeframes": ["1m"], "start": DAYS[0], "end": DAYS[-1]}
    return desk.run("master_backfill", ok=ok, run_config={"ops": {"master_backfill": {"config": config}}}, tags=tags)


def end(desk: Site, backfill: str, status: BulkActionStatus) -> None:
    """As the daemon does, and the sensor soon after."""
    stored = desk.instance.get_backfill(backfill)
    assert stored is not None
    desk.instance.update_backfill(stored.with_status(status))
    with closing(connect(desk.url)) as conn:
        reconcile(desk.instance, conn, NOW)


def withhold(exchange: Exchange, symbol: str, day: str) -> None:
    """An hour of a session is not there."""
    at = datetime.fromisoformat(f"{day}T15:00:00+00:00")
    exchange.withheld[symbol] = [Window(to_micros(at), to_micros(at + timedelta(hours=1)))]


def test_the_runs_of_a_backfill_share_a_job_that_fails_for_the_partition_that_lacks_bars(
    desk: Site, exchange: Exchange
) -> None:
    desk.register("UI0", "UI1", bars=["1m"])
    withhold(exchange, "UI1", DAYS[1])
    backfill = launched(desk, [f"{day}|{symbol}" for day in DAYS for symbol in ("UI0", "UI1")], asset_names(INTRADAY))

    part(desk, backfill, INTRADAY, f"{DAYS[0]}|UI0", f"{DAYS[0]}|UI1")
    half, rows = job_of(desk, backfill)
    assert (half.origin, half.status, half.progress_pct) == ("ui", "running", 50)
    assert (half.symbols, half.timeframes) == (["UI0", "UI1"], CHAIN)
    assert (str(half.start_date), str(half.end_date)) == (DAYS[0], DAYS[1])
    assert {row.status for row in rows} == {"running"}

    desk.run(
        "backfill_intraday",
        ok=False,
        tags={
            "dagster/backfill": backfill,
            "dagster/asset_partition_range_start": f"{DAYS[1]}|UI0",
            "dagster/asset_partition_range_end": f"{DAYS[1]}|UI1",
        },
        asset_selection=[dg.AssetKey(name) for name in asset_names(INTRADAY)],
    )
    through, _ = job_of(desk, backfill)
    assert (through.status, through.progress_pct) == ("running", 100), "Dagster has not ended it"
    end(desk, backfill, BulkActionStatus.COMPLETED_FAILED)
    done, rows = job_of(desk, backfill)
    assert (done.status, done.progress_pct, done.symbols_completed, done.symbols_total) == ("failed", 100, 1, 2)
    assert {(row.symbol, row.status) for row in rows} == {("UI0", "completed"), ("UI1", "failed")}
    assert {row.error_message for row in rows if row.symbol == "UI1"} == {
        "UI1 2024-05-14 1m: 60 of 390 bars are missing"
    }
    assert done.error_message is not None
    assert "UI1 2024-05-14 1m: 60 of 390 bars are missing" in done.error_message
    assert done.error_message.endswith(
        "backfill run --symbols UI0,UI1 --timeframes 1m --start 2024-05-13 --end 2024-05-14"
    )

    stored = dict(desk.query("SELECT timeframe::text, count(*) FROM market_data_all WHERE symbol = 'UI0' GROUP BY 1"))
    assert {row.timeframe: row.records_inserted for row in rows if row.symbol == "UI0"} == stored
    assert done.total_records_inserted == sum(row.records_inserted for row in rows)
    assert done.total_records_fetched == sum(row.records_fetched for row in rows) > 0


@pytest.mark.parametrize(
    ("origin", "tags"),
    [
        ("schedule", {"dagster/schedule_name": "nightly"}),
        ("sensor", {"dagster/sensor_name": "gap_sensor"}),
        ("shell", {}),
    ],
)
def test_each_door_has_a_job_that_is_the_run(desk: Site, origin: str, tags: dict[str, str]) -> None:
    desk.register(origin.upper(), bars=["1m"])
    result = master(desk, origin.upper(), **tags)
    job, rows = job_of(desk, result.run_id)
    assert (job.origin, job.status, job.progress_pct, job.error_message) == (origin, "completed", 100, None)
    assert [(row.timeframe, row.status) for row in rows] == [(timeframe, "completed") for timeframe in CHAIN]


def test_a_shells_run_fails_with_its_partition_and_the_next_one_skips_what_is_complete(
    desk: Site, exchange: Exchange
) -> None:
    desk.register("BAD", bars=["1m"])
    withhold(exchange, "BAD", DAYS[0])
    result = master(desk, "BAD", ok=False)
    job, rows = job_of(desk, result.run_id)
    assert (job.status, job.progress_pct, job.symbols_completed) == ("failed", 100, 0)
    assert job.error_message is not None
    assert job.error_message.startswith(failure(result))
    assert {row.status for row in rows} == {"failed"}

    exchange.withheld.clear()
    again, rows = job_of(desk, master(desk, "BAD").run_id)
    assert (again.status, again.progress_pct) == ("completed", 100)
    assert rows[0].records_inserted == 60
    nothing, rows = job_of(desk, master(desk, "BAD").run_id)
    assert (nothing.status, nothing.progress_pct, nothing.symbols_completed) == ("completed", 100, 1)
    assert {row.status for row in rows} == {"skipped"}


class _Interrupted(io.StringIO):
    def read(self, _size: int | None = -1) -> str:
        raise dg.DagsterExecutionInterruptedError


def test_a_signal_while_rows_are_copied_is_a_signal(desk: Site) -> None:
    with closing(connect(desk.url)) as conn, conn.cursor() as cursor:
        with pytest.raises(dg.DagsterExecutionInterruptedError), _interrupts_seen():
            cursor.copy_expert("COPY backfill_job_runs FROM STDIN", _Interrupted())
        conn.rollback()
        cursor.execute("SET statement_timeout = 1")
        with pytest.raises(psycopg2.errors.QueryCanceled), _interrupts_seen():
            cursor.execute("SELECT pg_sleep(9)")


def test_a_night_with_nothing_to_do_is_completed_at_once(desk: Site) -> None:
    result = desk.run("nightly_backfill", tags={"dagster/schedule_name": "nightly"})
    job, rows = job_of(desk, result.run_id)
    assert (job.status, job.progress_pct, job.symbols, rows) == ("completed", 100, [], [])


def started(desk: Site) -> dg.DagsterRun:
    """A run that Dagster takes for started, as a killed process leaves it."""
    definition = build_definitions(desk.pipeline).resolve_job_def("master_backfill")
    run = desk.instance.create_run_for_job(definition)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.PIPELINE_START.value, job_name="master_backfill", message="started"
    )
    desk.instance.report_dagster_event(event, run.run_id)
    return run


def status_of(desk: Site, run: dg.DagsterRun) -> str:
    found = desk.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status.value


def test_a_run_whose_process_is_gone_is_failed_and_one_that_is_held_is_not(desk: Site) -> None:
    gone, alive = started(desk), started(desk)
    with closing(connect(desk.url)) as conn, closing(connect(desk.url)) as process:
        with conn:
            for run in (gone, alive):
                start_run(conn, open_job(conn, run.run_id, "shell", NOW), run.run_id, NOW)
        hold(process, alive.run_id)
        lines = reconcile(desk.instance, conn, NOW)
        assert lines == [
            f"run {gone.run_id} failed: its process is gone: it was killed, or its machine went down",
            f"job {job_of(desk, gone.run_id)[0].id} failed",
        ]
        assert (status_of(desk, gone), status_of(desk, alive)) == ("FAILURE", "STARTED")
        assert job_of(desk, alive.run_id)[0].status == "running"
        assert reconcile(desk.instance, conn, NOW) == []
        process.close()
        time.sleep(0.2)
        assert len(reconcile(desk.instance, conn, NOW)) == 2
    job, _ = job_of(desk, alive.run_id)
    assert (job.status, job.error_message) == (
        "failed",
        f"{reconcile_runs.GONE}; what is stored stays, go on with: the same again",
    )
    killed = desk.instance.get_run_by_id(gone.run_id)
    assert killed is not None
    assert killed.tags["dagster/will_retry"] == "false", "no daemon can start a shell's run again"


def test_a_canceled_run_whose_process_is_gone_is_canceled(desk: Site) -> None:
    run = started(desk)
    with closing(connect(desk.url)) as conn:
        with conn:
            start_run(conn, open_job(conn, run.run_id, "ui", NOW), run.run_id, NOW)
        desk.instance.report_run_canceling(run)
        reconcile(desk.instance, conn, NOW)
    assert status_of(desk, run) == "CANCELED"
    assert job_of(desk, run.run_id)[0].status == "canceled"


def test_a_run_that_has_not_come_to_its_bars_is_believed_for_minutes(
    desk: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(desk)
    with closing(connect(desk.url)) as conn:
        assert reconcile(desk.instance, conn, NOW) == []
        monkeypatch.setattr(reconcile_runs, "_ABOUT", 0.1)
        time.sleep(0.2)
        with closing(connect(desk.url)):  # a warehouse opened much later than the run started is another's
            time.sleep(0.3)
            reconcile(desk.instance, conn, NOW)
    assert status_of(desk, run) == "FAILURE"


def test_backfills_and_runs_that_wait_are_queued_jobs_and_end_as_dagster_says(desk: Site) -> None:
    desk.register("WAIT", bars=["1m"])
    backfill = launched(desk, [f"{DAYS[0]}|WAIT"], asset_names(INTRADAY))
    definition = build_definitions(desk.pipeline).resolve_job_def("master_backfill")
    run = desk.instance.create_run_for_job(definition, status=dg.DagsterRunStatus.NOT_STARTED)
    with closing(connect(desk.url)) as conn:
        reconcile(desk.instance, conn, NOW)
        assert [job_of(desk, name)[0].status for name in (backfill, run.run_id)] == ["queued", "queued"]
        stored = desk.instance.get_backfill(backfill)
        assert stored is not None
        desk.instance.update_backfill(stored.with_status(BulkActionStatus.CANCELED))
        desk.instance.report_run_canceled(run)
        reconcile(desk.instance, conn, NOW)
        assert [job_of(desk, name)[0].status for name in (backfill, run.run_id)] == ["canceled", "canceled"]


def test_a_detached_run_that_never_shows_itself_has_failed_after_a_minute(desk: Site) -> None:
    with closing(connect(desk.url)) as conn:
        with conn:
            open_job(conn, "never", "shell", NOW)
        reconcile(desk.instance, conn, NOW + timedelta(seconds=59))
        assert job_of(desk, "never")[0].status == "queued"
        reconcile(desk.instance, conn, NOW + timedelta(seconds=61))
        assert job_of(desk, "never")[0].status == "failed"


def test_the_sensor_says_what_it_ended_and_forgets_after_a_quarter(desk: Site) -> None:
    run = started(desk)
    with closing(connect(desk.url)) as conn, conn:
        start_run(conn, open_job(conn, run.run_id, "ui", NOW), run.run_id, NOW)

    def evaluated(at: datetime) -> str:
        context = dg.build_sensor_context(instance=desk.instance, resources={"pipeline": desk.at(at).pipeline})
        found = reconcile_sensor(context)
        assert isinstance(found, dg.SkipReason)
        return str(found.skip_message)

    assert f"run {run.run_id} failed" in evaluated(NOW)
    assert evaluated(NOW) == "every run and every job is what it says"
    evaluated(datetime(2024, 9, 2, tzinfo=UTC))
    with closing(connect(desk.url)) as conn:
        assert list_jobs(conn, 1) == []
