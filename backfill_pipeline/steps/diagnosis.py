"""What `backfill doctor` finds on this machine and in the database. Providers are in provider_checks.py."""

from __future__ import annotations

import importlib.metadata
import shutil
import zoneinfo
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.sessions import UnknownCalendarError, horizon, load_sessions
from backfill_pipeline.project_files import project_file
from backfill_pipeline.storage.migrations import applied, migration_files, pending
from backfill_pipeline.storage.symbols import list_symbols

Status = Literal["ok", "warning", "problem"]

GB = 10**9
# PostgreSQL stops where its disk is full; a large backfill writes some GB, and as much again of WAL meanwhile.
_DISK_PROBLEM, _DISK_WARNING = 1 * GB, 10 * GB
# Seconds between two clocks. Settle delays are minutes, and slots of requests are not shared by this machine's clock.
_CLOCK_WARNING, _CLOCK_PROBLEM = 2.0, 60.0
# A calendar that ends within so long wants a newer package soon.
_CALENDAR_AHEAD = timedelta(days=60)
# Zones' rules change a few times a year; data older than so many years has missed some.
_ZONE_YEARS = 2


@dataclass(frozen=True)
class Check:
    """`next_step`: what to do about it; empty where nothing is to be done."""

    check: str
    status: Status
    detail: str
    next_step: str = ""


def from_error(check: str, error: Exception, step: str) -> Check:
    """A problem from a one-line error, which mostly ends with the next step after a semicolon; else it is `step`."""
    detail, semicolon, told = str(error).rpartition("; ")
    return Check(check, "problem", detail, told) if semicolon else Check(check, "problem", str(error), step)


def check_disks(folders: Iterable[Path], floor_gb: float = 0.0) -> list[Check]:
    """Free space below each folder that exists, each file system once. `floor_gb`: below it nothing is written."""
    by_device = {folder.stat().st_dev: folder for folder in folders if folder.exists()}
    return [judge_disk(folder, shutil.disk_usage(folder).free, floor_gb) for folder in by_device.values()]


def judge_disk(folder: Path, free: int, floor_gb: float = 0.0) -> Check:
    """`free`: bytes; `floor_gb`: in 10⁹ bytes."""
    detail = f"{free / GB:,.1f} GB free at {folder}"
    floor = int(floor_gb * GB)
    if free < floor:
        step = "free some (backfill db size): below the floor nothing is written"
        return Check("disk", "problem", f"{detail}; BACKFILL_MIN_FREE_GB is {floor_gb:g}", step)
    if free >= max(_DISK_WARNING, 2 * floor):
        return Check("disk", "ok", detail)
    step = f"free some, {max(_DISK_WARNING, 2 * floor) / GB:g} GB at least"
    return Check("disk", "problem" if free < _DISK_PROBLEM else "warning", detail, step)


def check_database(conn: Connection, where: str) -> list[Check]:
    """Of a server that can be reached: version, migrations, checksums. `where`: which one, for people."""
    with conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database())),"
            " current_setting('data_checksums')"
        )
        version, size, checksums = cursor.fetchone() or ("", "", "")
        known, waiting = applied(conn), pending(conn, migration_files(project_file("sql")))
    detail = f"PostgreSQL {version.split()[0]}, {where}; {len(known)} migrations applied, {size}"
    if waiting:
        step = "backfill db migrate"
        database = Check("database", "problem", f"{detail}; not applied: {waiting[0].name} and later", step)
    else:
        database = Check("database", "ok", detail)
    if checksums == "on":
        return [database, Check("checksums", "ok", "a page that the disk damages is noticed")]
    step = "stop the server, and run pg_checksums --enable on its data"
    return [database, Check("checksums", "warning", "off: a page that the disk damages goes unnoticed", step)]


def check_clock(conn: Connection, now: Callable[[], datetime]) -> Check:
    """The difference between the database's clock and this machine's, which is `now`: aware."""
    with conn, conn.cursor() as cursor:
        before = now()
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = (cursor.fetchone() or (before,))[0]
        middle = before + (now() - before) / 2
    seconds = (theirs - middle).total_seconds()
    detail = f"the database's is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(seconds) < _CLOCK_WARNING:
        return Check("clock", "ok", detail)
    status: Status = "problem" if abs(seconds) >= _CLOCK_PROBLEM else "warning"
    return Check("clock", status, detail, "set both by NTP: what is due is judged by these clocks")


def check_calendars(conn: Connection, today: date) -> Check:
    """Of the followed symbols and XNYS: whether each reaches far enough ahead; and the age of the zones' data."""
    with conn:
        names = {registered.instrument.calendar for registered in list_symbols(conn) if registered.active}
    version = importlib.metadata.version("exchange_calendars")
    ends: dict[str, date] = {}
    for name in sorted(names | {"XNYS"}):
        try:
            ends[name] = load_sessions(name, horizon(today)).session[-1].astype(object)
        except (UnknownCalendarError, zoneinfo.ZoneInfoNotFoundError) as error:
            return Check("calendars", "problem", f"{name}: {error}", "install exchange_calendars and tzdata anew")
    zones = zone_data_version()
    detail = f"{', '.join(ends)} to {min(ends.values())} (exchange_calendars {version}); time zones {zones}"
    soon = sorted(name for name, end in ends.items() if end < today + _CALENDAR_AHEAD)
    if soon:
        status: Status = "problem" if min(ends.values()) <= today else "warning"
        return Check("calendars", status, detail, f"install a newer exchange_calendars: {', '.join(soon)} ends")
    if zones[:4].isdecimal() and int(zones[:4]) <= today.year - _ZONE_YEARS:
        return Check("calendars", "warning", detail, "install newer time-zone data: the system's, or package tzdata")
    return Check("calendars", "ok", detail)


def zone_data_version() -> str:
    """Release of the zones' data that Python uses, as `2026f`; `of unknown age` where it does not say."""
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / "America" / "New_York").exists():
            file = folder / "tzdata.zi"
            return file.read_text().splitlines()[0].split()[-1] if file.exists() else "of unknown age"
    return importlib.metadata.version("tzdata")
