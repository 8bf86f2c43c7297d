"""One budget for all processes: real processes on a real server, time scaled down."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from backfill_pipeline.providers.budget import Budget, LimitMemory
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, PostgresLimits, Priority, ProviderKey
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline_tests.storage.takers import Taker, started

KEY = ProviderKey("polygon", "https://api.example", "0123456789abcdef")


@pytest.fixture
def url(database_url: str) -> str:
    migrate(database_url)
    return database_url


@pytest.fixture
def own(url: str) -> Iterator[OwnConnection]:
    connection = OwnConnection(url)
    yield connection
    connection.close()


def in_threads(budget: PostgresBudget, priorities: Sequence[Priority], apart: float = 0.0) -> list[Priority]:
    """Who got a slot, in order, when callers of these priorities come one after the other."""
    order: list[Priority] = []

    def take(priority: Priority) -> None:
        budget.take(priority)
        order.append(priority)

    threads = [threading.Thread(target=take, args=(priority,)) for priority in priorities]
    for thread in threads:
        thread.start()
        time.sleep(apart)
    for thread in threads:
        thread.join()
    return order


def test_it_keeps_to_what_providers_expect_of_a_budget(own: OwnConnection) -> None:
    budget: Budget = PostgresBudget(own, KEY, 5)
    limits: LimitMemory = PostgresLimits(own, KEY)
    assert budget.gap == pytest.approx(12.48)
    assert limits.recall("stocks earliest") is None


def write_down_slots(url: str) -> None:
    """Have the database keep every slot that it hands out."""
    with closing(connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE provider_budget ADD COLUMN slots timestamptz[] DEFAULT '{}'")
        cursor.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF new.handed_out > old.handed_out THEN new.slots := old.slots || new.next_at; END IF;"
            " RETURN new; END $$"
        )
        cursor.execute("CREATE TRIGGER note BEFORE UPDATE ON provider_budget FOR EACH ROW EXECUTE FUNCTION note()")


@pytest.mark.parametrize(("processes", "slots"), [(1, 24), (4, 6), (16, 2)])
def test_a_limit_is_held_by_however_many_processes(url: str, processes: int, slots: int) -> None:
    write_down_slots(url)
    gap = 0.052  # 1,200 a minute, and 4 % for the time that waking up takes
    takers = started([Taker(url, 1200, slots) for _ in range(processes)])
    times = sorted(time for taker in takers for time in taker.times())
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT slots FROM provider_budget")
        begins = [end.timestamp() - gap for end in cursor.fetchall()[0][0]]
    assert len(times) == len(begins) == processes * slots
    assert min(later - begin for begin, later in pairwise(begins)) >= gap - 2e-6  # PostgreSQL counts microseconds
    # Nobody goes before a slot of its own, so no stretch of time holds more requests than slots.
    assert all(time >= begin - 1e-5 for begin, time in zip(begins, times, strict=True))


def test_a_limit_is_used_up_and_not_only_held(url: str) -> None:
    # Late callers must not cost slots: four processes' slots follow each other without a hole.
    write_down_slots(url)
    for taker in started([Taker(url, 300, 5) for _ in range(4)]):
        taker.times()
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT slots FROM provider_budget")
        slots = cursor.fetchall()[0][0]
    assert (slots[-1] - slots[0]).total_seconds() < 19 * 0.208 * 1.1


def test_a_waiting_nightly_or_repair_request_goes_before_backfill(own: OwnConnection) -> None:
    budget = PostgresBudget(own, KEY, 300)
    budget.take("backfill")
    budget.hold(0.6)
    order = in_threads(budget, ["backfill", "backfill", "repair", "backfill", "nightly"], apart=0.03)
    assert order == ["nightly", "repair", "backfill", "backfill", "backfill"]


def test_equals_are_served_in_the_order_they_came(own: OwnConnection) -> None:
    budget = PostgresBudget(own, KEY, 600)
    budget.hold(0.6)
    order: list[int] = []

    def take(number: int) -> None:
        budget.take("backfill")
        order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.04)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 5]


def test_nobody_starves_under_a_flood_of_more_urgent_requests(own: OwnConnection) -> None:
    budget = PostgresBudget(own, KEY, 1200)
    budget.hold(0.3)
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            budget.take("nightly")

    floods = [threading.Thread(target=flood) for _ in range(3)]
    for thread in floods:
        thread.start()
    time.sleep(0.1)
    begun = time.monotonic()
    budget.take("backfill")
    waited = time.monotonic() - begun
    over.set()
    for thread in floods:
        thread.join()
    # Three nightly callers are older than it: five slots each, and its own, at most.
    assert waited < 0.6 + 20 * 0.052


def test_a_killed_process_costs_the_others_a_slot_at_most(url: str) -> None:
    dying, living = started([Taker(url, 300, 100), Taker(url, 300, 8)])
    time.sleep(0.8)
    dying.kill()
    killed_at = time.time()
    times = living.times()
    after = [time for time in times if time > killed_at]
    assert len(times) == 8
    assert len(after) >= 4
    # Two slots of 0.208 s lie between the living's own while both live; from the death on one, and once one more.
    gaps = [later - time for time, later in pairwise(after)]
    assert after[0] - killed_at < 3 * 0.208 + 0.3
    assert max(gaps) < 2 * 0.208 + 0.3
    assert sum(gap > 1.7 * 0.208 for gap in gaps) <= 1


def test_the_wait_is_known_beforehand(own: OwnConnection) -> None:
    budget = PostgresBudget(own, KEY, 120)
    assert budget.expected_wait("backfill") == 0
    budget.take("backfill")
    assert budget.expected_wait("backfill") == pytest.approx(0.52, abs=0.15)
    assert budget.expected_wait("backfill", 11) == pytest.approx(5.72, abs=0.15)
    expected = budget.expected_wait("nightly")
    assert budget.take("nightly") == pytest.approx(expected, abs=0.2)


def test_a_pause_stops_everybody_and_resume_starts_them_within_seconds(url: str, own: OwnConnection) -> None:
    budget = PostgresBudget(own, KEY, 1200)
    taker = Taker(url, 1200, 30)
    started([taker])
    time.sleep(0.4)
    budget.pause()
    paused_at = time.time()
    time.sleep(1.0)
    assert budget.state().waiting == {"nightly": 0, "repair": 0, "backfill": 1}
    assert budget.state().paused_at is not None
    resumed_at = time.time()
    budget.resume()
    times = taker.times()
    assert len(times) == 30
    assert sum(paused_at + 0.3 < time < resumed_at for time in times) == 0
    assert min(time for time in times if time > resumed_at) - resumed_at < 2.0


def test_a_server_that_says_wait_is_waited_for_by_everybody(url: str, own: OwnConnection) -> None:
    takers = started([Taker(url, 1200, 12) for _ in range(2)])
    time.sleep(0.3)
    PostgresBudget(own, KEY, 1200).hold(0.8)
    held_at = time.time()
    times = [time for taker in takers for time in taker.times()]
    # What had been handed out (0.1 s ahead) may still go.
    assert sum(held_at + 0.3 < time < held_at + 0.7 for time in times) == 0
    assert max(times) > held_at + 0.7


def test_no_limit_costs_next_to_nothing_and_is_held_and_paused_all_the_same(own: OwnConnection) -> None:
    budget, other = PostgresBudget(own, KEY, 0), PostgresBudget(own, KEY, 0)
    begun = time.process_time()
    for _ in range(10_000):
        budget.take("backfill")
    assert (time.process_time() - begun) / 10_000 < 50e-6
    other.hold(0.9)
    time.sleep(0.5)  # it looks twice a second
    assert budget.take("backfill") > 0.2
    other.pause()
    time.sleep(0.5)
    threading.Timer(0.6, other.resume).start()
    assert budget.take("backfill") > 0.4


def test_budgets_of_other_keys_and_addresses_are_apart(own: OwnConnection) -> None:
    mine = PostgresBudget(own, KEY, 6)
    mine.take("backfill")
    for key in (
        ProviderKey("polygon", "https://api.example", "fedcba9876543210"),
        ProviderKey("polygon", "http://127.0.0.1:1", "0123456789abcdef"),
        ProviderKey("tradier", "https://api.example", "0123456789abcdef"),
    ):
        assert PostgresBudget(own, key, 6).take("backfill") < 0.5
    assert mine.expected_wait("backfill") > 9


def test_a_lost_connection_is_opened_again(url: str, own: OwnConnection) -> None:
    budget = PostgresBudget(own, KEY, 6000)
    budget.take("backfill")
    with closing(connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'backfill budget' AND datname = current_database()"
        )
    budget.take("backfill")
    assert budget.state().handed_out == 2


def test_a_forked_child_opens_a_connection_of_its_own(own: OwnConnection) -> None:
    mine = own.rows("SELECT pg_backend_pid()", ())[0][0]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(own.rows("SELECT pg_backend_pid()", ())[0][0]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != mine
    assert own.rows("SELECT pg_backend_pid()", ())[0][0] == mine


def test_what_is_learned_of_a_plan_is_kept_per_key(own: OwnConnection) -> None:
    limits = PostgresLimits(own, KEY)
    learned = datetime(2026, 11, 22, 12, tzinfo=UTC)
    limits.remember("stocks earliest", date(2024, 11, 22), learned)
    assert limits.recall("stocks earliest") == (date(2024, 11, 22), learned)
    assert limits.recall("crypto earliest") is None
    assert PostgresLimits(own, ProviderKey("polygon", "https://api.example", "0")).recall("stocks earliest") is None
    limits.remember("stocks earliest", None, learned)
    assert limits.recall("stocks earliest") == (None, learned)
