"""`backfill plan`: what the same `backfill run` would take, told before anything starts, and nothing changed by it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, by_polygon, one_line, shell
from backfill_pipeline_tests.standin import StandIn

# Five sessions of 960 minutes, long over whenever the tests run.
WEEK = ("--symbols", "AAPL", "--start", "2026-08-03", "--end", "2026-08-07")
AT_ONCE = {"POLYGON_REQUESTS_PER_MINUTE": "0"}


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    """The free plan's rate, so that a plan has something to say of time."""
    variables = {"BACKFILL_PROVIDER": "auto", "POLYGON_REQUESTS_PER_MINUTE": "5"}
    with shell(server, **by_polygon(standin, **variables)) as made:
        assert made.quick("symbols", "add", "AAPL", **AT_ONCE).returncode == 0
        standin.reset()
        yield made


def versions(site: Shell) -> list[list[tuple[object, ...]]]:
    """Which version of every row of every table there is, Dagster's too: equal means that nothing was written."""
    version = "SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM {}"
    tables = "SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace AND relkind = 'r' ORDER BY 1"
    market = [site.query(version.format(name)) for (name,) in site.query(tables.format("market"))]
    names = [name for (name,) in site.dagster_query(tables.format("public")) if name != "daemon_heartbeats"]
    return [*market, *(site.dagster_query(version.format(name)) for name in names)]


def told(site: Shell, *arguments: str) -> dict[str, Any]:
    ran = site.quick("plan", *arguments, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_a_week_that_nobody_asked_for_yet(site: Shell, standin: StandIn) -> None:
    site.quick("plan", *WEEK)  # the first command of all lays things out
    before = versions(site)
    ran = site.quick("plan", *WEEK)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "asks for 10 sessions, at most 4,805 base bars",
        "requests: 2 polygon requests",
        "time:     about 13 s (requests 13 s, writing 1 s)",  # the second goes 12.48 s after the first
        "disk:     at most 1 MB",
    ]
    assert told(site, *WEEK) == {
        "requests": {"polygon": 2},
        "waiting_s": pytest.approx(12.48),
        "writing_s": pytest.approx(4805 / 60_000 + 2 * 0.05),  # two chains
        "seconds": 12.5,
        "sessions": 10,
        "bars": 4805,
        "disk_bytes": 4800 * 300 + 5 * 414,
        "unserved": [],
        "disk_free_bytes": None,  # the database is somewhere else
    }
    assert versions(site) == before
    assert site.query("SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM provider_budget)") == [(0, 0)]
    assert site.runs() == []
    assert standin.requests == []


def test_years_at_five_requests_a_minute(site: Shell) -> None:
    """Two years of minutes are ten requests and of days one; of one chain alone, what it takes."""
    span = ("--symbols", "AAPL", "--start", "2024-08-06", "--end", "2026-08-05")
    ran = site.quick("plan", *span)
    assert ran.stdout.splitlines()[1:3] == [
        "requests: 11 polygon requests",
        "time:     about 3 min (requests 3 min, writing 9 s)",
    ]
    assert told(site, *span)["waiting_s"] == pytest.approx(10 * 12 * 1.04)
    assert told(site, *span, "--timeframes", "1w")["requests"] == {"polygon": 1}
    assert told(site, *span, "--timeframes", "4h,5m")["requests"] == {"polygon": 10}


def test_a_run_takes_what_was_planned_and_then_nothing_is_left(site: Shell, standin: StandIn) -> None:
    planned = told(site, *WEEK)
    standin.reset()
    assert site.quick("run", *WEEK, **AT_ONCE).returncode == 0
    assert len(standin.requests) == planned["requests"]["polygon"]
    ran = site.quick("plan", *WEEK)
    assert (ran.returncode, ran.stdout) == (0, "nothing to ask for: what is served of it is complete\n")
    assert {name: told(site, *WEEK)[name] for name in ("requests", "seconds", "sessions", "bars", "disk_bytes")} == {
        "requests": {},
        "seconds": 0.0,
        "sessions": 0,
        "bars": 0,
        "disk_bytes": 0,
    }
    # Half of the next fortnight's sessions are there, the others are not.
    more = told(site, "--start", "2026-08-05", "--end", "2026-08-14", "--timeframes", "1m")
    assert (more["sessions"], more["requests"]) == (5, {"polygon": 1})


def test_green_partitions_cost_nothing_though_their_answers_are_no_longer_believed(
    site: Shell, standin: StandIn
) -> None:
    """Inside the correction window an answer lives until the next night; a run leaves green partitions alone."""
    site.quick("run", *WEEK, **AT_ONCE)
    site.query("UPDATE coverage SET valid_until = fetched_at + interval '1 second'")
    standin.reset()
    assert site.quick("plan", *WEEK).stdout == "nothing to ask for: what is served of it is complete\n"
    assert "nothing was started" in site.quick("run", *WEEK, **AT_ONCE).stdout
    assert standin.requests == []


def test_what_is_not_served_is_said_on_a_line_of_its_own(site: Shell) -> None:
    assert site.quick("symbols", "add", "BTC-EUR", "--asset-class", "crypto", **AT_ONCE).returncode == 0
    ran = site.quick(
        "plan", "--symbols", "BTC-EUR", "--start", "2026-08-03", "--end", "2026-08-04", BACKFILL_PROVIDER="polygon"
    )
    assert ran.returncode == 0
    assert ran.stdout == "nothing to ask for: what is served of it is complete\n"
    why = "polygon has no crypto called BTC-EUR; crypto is X:BTCUSD"
    assert ran.stderr.splitlines() == [f"not served: BTC-EUR {base}: {why}" for base in ("1m", "1d")]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--symbols", "NOBODY", "--days", "3"), "symbol NOBODY not registered; add: backfill symbols add NOBODY"),
        (("--symbols", "AAPL"), "give days, or both start and end, as in 2024-03-01"),
        (("--symbols", "AAPL", "--days", "0"), "days is 0; give 1 or more"),
        (("--symbols", "AAPL", "--days", "3", "--timeframes", "2h"), "timeframe '2h' is not known"),
    ],
)
def test_a_wrong_argument_is_one_line(site: Shell, arguments: tuple[str, ...], line: str) -> None:
    assert line in one_line(site.quick("plan", *arguments))
