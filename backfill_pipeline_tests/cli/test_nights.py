"""The real daemon: the clock fires the night, a backfill of the UI ends, and a chat hears of both; the address is
nowhere. Takes more than a minute: Dagster's daemon looks for backfills every 30 s, and a cron line has minutes.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.secret_scan import files, tables, watched
from backfill_pipeline_tests.cli.test_ui_backfill import launch, ui
from backfill_pipeline_tests.mailbox import Mailbox, mailbox
from backfill_pipeline_tests.shell import Shell, shell

# The sample's minutes of AAPL: six whole sessions, and one that breaks off.
WHOLE, BROKEN = "2026-08-05", "2026-08-06"


@pytest.fixture(scope="module")
def box() -> Iterator[Mailbox]:
    with mailbox(f"planted-hook-{time.time_ns()}") as made:
        yield made


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, box: Mailbox) -> Iterator[Shell]:
    variables = {
        "BACKFILL_INTRADAY_START": "2026-07-01",
        "BACKFILL_NIGHTLY_CRON": "* * * * *",
        "BACKFILL_WEBHOOK_URL": box.url().get_secret_value(),
        "BACKFILL_HEARTBEAT_URL": box.url("beat").get_secret_value(),
    }
    with shell(server, **variables) as made:
        # What the night follows has no part in the backfill.
        assert made.quick("symbols", "add", "AAPL", "--bars", "1m").returncode == 0
        assert made.quick("symbols", "add", "IBM", "--bars", "1d", "--since", "2013-02-01").returncode == 0
        yield made


def of_kind(box: Mailbox, kind: str) -> list[dict[str, Any]]:
    return [message for message in box.messages if message["kind"] == kind]


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_night_by_the_clock_and_a_backfill_of_the_ui_are_told(desk: Shell, box: Mailbox) -> None:
    with watched([box.secret]) as seen, ui(desk) as port:
        backfill_id = launch(port, ["AAPL"], [WHOLE, BROKEN])
        wait_until(lambda: of_kind(box, "digest"))
        wait_until(lambda: of_kind(box, "backfill_completion"))
    assert seen == set()

    (backfill,) = of_kind(box, "backfill_completion")  # one, and none of its run
    assert backfill["title"] == f"backfill {backfill_id} completed with failures"
    assert backfill["backfill_id"] == backfill_id
    assert (backfill["symbols"], backfill["failed"]) == (["AAPL"], [f"{BROKEN}|AAPL"])
    assert "1 of 2 partitions of AAPL are green" in backfill["text"]
    assert f"AAPL {BROKEN} 1m: 349 of 390 bars are missing" in backfill["text"]
    assert backfill["command"] == f"backfill run --symbols AAPL --timeframes 1m --start {BROKEN} --end {BROKEN}"

    night = of_kind(box, "digest")[0]
    # The backfill may have left its gap by then, or not.
    assert night["title"] in ("night: good, everything due is complete", "night: good; open gaps lack 349 bars")
    assert " days of " in night["text"]
    assert box.heartbeats() == len(of_kind(box, "digest"))
    nights = [status for job, status in desk.runs() if job == "nightly_backfill"]
    assert "SUCCESS" in nights
    ticks = desk.dagster_query("SELECT status FROM job_ticks WHERE type = 'SCHEDULE' AND status = 'SUCCESS'")
    assert ticks

    for url in ("DATABASE_URL", "DAGSTER_DATABASE_URL"):
        found, rows = tables([box.secret], desk.variables[url])
        assert found == set()
        assert rows > 20
    found, count = files([box.secret], desk.folder)
    assert found == set()
    assert count > 0
