"""`backfill pause` and `backfill resume` against a run that is at work in another process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell
from backfill_pipeline_tests.standin import StandIn

KEY = "planted-key-0123456789"
PAUSED = "polygon: requests are paused; `backfill resume` lets them go on"
GOES_ON = "polygon: requests go on"
SYMBOLS = [f"SYM{letter}" for letter in "ABCDEFGHIJ"]
RUN = ("run", "--symbols", ",".join(SYMBOLS), "--timeframes", "1m", "--start", "2026-08-05", "--end", "2026-08-05")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(keys=(KEY,)) as started:
        yield started


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "90",
    }
    with shell(server, **variables) as made:
        assert made.quick("symbols", "add", *SYMBOLS).returncode == 0
        yield made


def test_a_running_backfill_stops_asking_says_so_and_goes_on(site: Shell, standin: StandIn) -> None:
    standin.reset()
    running = site.start(*RUN)
    try:
        until(lambda: len(standin.requests) >= 2)
        assert site.quick("pause").returncode == 0
        time.sleep(1.2)
        asked = len(standin.requests)
        assert asked < len(SYMBOLS)
        time.sleep(1.5)
        assert len(standin.requests) == asked
        waiting = json.loads(site.quick("pause", "--json").stdout)
        assert waiting[0]["waiting"] >= 1
        assert not waiting[0]["changed"]

        assert site.quick("resume").returncode == 0
        until(lambda: len(standin.requests) > asked, within=2.5)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
        site.quick("resume")
    assert running.returncode == 0, err
    assert "10 complete" in out
    told = [line for line in err.splitlines() if line in (PAUSED, GOES_ON)]
    assert told == [PAUSED, GOES_ON]
    assert KEY not in out + err


def test_the_log_of_the_run_in_dagster_has_the_pause_too(site: Shell) -> None:
    """After the run above."""
    events = site.dagster_query("SELECT event FROM event_logs WHERE dagster_event_type IS NULL ORDER BY id")
    messages = [json.loads(str(event))["user_message"] for (event,) in events]
    assert [message for message in messages if message in (PAUSED, GOES_ON)] == [PAUSED, GOES_ON]


def test_pausing_and_resuming_twice_changes_nothing(site: Shell) -> None:
    first, second = (json.loads(site.quick("pause", "--json").stdout)[0] for _ in range(2))
    assert (first["provider"], first["changed"], first["waiting"]) == ("polygon", True, 0)
    assert (second["changed"], second["paused_since"]) == (False, first["paused_since"])
    since = first["paused_since"][:19]
    assert site.quick("pause").stdout == (
        f"polygon: was paused already, since {since} UTC; 0 requests wait\nnext: backfill resume\n"
    )

    assert site.quick("resume").stdout == f"polygon: goes on, paused since {since} UTC; 0 requests wait\n"
    assert site.quick("resume", "--provider", "polygon").stdout == "polygon: was not paused; 0 requests wait\n"


def test_the_pause_is_of_the_key_and_address_that_are_set(site: Shell) -> None:
    site.quick("pause")
    other = json.loads(site.quick("resume", "--json", POLYGON_API_KEY="another-key-9876543210").stdout)
    assert not other[0]["changed"]
    assert json.loads(site.quick("resume", "--json").stdout)[0]["changed"]


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({}, ("--provider", "tradier"), "backfill: provider tradier is none of the settings'; use one of polygon"),
        ({"BACKFILL_PROVIDER": "sample"}, (), "backfill: BACKFILL_PROVIDER=sample sends no requests from here: there"),
        ({"POLYGON_API_KEY": ""}, (), "backfill: BACKFILL_PROVIDER=polygon needs a key; set POLYGON_API_KEY"),
    ],
)
@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_cannot_be_paused_is_one_line(
    site: Shell, verb: str, variables: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    ran = site.quick(verb, *arguments, **variables)
    assert one_line(ran).startswith(words)
    assert ran.stdout == ""


def until(happened: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
