"""Warehouses for tests: a migrated database, a clock that stands still, and an exchange whose every answer the test
decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from backfill_pipeline.domain.bars import make_bars
from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.instruments import AssetClass, Instrument
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY, Base, Chain
from backfill_pipeline.domain.windows import MINUTE, Window, subtract, to_micros
from backfill_pipeline.providers.base import Answer, Lifetime, Provider, Request, Served, Settle
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.providers.router import Router
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline.storage.symbols import add_symbol, get_instruments

NEW_YORK = ZoneInfo("America/New_York")
HALF_DAYS = {date(2024, 7, 3), date(2024, 11, 29), date(2024, 12, 24)}

Row = tuple[float, float, float, float, float, float | None, int | None]


def ny(day: date, hour: int, minute: int = 0) -> datetime:
    """A wall-clock time in New York."""
    return datetime.combine(day, time(hour, minute), NEW_YORK)


def micros(day: date, hour: int, minute: int = 0) -> int:
    return to_micros(ny(day, hour, minute))


def minutes_between(start: datetime, end: datetime) -> list[int]:
    return list(range(to_micros(start), to_micros(end), MINUTE))


def regular_minutes(day: date) -> list[int]:
    """Starts of a New York session's regular minutes, from the wall clock alone."""
    return minutes_between(ny(day, 9, 30), ny(day, 13) if day in HALF_DAYS else ny(day, 16))


def row_of(ts: int) -> Row:
    """A plausible bar of any minute: in whole cents, so that sums of volumes are exact."""
    step = ts // MINUTE
    opening, closing = 100 + (step * 37 % 301) / 100, 100 + ((step + 1) * 37 % 301) / 100
    high, low = max(opening, closing) + step % 7 / 100, min(opening, closing) - step % 5 / 100
    return opening, high, low, closing, float(100 + step * 13 % 400), round((high + low) / 2, 2), 1 + step % 9


@dataclass
class Exchange:
    """A provider with the rows the test gave it. It answers whole stretches up to the minute (or day) under way.

    `silent`: stretches it says nothing about. `provisional`: rows it sends for stretches it does not answer for.
    `garbage`: rows it adds to any answer. `fails`: raised when a request reaches the day, after the days before it.
    """

    name: str = "exchange"
    settle: Settle = field(default_factory=lambda: Settle("close", timedelta(minutes=15)))
    minutes: dict[int, Row] = field(default_factory=dict)
    days: dict[int, Row] = field(default_factory=dict)
    silent: list[Window] = field(default_factory=list)
    provisional: dict[int, Row] = field(default_factory=dict)
    garbage: list[tuple[int, Row]] = field(default_factory=list)
    fails: dict[date, ProviderError] = field(default_factory=dict)
    serves: tuple[date, date] = (date(1990, 1, 1), date(2030, 12, 31))
    lifetimes: dict[str, Lifetime] = field(default_factory=dict)
    requests: list[tuple[Base, Window]] = field(default_factory=list)
    live: bool = False
    page: int | None = None

    def trade(self, days: Sequence[date], *, extended: bool = False) -> Exchange:
        """Fill whole sessions with rows."""
        for day in days:
            hours = minutes_between(ny(day, 4), ny(day, 20)) if extended else regular_minutes(day)
            self.minutes |= {ts: row_of(ts) for ts in hours}
            self.days[micros(day, 0)] = row_of(micros(day, 0))
        return self

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        return Served(sessions.days_window(*self.serves), f"the exchange serves {self.serves[0]} to {self.serves[1]}")

    def page_rows(self, timeframe: Base) -> int | None:
        return self.page

    def expected_wait(self, requests: int) -> float:
        return 0.0

    def lifetime(self, symbol: str) -> Lifetime | None:
        return self.lifetimes.get(symbol)

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        self.requests.append((request.timeframe, request.window))
        sessions, until = request.sessions, to_micros(now)
        rows = sessions.rows(request.window)
        for i in range(rows.start, rows.stop):
            day: date = sessions.session[i].astype(object)
            if day in self.fails:
                raise self.fails[day]
            last = i == rows.stop - 1  # nights and weekends are answered with the session before
            window = Window(int(sessions.day_start[i]), request.window.end if last else int(sessions.day_start[i + 1]))
            if request.timeframe == "1m":
                over, stamps, book = until - until % MINUTE, range(window.start, window.end, MINUTE), self.minutes
            else:
                over = window.end if until >= sessions.post_close[i] else window.start
                stamps, book = range(window.start, window.start + 1), self.days
            heard = [Window(window.start, min(window.end, over))] if over > window.start else []
            answered = subtract(heard, self.silent)
            sent = [(ts, book[ts]) for ts in stamps if ts in book and any(ts in stretch for stretch in answered)]
            yield _answer(sent + [(ts, row) for ts, row in self.provisional.items() if ts in window], tuple(answered))
        if self.garbage:
            yield _answer(self.garbage, ())


def _answer(rows: Sequence[tuple[int, Row]], answered: tuple[Window, ...]) -> Answer:
    ts = [stamp for stamp, _ in rows]
    prices = [[row[i] for _, row in rows] for i in range(5)]
    vwap = [float("nan") if row[5] is None else row[5] for _, row in rows]
    trades = [-1 if row[6] is None else row[6] for _, row in rows]
    bars = make_bars(ts, *prices, vwap, trades)
    return Answer(bars, answered)


@dataclass
class Clock:
    now: datetime

    def __call__(self) -> datetime:
        return self.now.astimezone(UTC)


@contextmanager
def opened(url: str, provider: Provider, now: datetime) -> Iterator[Warehouse]:
    """A warehouse on a database that is migrated first; its clock stands at `now` and can be set."""
    migrate(url)
    conn = connect(url)
    try:
        yield Warehouse(conn, Router([provider]), Clock(now))
    finally:
        conn.close()


def at(warehouse: Warehouse, now: datetime) -> Warehouse:
    """The same warehouse at another time."""
    return Warehouse(warehouse.conn, warehouse.router, Clock(now), warehouse.intraday_grain, warehouse.daily_grain)


def listed(
    warehouse: Warehouse,
    symbol: str = "ABC",
    asset_class: AssetClass = "stock",
    calendar: str = "XNYS",
    lifetime: tuple[date | None, date | None] = (None, None),
) -> Instrument:
    """A registered instrument."""
    with warehouse.conn:
        add_symbol(warehouse.conn, symbol, asset_class, calendar, first_date=lifetime[0], last_date=lifetime[1])
        return get_instruments(warehouse.conn, [symbol])[symbol]


def task(
    warehouse: Warehouse, instrument: Instrument, chain: Chain, first: date, last: date, *, ask: bool = True
) -> Task:
    """A task of the days `first` to `last`, no more, whatever the grain."""
    periods = tuple(periods_between(first, last, warehouse.grain(chain)))
    return Task(instrument, chain, periods, (first, last), ask)


def backfill(
    warehouse: Warehouse, instrument: Instrument, chain: Chain, first: date, last: date, *, ask: bool = True
) -> dict[str, PartitionOutcome]:
    """Run one task; its outcomes by date key, ascending."""
    done = run_task(warehouse, task(warehouse, instrument, chain, first, last, ask=ask), Work())
    return {outcome.period.key: outcome for outcome in sorted(done, key=lambda outcome: outcome.period)}


def run_task(warehouse: Warehouse, task: Task, work: Work) -> list[PartitionOutcome]:
    """One task's outcomes, in the order in which they came."""
    return [outcome for _, outcome in run_tasks(warehouse, [task], work)]


def both_chains(warehouse: Warehouse, instrument: Instrument, first: date, last: date) -> None:
    for chain in (INTRADAY, DAILY):
        backfill(warehouse, instrument, chain, first, last)


def query(warehouse: Warehouse, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """Rows of a statement, committed."""
    with warehouse.conn, warehouse.conn.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return [] if cursor.description is None else cursor.fetchall()


def empty(warehouse: Warehouse) -> None:
    """Forget everything but the calendars."""
    query(
        warehouse,
        "TRUNCATE symbols, wanted, served, bars, bar_revisions, quarantine, coverage, session_status, features"
        " RESTART IDENTITY CASCADE",
    )
