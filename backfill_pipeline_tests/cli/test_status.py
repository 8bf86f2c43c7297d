"""`backfill status`, `backfill jobs`, `backfill run --detach`: as a user types them, kill -9 included."""

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from backfill_pipeline.storage.jobs import BackfillJob, JobProgress
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell

# A month, a half-year and a month, stored one by one. The second test that runs them finds what the first has left.
LONG = ("--symbols", "SYN", "--timeframes", "1h", "--start", "2022-06-01", "--end", "2023-01-31")
AGAIN = "backfill run --symbols SYN --timeframes 1m --start 2022-06-01 --end 2023-01-31"
SHORT = ("--symbols", "SYN", "--timeframes", "1d", "--start", "2022-01-03", "--end", "2022-02-28")


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server, BACKFILL_PROVIDER="synthetic") as made:
        assert made.quick("symbols", "add", "SYN", "OFF").returncode == 0
        yield made


def detach(desk: Shell, *request: str) -> dict[str, Any]:
    ran = desk.quick("run", *request, "--detach", "--json")
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def status(desk: Shell, job_id: str, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(desk.quick("status", job_id, "--json", *options).stdout)
    return told


def wait(desk: Shell, condition: str) -> str:
    """The newest job's id, once it fulfils an SQL condition."""
    deadline = time.monotonic() + 60
    newest = "SELECT * FROM backfill_jobs ORDER BY created_at DESC LIMIT 1"
    while not (found := desk.query(f"SELECT id::text FROM ({newest}) AS job WHERE {condition}")):
        assert time.monotonic() < deadline, desk.query(newest)
        time.sleep(0.05)
    return str(found[0][0])


def test_a_detached_run_outlives_its_shell_and_is_watched_to_its_end(desk: Shell) -> None:
    ran = desk.bash(f"backfill run {shlex.join(SHORT)} --detach")
    job_id = ran.stdout.strip()
    assert len(job_id) == 36
    assert desk.query("SELECT status FROM backfill_jobs WHERE id = %s AND completed_at IS NULL", job_id)
    assert ran.stderr.endswith(f"next: backfill status {job_id} --watch\n")

    watched = desk.backfill("status", job_id, "--watch")

    assert watched.returncode == 0, watched.stderr
    told = status(desk, job_id)
    assert list(told) == [*BackfillJob.__annotations__, "progress"]
    assert [list(row) for row in told["progress"]] == [list(JobProgress.__annotations__)] * 2
    assert (told["status"], told["origin"], told["progress_pct"]) == ("completed", "shell", 100)
    assert (told["symbols"], told["timeframes"]) == (["SYN"], ["1d", "1w"])
    assert (told["start_date"], told["end_date"]) == ("2022-01-03", "2022-02-28")
    assert (told["symbols_completed"], told["symbols_total"], told["error_message"]) == (1, 1, None)
    stored = desk.query("SELECT timeframe::text, count(*) FROM bars GROUP BY 1 ORDER BY 1")
    assert [(row["timeframe"], row["records_inserted"]) for row in told["progress"]] == stored
    assert told["total_records_inserted"] == sum(int(str(count)) for _, count in stored)
    assert told["total_records_fetched"] == stored[0][1]
    assert "SYN 1d completed, 39 fetched, 39 written" in watched.stdout
    log = desk.folder / "home" / "logs" / f"run-{job_id}.log"
    assert "partitions: 2 complete" in log.read_text()


def test_what_is_complete_already_is_a_job_of_a_hundred_percent_and_skipped(desk: Shell) -> None:
    told = detach(desk, *SHORT)
    job = status(desk, told["job_id"], "--watch")
    assert (job["status"], job["progress_pct"], job["symbols_completed"]) == ("completed", 100, 1)
    assert [row["status"] for row in job["progress"]] == ["skipped", "skipped"]

    assert desk.quick("run", *SHORT).returncode == 0
    listed = json.loads(desk.quick("jobs", "--limit", "2", "--json").stdout)
    assert [(job["status"], job["dagster_id"] is None) for job in listed] == [("completed", True), ("completed", False)]
    assert "completed 100.00 %  SYN 1d to 1w of 2022-01-03 to 2022-02-28" in desk.quick("jobs").stdout


def test_an_interrupted_run_is_a_canceled_job(desk: Shell) -> None:
    running = desk.start("run", *LONG)
    job_id = wait(desk, "progress_pct > 10 AND status = 'running' AND estimated_completion_time > created_at")
    os.kill(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err

    job = status(desk, job_id)

    assert (job["status"], job["error_message"]) == (
        "canceled",
        f"stopped by a person or a signal; what is stored stays, go on with: {AGAIN}",
    )
    assert 10 < job["progress_pct"] < 100
    assert {row["status"] for row in job["progress"]} == {"failed"}


def test_a_killed_run_has_failed_with_the_command_that_goes_on_and_leaves_no_ghost(desk: Shell) -> None:
    started = detach(desk, *LONG)
    assert wait(desk, "current_symbol = 'SYN' AND total_records_fetched > 0") == started["job_id"]
    process = psutil.Process(started["pid"])
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    ran = desk.quick("status", started["job_id"])

    assert ran.returncode == 1
    killed = status(desk, started["job_id"])
    assert killed["status"] == "failed"
    assert killed["progress_pct"] < 100
    assert killed["error_message"] == (
        f"its process is gone: it was killed, or its machine went down; what is stored stays, go on with: {AGAIN}"
    )
    assert desk.runs()[-1] == ("master_backfill", "FAILURE")
    assert f"why     {killed['error_message']}" in ran.stdout.splitlines()

    again = desk.bash(AGAIN)
    assert again.returncode == 0, again.stderr
    newest = json.loads(desk.quick("jobs", "--limit", "1", "--json").stdout)[0]
    assert (newest["status"], newest["progress_pct"]) == ("completed", 100)
    assert newest["total_records_fetched"] < 168 * 390, "what was stored is not asked for again"


def test_wrong_arguments_are_told_at_once_and_start_nothing(desk: Shell) -> None:
    before = desk.query("SELECT count(*) FROM backfill_jobs")
    assert "TSLA not registered" in one_line(desk.quick("run", "--symbols", "TSLA", "--days", "3", "--detach"))
    assert "is in the future" in one_line(
        desk.quick("run", "--symbols", "SYN", "--start", "2022-01-03", "--end", "2999-01-01", "--detach")
    )
    assert desk.query("SELECT count(*) FROM backfill_jobs") == before


def test_what_stops_a_detached_run_before_its_first_bar_is_told_by_its_job(desk: Shell) -> None:
    desk.quick("symbols", "remove", "OFF")
    told = detach(desk, "--symbols", "OFF", "--timeframes", "1d", "--days", "5")
    assert wait(desk, "status = 'failed'") == told["job_id"]
    job = status(desk, told["job_id"])
    assert job["error_message"].startswith("OFF: removed, and so no longer followed; add again: backfill symbols add")


def test_a_job_that_is_not_known_is_one_line(desk: Shell) -> None:
    assert one_line(desk.quick("status", "nothing")) == (
        "backfill: job nothing is not known; list the known ones: backfill jobs"
    )
