"""The tables `provider_budget` and `provider_limits`: one request budget for all processes, on a connection of its own.

The clock is the database's. What is handed out is committed before anybody sleeps, so a killed process loses its own
slot and no more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from .budget_news import BudgetNews
from .connection import connect

Priority = Literal["nightly", "repair", "backfill"]
_RANK: dict[Priority, int] = {"nightly": 0, "repair": 1, "backfill": 2}

# Slots lie this much further apart than the limit asks, for processes do not wake up on the dot: over a minute of five
# requests that leaves 2.4 s.
_WIDENED = 1.04
# Where there is no limit, other processes' pauses and waits are looked for this often, in seconds.
_GLANCE = 0.5


@dataclass(frozen=True)
class ProviderKey:
    """Whose budget and limits: the provider's name, its base URL, and the key's fingerprint (never the key)."""

    provider: str
    base_url: str
    key_fingerprint: str


@dataclass(frozen=True)
class BudgetState:
    """`next_in`: seconds until the next slot that nobody has. `waiting`: callers by priority."""

    next_in: float
    waiting: dict[Priority, int]
    handed_out: int
    paused_at: datetime | None


class OwnConnection:
    """One autocommitting connection per process, opened when first used, again after a fork or a lost server. Threads
    take turns, a statement each.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._open: tuple[int, Connection] | None = None

    def rows(self, statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run one statement. Raises DatabaseError where the server cannot be reached."""
        with self._lock:
            try:
                return self._run(statement, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self._open = None  # the server went away: one more try on a new connection
                return self._run(statement, parameters)

    def close(self) -> None:
        with self._lock:
            if self._open is not None and self._open[0] == os.getpid():
                self._open[1].close()
            self._open = None

    def _run(self, statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        if self._open is None or self._open[0] != os.getpid():
            connection = connect(self._url, application_name="backfill budget")
            connection.autocommit = True
            with connection.cursor() as cursor:
                # A crash of the server takes longer than the slots it forgets: no need to wait for the disk.
                cursor.execute("SET synchronous_commit = off")
            self._open = (os.getpid(), connection)
        with self._open[1].cursor() as cursor:
            cursor.execute(statement, parameters)
            return [] if cursor.description is None else cursor.fetchall()


class PostgresBudget:
    """See providers/budget.py for the contract. `per_minute`: requests of all processes together; 0 for no limit."""

    def __init__(self, own: OwnConnection, key: ProviderKey, per_minute: float) -> None:
        self._own = own
        self._key = (key.provider, key.base_url, key.key_fingerprint)
        self._gap = 60.0 / per_minute * _WIDENED if per_minute else 0.0
        # A slot is handed out at most so long before it is due: time to wake up, and no queue of slots to stand behind.
        self._lead = min(1.0, max(2 * self._gap, 0.02))
        self._news = BudgetNews(key.provider, per_minute)
        self._glanced: float | None = None
        self._glance_lock = threading.Lock()

    @property
    def gap(self) -> float:
        return self._gap

    def take(self, priority: Priority) -> float:
        started = time.monotonic()
        if self._gap or self._is_held():
            self._queue(priority)
        return time.monotonic() - started

    def expected_wait(self, priority: Priority, requests: int = 1) -> float:
        found = self._own.rows("SELECT slot_wait(%s, %s, %s, %s, %s)", (*self._key, _RANK[priority], self._gap))
        return float(found[0][0] or 0.0) + (requests - 1) * self._gap

    def hold(self, seconds: float) -> None:
        self._change("next_at = greatest(next_at, clock_timestamp() + make_interval(secs => %s))", seconds)
        self._glanced = None

    def pause(self) -> None:
        """Hand out nothing until `resume`. Callers that have a slot (a second's worth) go ahead."""
        self._change("paused_at = coalesce(paused_at, clock_timestamp())")

    def resume(self) -> None:
        self._change("paused_at = NULL")

    def state(self) -> BudgetState:
        self._change("next_at = next_at")
        next_in, handed_out, paused_at, ranks = self._own.rows(
            "SELECT greatest(0, extract(epoch FROM next_at - clock_timestamp())), handed_out, paused_at,"
            " ARRAY(SELECT rank FROM provider_queue AS q WHERE q.budget_id = b.budget_id"
            " AND back_at > clock_timestamp() - interval '1 second')"
            " FROM provider_budget AS b WHERE provider = %s AND base_url = %s AND key_fingerprint = %s",
            self._key,
        )[0]
        waiting = {priority: ranks.count(rank) for priority, rank in _RANK.items()}
        return BudgetState(float(next_in), waiting, handed_out, paused_at)

    def _queue(self, priority: Priority) -> None:
        ticket: int | None = None
        while True:
            granted, wait, pause, ticket, paused = self._own.rows(
                "SELECT granted, wait, pause, ticket, is_paused FROM take_slot(%s, %s, %s, %s, %s, %s, %s)",
                (*self._key, _RANK[priority], ticket, self._gap, self._lead),
            )[0]
            self._news.heard(priority, wait, paused=paused)
            if granted:
                time.sleep(wait)
                return
            time.sleep(pause)

    def _is_held(self) -> bool:
        """Where there is no limit: whether requests are paused or the server said wait. A free way is believed for
        half a second.
        """
        with self._glance_lock:
            if self._glanced is not None and time.monotonic() - self._glanced < _GLANCE:
                return False
            found = self._own.rows(
                "SELECT next_at > clock_timestamp() OR paused_at IS NOT NULL"
                " FROM provider_budget WHERE provider = %s AND base_url = %s AND key_fingerprint = %s",
                self._key,
            )
            held = bool(found and found[0][0])
            self._glanced = None if held else time.monotonic()
            return held

    def _change(self, assignment: str, *parameters: object) -> None:
        self._own.rows("SELECT budget_id FROM locked_budget(%s, %s, %s)", self._key)
        self._own.rows(
            f"UPDATE provider_budget SET {assignment}"  # noqa: S608  (constants of this class)
            " WHERE provider = %s AND base_url = %s AND key_fingerprint = %s",
            (*parameters, *self._key),
        )


class PostgresLimits:
    """What was learned about a key's plan; see providers/budget.py for the contract."""

    def __init__(self, own: OwnConnection, key: ProviderKey) -> None:
        self._own = own
        self._key = (key.provider, key.base_url, key.key_fingerprint)

    def recall(self, name: str) -> tuple[date | None, datetime] | None:
        found = self._own.rows(
            "SELECT day, learned_at FROM provider_limits"
            " WHERE provider = %s AND base_url = %s AND key_fingerprint = %s AND name = %s",
            (*self._key, name),
        )
        return (found[0][0], found[0][1]) if found else None

    def remember(self, name: str, day: date | None, learned_at: datetime) -> None:
        self._own.rows(
            "INSERT INTO provider_limits (provider, base_url, key_fingerprint, name, day, learned_at)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (provider, base_url, key_fingerprint, name)"
            " DO UPDATE SET day = excluded.day, learned_at = excluded.learned_at",
            (*self._key, name, day, learned_at),
        )
