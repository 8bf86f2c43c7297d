"""`backfill reconcile` at a shell: after a change of grain, and with bars that were lost."""

import json
from collections.abc import Iterator

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        made.quick("symbols", "add", "IBM", "--bars", "1d")
        ran = made.quick("run", "--symbols", "IBM", "--start", "2012-01-01", "--end", "2012-03-31")
        assert ran.returncode == 0, ran.stderr
        yield made


def test_a_changed_grain_is_told_by_every_command_until_it_is_reconciled(desk: Shell) -> None:
    weeks = {"BACKFILL_DAILY_GRAIN": "week"}
    told = desk.quick("symbols", "list", **weeks)
    assert told.returncode == 0
    assert told.stderr.splitlines()[0].startswith("BACKFILL_DAILY_GRAIN is week and was month: bars and coverage stay")

    done = desk.quick("reconcile", **weeks)

    assert done.returncode == 0, done.stderr
    # The quarter's sessions lie in 13 weeks, Monday 2012-01-02 to Sunday 2012-04-01.
    assert "13 recorded as complete, 0 turned red" in done.stdout
    assert desk.quick("symbols", "list", **weeks).stderr == ""
    ran = desk.quick("run", "--symbols", "IBM", "--start", "2012-01-02", "--end", "2012-03-31", **weeks)
    assert ran.stdout.startswith("everything asked for is complete already")
    # And back: the months are still recorded.
    assert "all show what the tables say" in desk.quick("reconcile").stdout


def test_a_partition_that_lost_its_bars_is_named_and_turned_red(desk: Shell) -> None:
    desk.query("UPDATE session_status SET missing = expected, stored = 0 WHERE session = '2012-02-06'")

    report = json.loads(desk.quick("reconcile", "--symbols", "IBM", "--json").stdout)

    assert (report["recorded"], report["turned_red"], report["error"]) == (0, 1, None)
    assert report["incomplete"][0].startswith("IBM 2012-02 1d: 1 of 20 bars are missing")
    assert "all show what the tables say" in desk.quick("reconcile").stdout, "it is red already"


def test_an_unknown_symbol_is_one_line(desk: Shell) -> None:
    assert "symbol NOSUCH not registered" in one_line(desk.quick("reconcile", "--symbols", "NOSUCH"))
