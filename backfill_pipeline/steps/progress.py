"""What a run does for its job's progress: takes it up, tells what it hears every second, and says how it ended.

The tables are written on a connection of their own, in transactions of their own: neither a rolled-back window nor a
kill takes progress back. A run never fails for want of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.pace import Pace
from backfill_pipeline.domain.timeframe import CHAINS, Chain, Timeframe, chain_of
from backfill_pipeline.storage.connection import DatabaseError
from backfill_pipeline.storage.job_news import Far, Settled, tell
from backfill_pipeline.storage.jobs import (
    BackfillJob,
    EndStatus,
    Origin,
    Place,
    aim,
    beside,
    close_job,
    end_run,
    expect_run,
    find_job,
    hold,
    judged_places,
    note_error,
    open_job,
    start_run,
)

from .messages import run_command
from .outcomes import PartitionOutcome
from .task import Task, survey, to_do_again
from .warehouse import Warehouse
from .window import Work

logger = logging.getLogger(__name__)

# News are written this often, in seconds.
EVERY = 1.0
# Characters of an error that are kept.
_LONGEST = 1000

# The newest run's connection: one process works on one run at a time.
_open: list[Connection] = []

# Part of a task that needs nothing, and why: empty where it is complete.
Known = tuple[Task, str]


@dataclass(frozen=True)
class Share:
    """Which run, and whose job. `dagster_id`: the backfill's where the run is one of its runs, else a run's."""

    dagster_id: str
    run_id: str
    origin: Origin
    is_all: bool = True  # the job ends with this run; else with Dagster's backfill


class Progress:
    """One run's news of its job, from `begin` to `ended`."""

    def __init__(
        self, conn: Connection, job_id: str, share: Share, now: Callable[[], datetime], work: Work, pace: Pace
    ) -> None:
        self.job_id = job_id
        self._conn, self._share, self._now, self._work = conn, share, now, work
        self._lock = threading.Lock()
        self._settled: dict[Place, Settled] = {}
        self._at: Place | None = None
        self._received: dict[tuple[str, Timeframe], int] = {}
        self._written: dict[tuple[str, Timeframe], int] = {}
        self._to_wait = 0.0
        self._pace = pace

    def heard(self, chain: Chain, outcome: PartitionOutcome) -> None:
        """A partition is settled. Costs microseconds: it is written with the next news."""
        place: Place = (outcome.symbol, chain.base)
        with self._lock:
            settled = self._settled.setdefault(place, Settled())
            (settled.incomplete if outcome.state == "incomplete" else settled.complete).append(outcome.period)
            if outcome.state in ("incomplete", "not served"):
                settled.message = settled.message or outcome.message
            self._at = place

    @contextmanager
    def kept_live(self) -> Iterator[None]:
        """News are written every second meanwhile, by a thread: a run may wait long for its next answer."""
        over = threading.Event()
        failed: list[str] = []

        def write() -> None:
            while not over.wait(EVERY):
                try:
                    self.flush()
                except (DatabaseError, psycopg2.Error) as error:
                    failed.append(_line(error))
                    return

        thread = threading.Thread(target=write, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        # Not by the thread: where the database is away, a run's log cannot take it either, and raises.
        if failed:
            logger.warning(f"the progress of this run was no longer written: {failed[0]}")

    def flush(self) -> None:
        """Write what was heard since the last time. Raises psycopg2.Error."""
        with self._lock:
            settled, self._settled, at = self._settled, {}, self._at
        # Copies, for the run goes on counting.
        received, written, to_wait = dict(self._work.received_of), dict(self._work.written_of), self._work.to_wait
        fetched, inserted = _more(received, self._received), _more(written, self._written)
        if not (settled or fetched or inserted) and to_wait == self._to_wait:
            return
        is_idle = not (received or written)
        if fetched and not settled:  # it is at a window that settles nothing yet
            symbol, timeframe = list(fetched)[-1]
            at = symbol, chain_of(timeframe).base

        def ends_at(far: Far) -> datetime | None:
            left = self._pace.left(time.monotonic(), far.settled, far.target, to_wait, is_idle=is_idle)
            return None if left is None else self._now() + timedelta(seconds=left)

        tell(self._conn, self.job_id, settled, fetched, inserted, at, self._now(), ends_at)
        self._received, self._written, self._to_wait = received, written, to_wait

    def ended(self, status: EndStatus, message: str | None = None) -> None:
        """The run is over, and with it the job, unless it is a backfill's: other runs may be yet to come."""
        try:
            self.flush()
            with self._conn:
                end_run(self._conn, self._share.run_id, self._now())
                self._close(status, message)
        except (DatabaseError, psycopg2.Error) as error:
            logger.warning(f"how this run ended is not in backfill_jobs yet: {_line(error)}")

    def _close(self, status: EndStatus, message: str | None) -> None:
        job = find_job(self._conn, self.job_id)
        assert job is not None
        if message is not None:
            message = with_next_step(message, job, self._now().date())
        if self._share.is_all:
            close_job(self._conn, self.job_id, status, message, self._now())
        elif message is not None:
            note_error(self._conn, self.job_id, message)


def begin(
    warehouse: Warehouse, share: Share, tasks: Sequence[Task], known: Sequence[Known], work: Work
) -> Progress | None:
    """Take up the job that the run is a part of; None, with a warning, where that cannot be written. `tasks`, prepared:
    all that the job is to settle, as far as the run knows; `known`: what of it needs nothing.
    """
    now = warehouse.now()
    try:
        conn = _stays(beside(warehouse.conn))
        hold(conn, share.run_id)
        with conn:
            job_id = open_job(conn, share.dagster_id, share.origin, now)
            judged = set(judged_places(conn, job_id))
        new = [task for task in tasks if _place(task) not in judged]
        idle = _idle(warehouse, new, [task for task, _ in known])
        with conn:
            _aim(conn, job_id, [*tasks, *(task for task, _ in known)], idle)
            start_run(conn, job_id, share.run_id, now)
        far = _tell_known(conn, job_id, known, now)
        return Progress(conn, job_id, share, warehouse.now, work, Pace((time.monotonic(), far.settled)))
    except (DatabaseError, psycopg2.Error) as error:
        logger.warning(f"the progress of this run is not written: {_line(error)}")
        return None


def _place(task: Task) -> Place:
    return task.instrument.symbol, task.chain.base


def _idle(warehouse: Warehouse, tasks: Sequence[Task], known: Sequence[Task]) -> dict[Place, bool]:
    """Whether there is nothing to do, by place: asked before anything starts, for other runs may do it meanwhile."""
    idle = {_place(task): True for task in known if task.periods}
    for task in tasks:
        idle[_place(task)] = idle.get(_place(task), True) and _is_idle(warehouse, task)
    return idle


def _is_idle(warehouse: Warehouse, task: Task) -> bool:
    if not task.ask:  # it derives anew what is stored
        return False
    found = survey(warehouse, task)
    if "incomplete" in found.values():
        return False
    return not to_do_again(warehouse, task, [period for period, state in found.items() if state == "complete"])


def _stays(conn: Connection) -> Connection:
    """The connection, which is closed by this process's next run or by its end: until then whoever looks sees that the
    run is alive, whatever it still does after its bars.
    """
    while _open:
        _open.pop().close()
    _open.append(conn)
    return conn


def announce(warehouse: Warehouse, run_id: str, tasks: Sequence[Task]) -> str:
    """A job for a run that a process of its own is about to start; its id. `tasks`: as far as they are known."""
    conn, now = warehouse.conn, warehouse.now()
    with conn:
        job_id = open_job(conn, run_id, "shell", now)
        _aim(conn, job_id, tasks, {})
        expect_run(conn, job_id, run_id, now)
    return job_id


def nothing_to_do(warehouse: Warehouse, dagster_id: str | None, origin: Origin, known: Sequence[Known]) -> str:
    """A job of which everything is complete already is completed at once; its id."""
    conn, now = warehouse.conn, warehouse.now()
    with conn:
        job_id = open_job(conn, dagster_id, origin, now)
        _aim(conn, job_id, [task for task, _ in known], _idle(warehouse, [], [task for task, _ in known]))
    _tell_known(conn, job_id, known, now)
    with conn:
        close_job(conn, job_id, "completed", None, now)
    return job_id


def _aim(conn: Connection, job_id: str, tasks: Sequence[Task], idle: Mapping[Place, bool]) -> None:
    target: dict[Place, list[Period]] = {}
    days: list[date] = []
    for task in tasks:
        if task.periods:
            target.setdefault(_place(task), []).extend(task.periods)
            first, last = min(task.periods).first, max(task.periods).last
            days += [first, last] if task.days is None else [max(first, task.days[0]), min(last, task.days[1])]
    aim(conn, job_id, target, (min(days), max(days)) if days else None, idle)


def _tell_known(conn: Connection, job_id: str, known: Sequence[Known], now: datetime) -> Far:
    settled: dict[Place, Settled] = {}
    for task, message in known:
        of = settled.setdefault(_place(task), Settled())
        of.complete.extend(task.periods)
        of.message = of.message or message or None
    return tell(conn, job_id, settled, {}, {}, None, now, lambda _: None)


def command_of(job: BackfillJob, today: date) -> str:
    """The command that goes on with a job, wherever it was started."""
    if not job.symbols or job.start_date is None or job.end_date is None:
        return "the same again"
    bases = [chain.base for chain in CHAINS if chain.base in job.timeframes]
    end = max(job.start_date, min(job.end_date, today))
    return run_command(job.symbols, bases, job.start_date, end)


def with_next_step(message: str, job: BackfillJob, today: date) -> str:
    short = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"
    return f"{short}; what is stored stays, go on with: {command_of(job, today)}"


def _more(
    now: Mapping[tuple[str, Timeframe], int], told: Mapping[tuple[str, Timeframe], int]
) -> dict[tuple[str, Timeframe], int]:
    return {key: count - told.get(key, 0) for key, count in now.items() if count != told.get(key, 0)}


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
