"""The floor of free disk: writing stops cleanly below it, and what is stored stays."""

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.steps.disk import GB, Disk, DiskFullError
from backfill_pipeline_tests.shell import Shell, one_line, reachable_folder
from backfill_pipeline_tests.steps.warehouses import Exchange, backfill, listed, opened, query

DAYS = [date(2024, 6, 10), date(2024, 6, 11)]
NOON = datetime(2024, 6, 12, 12, tzinfo=UTC)
MORE_THAN_ANY_DISK = 10.0**9


def test_below_the_floor_nothing_more_is_written_and_what_is_stored_stays(database_url: str, tmp_path: Path) -> None:
    disk = Disk(tmp_path, 0.0)
    exchange = Exchange().trade(DAYS)
    with opened(database_url, exchange, NOON) as warehouse:
        limited = type(warehouse)(warehouse.conn, warehouse.router, warehouse.now, disk=disk)
        instrument = listed(limited)
        backfill(limited, instrument, INTRADAY, DAYS[0], DAYS[0])
        disk.floor_gb, disk._looked_at = MORE_THAN_ANY_DISK, None
        asked = len(exchange.requests)

        with pytest.raises(DiskFullError):
            backfill(limited, instrument, INTRADAY, DAYS[0], DAYS[1])

        assert len(exchange.requests) == asked, "what cannot be stored is not asked for"
        minutes = "SELECT DISTINCT session FROM bars WHERE timeframe = '1m'"
        assert query(warehouse, minutes) == [(DAYS[0],)]
        disk.floor_gb = 0.0
        backfill(limited, instrument, INTRADAY, DAYS[0], DAYS[1])
        assert len(query(warehouse, minutes)) == 2, "the same work goes on"


def test_the_line_names_the_folder_the_space_the_floor_and_what_to_do(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free / GB

    with pytest.raises(DiskFullError) as caught:
        Disk(tmp_path, MORE_THAN_ANY_DISK).refuse_full()

    line = str(caught.value)
    assert line.startswith(f"{tmp_path}: ")
    assert abs(float(line.removeprefix(f"{tmp_path}: ").split()[0]) - free) < 5.0
    assert "BACKFILL_MIN_FREE_GB is 1e+09" in line
    assert "backfill db size" in line
    assert "the same command goes on" in line
    assert "\n" not in line


def test_a_floor_of_zero_is_no_floor_and_a_look_is_good_for_seconds(tmp_path: Path) -> None:
    Disk(tmp_path, 0.0).refuse_full()
    disk = Disk(tmp_path, 0.0)
    disk.refuse_full()
    disk.floor_gb = MORE_THAN_ANY_DISK

    for _ in range(1000):
        disk.refuse_full()  # not looked at again yet


@pytest.fixture
def own() -> Iterator[Shell]:
    """A shell on an embedded server of its own."""
    with reachable_folder() as folder:
        made = Shell(folder, {"BACKFILL_HOME": str(folder / "home"), "BACKFILL_PROVIDER": "sample"})
        yield made
        made.quick("db", "stop")
        made.close()


def test_a_run_on_a_full_disk_ends_with_one_line_and_goes_on_later(own: Shell) -> None:
    own.quick("symbols", "add", "AAPL")
    ask = ("run", "--symbols", "AAPL", "--timeframes", "1m", "--start", "2026-08-04", "--end", "2026-08-05")

    full = own.quick(*ask, BACKFILL_MIN_FREE_GB="1e9")

    assert full.returncode == 1
    assert f"{own.folder / 'home'}: " in one_line(full)
    assert "BACKFILL_MIN_FREE_GB" in one_line(full)
    assert own.quick(*ask).returncode == 0
    assert "BACKFILL_MIN_FREE_GB is 'much'; allowed: a number of gigabytes" in one_line(
        own.quick("db", "status", BACKFILL_MIN_FREE_GB="much")
    )
    size = own.quick("db", "size").stdout
    assert f"free at {own.folder / 'home'}: " in size
    assert "writing stops below 1 GB" in size
