"""`backfill coverage`: what it says, that it changes nothing, and that with --ensure a real daemon does the work."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell

# The sample's six whole sessions and the one that breaks off at 10:11.
RANGE = ("--timeframe", "1h", "--start", "2026-07-29", "--end", "2026-08-06")


@pytest.fixture(scope="module")
def sample(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL", "IBM").returncode == 0
        yield made


def told(site: Shell, *arguments: str) -> dict[str, Any]:
    ran = site.quick("coverage", *arguments, "--json")
    assert ran.stderr == ""
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert (ran.returncode == 0) is (answer["status"] == "coverage_complete")
    return answer


def versions(site: Shell) -> list[list[tuple[object, ...]]]:
    """Which version of every row there is, Dagster's too: equal means that nothing was written."""
    version = "SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM {}"
    tables = "SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace AND relkind = 'r' ORDER BY 1"
    market = [site.query(version.format(name)) for (name,) in site.query(tables.format("market"))]
    return [
        *market,
        *(site.dagster_query(version.format(name)) for (name,) in site.dagster_query(tables.format("public"))),
    ]


def wait_until(ready: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.25)


def test_a_range_is_told_before_and_after_it_is_fetched_and_telling_changes_nothing(sample: Shell) -> None:
    sample.quick("coverage", "AAPL", *RANGE)  # the first command of all stores the calendar
    before = versions(sample)

    empty = sample.quick("coverage", "AAPL", *RANGE)

    assert (empty.returncode, empty.stderr) == (1, "")
    assert empty.stdout.splitlines() == [
        "AAPL 1h 2026-07-29 to 2026-08-06: gaps_detected",
        "slices:  0 of 7 complete (0.00 %), 0 running, 0 queued; 0 bars stored",
        "missing: 7 sessions",
        "         2026-07-29 to 2026-08-06 (7 sessions)",
        "time:    about 1 s",
        "next:    backfill run --symbols AAPL --timeframes 1h --start 2026-07-29 --end 2026-08-06",
    ]
    assert versions(sample) == before

    assert sample.quick("run", "--symbols", "AAPL", "--timeframes", "1h", *RANGE[2:]).returncode == 1
    filled = sample.quick("coverage", "AAPL", *RANGE)

    assert filled.stdout.splitlines()[1:4] == [
        # The last session has one hour, from 09:30 on, that is not over and not final.
        "slices:  6 of 7 complete (85.71 %), 0 running, 0 queued; 43 bars stored",
        "missing: 1 session",
        "         2026-08-06",
    ]
    assert filled.stdout.splitlines()[-1].endswith("--start 2026-08-06 --end 2026-08-06")
    assert told(sample, "AAPL", *RANGE) == {
        "symbol": "AAPL",
        "timeframe": "1h",
        "start": "2026-07-29",
        "end": "2026-08-06",
        "status": "gaps_detected",
        "backfill_progress": {
            "total_slices": 7,
            "completed_slices": 6,
            "running_slices": 0,
            "queued_slices": 0,
            "progress_percent": 85.71,
            "bars_written": 43,
        },
        "eta_seconds": 1,
        "missing": [{"start": "2026-08-06", "end": "2026-08-06", "sessions": 1}],
        "served": None,
        "next": "backfill run --symbols AAPL --timeframes 1h --start 2026-08-06 --end 2026-08-06",
        "run_id": None,
    }
    whole = sample.quick("coverage", "AAPL", *RANGE[:-1], "2026-08-05")
    assert (whole.returncode, whole.stdout.splitlines()) == (
        0,
        [
            "AAPL 1h 2026-07-29 to 2026-08-05: coverage_complete",
            "slices:  6 of 6 complete (100.00 %), 0 running, 0 queued; 42 bars stored",
        ],
    )


def test_what_the_provider_does_not_have_is_said(sample: Shell) -> None:
    days = ("--timeframe", "1d", "--start", "2013-02-01", "--end", "2013-03-31")

    answer = told(sample, "IBM", *days)

    assert answer["served"] == "the sample has days of 2000-03-01 to 2013-03-01"
    assert (answer["backfill_progress"]["total_slices"], answer["missing"][0]["end"]) == (2, "2013-03-01")
    nothing = told(sample, "IBM", "--timeframe", "1m", "--days", "30")
    assert (nothing["status"], nothing["served"]) == ("gaps_detected", "the sample has 1m bars of AAPL only")
    assert "served:  the sample has days of" in sample.quick("coverage", "IBM", *days).stdout


def test_many_stretches_are_cut_to_twenty_lines(sample: Shell) -> None:
    half_year = ("--start", "2012-01-03", "--end", "2012-06-29")
    assert sample.quick("run", "--symbols", "IBM", "--timeframes", "1d", *half_year).returncode == 0
    # Tuesdays and Thursdays: never two sessions in a row.
    forgotten = sample.query(
        "DELETE FROM session_status WHERE timeframe = '1d' AND extract(dow FROM session) IN (2, 4) RETURNING session"
    )

    lines = sample.quick("coverage", "IBM", "--timeframe", "1d", *half_year).stdout.splitlines()

    assert len(forgotten) == 52
    assert lines[2] == "missing: 52 sessions"
    assert [line.strip() for line in lines[3:23]] == sorted((str(day) for (day,) in forgotten), reverse=True)[:20]
    assert lines[23] == "         and 32 more"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("TSLA", *RANGE), "symbol TSLA not registered; add: backfill symbols add TSLA", id="unknown"),
        pytest.param(("TSLA", *RANGE, "--ensure"), "symbol TSLA not registered", id="unknown, to be ensured"),
        pytest.param(("AAPL", "--timeframe", "2h", "--days", "3"), "timeframe '2h' is not known", id="timeframe"),
        pytest.param(("AAPL", "--timeframe", "1h"), "give days, or both start and end", id="no dates"),
        pytest.param(("AAPL", *RANGE, "--register"), "--register goes with --ensure", id="register alone"),
        pytest.param(
            ("AAPL", "--timeframe", "1h", "--days", "7300"), "is before BACKFILL_INTRADAY_START", id="before it all"
        ),
    ],
)
def test_a_wrong_argument_is_one_line(sample: Shell, arguments: tuple[str, ...], words: str) -> None:
    assert words in one_line(sample.quick("coverage", *arguments))


def test_without_a_daemon_the_line_to_type_is_said_and_the_range_is_wanted(sample: Shell) -> None:
    days = ("--timeframe", "1d", "--start", "2012-05-18", "--end", "2012-06-29")
    runs = sample.runs()

    ran = sample.quick("coverage", "FB", *days, "--ensure", "--register")

    assert ran.returncode == 1
    assert ran.stderr == ("no daemon is up to request it from; either start one (backfill ui), or have it done here:\n")
    line = ran.stdout.splitlines()[-1]
    assert line == "next:    backfill run --symbols FB --timeframes 1d --start 2012-05-18 --end 2012-06-29"
    assert sample.query(
        "SELECT lower(time_window)::date::text, upper(time_window)::date::text"
        " FROM wanted JOIN symbols USING (symbol_id) WHERE symbol = 'FB'"
    ) == [("2012-05-18", "2012-06-30")]
    assert sample.runs() == runs
    with queued(sample, {"symbols": ["FB"], "timeframes": ["1d"], "start": days[3], "end": days[5]}):
        waiting = sample.quick("coverage", "FB", *days)
        assert waiting.stdout.startswith(
            "FB 1d 2012-05-18 to 2012-06-29: backfilling\nslices:  0 of 2 complete (0.00 %)"
        )
        assert ", 0 running, 2 queued; " in waiting.stdout
        assert waiting.stderr == "no daemon is up to take it from the queue: backfill ui starts one\n"
    assert sample.quick(*line.split()[2:]).returncode == 0
    assert told(sample, "FB", *days)["status"] == "coverage_complete"


@contextmanager
def queued(site: Shell, config: dict[str, Any]) -> Iterator[None]:
    """While a run of `ensure_coverage` waits in the queue."""
    job = build_definitions(Pipeline(Settings.model_construct())).resolve_job_def("ensure_coverage")
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__").get_job_origin(job.name)
    with site.instance() as instance:
        run = instance.create_run_for_job(
            job,
            run_config={"ops": {"ensure_coverage": {"config": config}}},
            status=dg.DagsterRunStatus.QUEUED,
            remote_job_origin=origin,
        )
        yield
        instance.delete_run(run.run_id)


def test_a_killed_run_is_no_backfill_under_way(server: EmbeddedServer) -> None:
    """Dagster keeps such a run as started."""
    days = ("--start", "2022-01-03", "--end", "2023-12-29")
    asked = ("SYN", "--timeframe", "1h", *days)
    with shell(server, BACKFILL_PROVIDER="synthetic") as site:
        site.quick("symbols", "add", "SYN", "--bars", "1m")
        run = site.start("run", "--symbols", "SYN", "--timeframes", "1h", *days)
        wait_until(lambda: site.query("SELECT count(*) > 100 FROM session_status")[0][0] is True)

        during = told(site, *asked)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
        wait_until(lambda: told(site, *asked)["status"] != "backfilling", 30)
        after = told(site, *asked)

        assert site.runs() == [("master_backfill", "STARTED")]
    progress = during["backfill_progress"]
    assert during["status"] == "backfilling"
    assert progress["completed_slices"] + progress["running_slices"] == progress["total_slices"] == 501
    assert 0 < progress["completed_slices"] < 501
    assert during["eta_seconds"] > 0
    assert after["status"] == "gaps_detected"
    assert after["backfill_progress"]["running_slices"] == 0


def test_a_daemon_registers_and_completes_what_is_ensured(server: EmbeddedServer) -> None:
    asked = ("AAPL", *RANGE[:-1], "2026-08-05")
    with shell(server) as site:
        site.quick("symbols", "add", "IBM")  # lays Dagster's tables out, too
        program = "exec python -m dagster._daemon run -m backfill_pipeline.definitions"
        daemon = subprocess.Popen(
            ["bash", "-c", f'eval "$(backfill env)"; cd "$DAGSTER_HOME"; {program}'],
            cwd=site.folder,
            env=site.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            beats = "SELECT count(*) > 0 FROM daemon_heartbeats WHERE daemon_type = 'QUEUED_RUN_COORDINATOR'"
            wait_until(lambda: site.dagster_query(beats) == [(True,)])

            requested = told(site, *asked, "--ensure", "--register")
            again = told(site, *asked, "--ensure")
            wait_until(lambda: site.runs()[0][1] in ("SUCCESS", "FAILURE"))
            done = told(site, *asked)
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait(30)
        assert site.runs() == [("ensure_coverage", "SUCCESS")], "asked for twice, requested once"
        ids = site.dagster_query("SELECT run_id FROM runs")
    progress = requested["backfill_progress"]
    assert (requested["status"], progress["running_slices"] + progress["queued_slices"]) == ("backfilling", 6)
    assert [(requested["run_id"],)] == ids
    assert again["run_id"] is None
    assert (done["status"], done["backfill_progress"]["bars_written"]) == ("coverage_complete", 42)
