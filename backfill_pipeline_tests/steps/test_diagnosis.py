"""What the doctor makes of this machine and of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import exchange_calendars
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.steps.diagnosis import (
    check_calendars,
    check_clock,
    check_database,
    check_disks,
    from_error,
    judge_disk,
    zone_data_version,
)
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    migrate(database_url)
    with closing(connect(database_url)) as connection:
        yield connection


@pytest.mark.parametrize(("free", "status"), [(20e9, "ok"), (9e9, "warning"), (0.9e9, "problem"), (0, "problem")])
def test_a_full_disk_is_told_before_postgresql_stops(free: int, status: str) -> None:
    check = judge_disk(Path("/data"), free)
    assert check.status == status
    assert check.detail == f"{free / 1e9:.1f} GB free at /data"
    assert bool(check.next_step) is (status != "ok")


@pytest.mark.parametrize(("free", "status"), [(99e9, "ok"), (70e9, "warning"), (39e9, "problem")])
def test_the_floor_below_which_nothing_is_written_counts(free: int, status: str) -> None:
    check = judge_disk(Path("/data"), free, floor_gb=40.0)
    assert check.status == status
    assert ("BACKFILL_MIN_FREE_GB is 40" in check.detail) is (status == "problem")


def test_one_file_system_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    assert len(check_disks([tmp_path, tmp_path / "postgres", tmp_path / "none"])) == 1


@pytest.mark.parametrize(
    ("off", "status", "words"),
    [
        (0, "ok", "0.0 s"),
        (-5, "warning", "5.0 s ahead of this machine's"),
        (5, "warning", "5.0 s behind this machine's"),
        (3600, "problem", "3600.0 s behind this machine's"),
    ],
)
def test_clocks_that_differ_are_told(conn: Connection, off: float, status: str, words: str) -> None:
    check = check_clock(conn, lambda: datetime.now(UTC) + timedelta(seconds=off))
    assert check.status == status
    assert words in check.detail


def test_a_migration_that_is_not_applied_is_a_problem(conn: Connection) -> None:
    assert [check.status for check in check_database(conn, "here")] == ["ok", "ok"]
    with conn, conn.cursor() as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE name > '003'")
    check = check_database(conn, "here")[0]
    assert (check.status, check.next_step) == ("problem", "backfill db migrate")
    assert "2 migrations applied" in check.detail
    assert "not applied: 003_provider_budget.sql and later" in check.detail


def follow(conn: Connection, symbol: str, calendar: str, *, active: bool = True) -> None:
    with conn, conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO symbols (symbol, asset_class, calendar, active) VALUES (%s, 'stock', %s, %s)",
            (symbol, calendar, active),
        )


def test_the_calendars_of_the_symbols_that_are_followed_are_looked_at(conn: Connection) -> None:
    today = date(2026, 3, 1)
    assert check_calendars(conn, today).detail.startswith("XNYS to 2027-12-31 (exchange_calendars ")
    follow(conn, "BTCUSDT", "24/7")
    follow(conn, "OLD", "XLON", active=False)
    assert check_calendars(conn, today).detail.startswith("24/7, XNYS to 2027-12-31 (exchange_calendars ")


def test_a_calendar_that_ends_soon_wants_a_newer_package(conn: Connection) -> None:
    """Shanghai's holidays are known as long as its government has told them."""
    last = exchange_calendars.get_calendar("XSHG", start="2024-01-01", end="2024-01-31").bound_max().date()
    follow(conn, "600519", "XSHG")
    step = "install a newer exchange_calendars: XSHG ends"
    ahead = {days: check_calendars(conn, last - timedelta(days=days)) for days in (120, 30, -1)}
    assert {days: check.status for days, check in ahead.items() if check.next_step == step} == {
        30: "warning",
        -1: "problem",
    }


def test_data_of_time_zones_grow_old(conn: Connection) -> None:
    year = int(zone_data_version()[:4])
    assert check_calendars(conn, date(year + 1, 6, 1)).status == "ok"
    old = check_calendars(conn, date(year + 2, 6, 1))
    assert old.status == "warning"
    assert "time-zone data" in old.next_step


def test_an_error_is_cut_into_what_is_wrong_and_what_to_do() -> None:
    check = from_error("database", ValueError("port 1: refused; start it; or correct DATABASE_URL"), "look")
    assert (check.detail, check.next_step) == ("port 1: refused; start it", "or correct DATABASE_URL")
    assert from_error("database", ValueError("it is gone"), "look").next_step == "look"
