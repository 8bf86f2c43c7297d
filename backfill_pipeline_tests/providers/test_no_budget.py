"""What needs no database: no budget at all, a process's own memory, and fingerprints of keys."""

import threading
import time
from datetime import UTC, date, datetime

import pytest
from pydantic import SecretStr

from backfill_pipeline.providers.budget import Budget, LimitMemory, NoBudget, OwnMemory, fingerprint

KEY = "pk_live_0123456789abcdefXYZ"


def test_no_budget_lets_everybody_pass_at_once() -> None:
    budget: Budget = NoBudget()
    begun = time.process_time()
    for _ in range(10_000):
        budget.take("backfill")
    assert time.process_time() - begun < 0.5
    assert budget.expected_wait("backfill", 1000) == 0


def test_no_budget_waits_all_the_same_when_the_server_says_so() -> None:
    budget = NoBudget()
    budget.hold(0.3)
    budget.hold(0.1)  # a shorter wait does not cut a longer one
    assert budget.expected_wait("nightly") == pytest.approx(0.3, abs=0.05)
    begun = time.monotonic()
    threads = [threading.Thread(target=budget.take, args=("backfill",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.25 < time.monotonic() - begun < 0.6
    assert budget.take("backfill") == 0


def test_own_memory_remembers_the_latest() -> None:
    memory: LimitMemory = OwnMemory()
    first, later = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)
    assert memory.recall("stocks earliest") is None
    memory.remember("stocks earliest", date(2024, 11, 1), first)
    memory.remember("stocks earliest", None, later)
    assert memory.recall("stocks earliest") == (None, later)


def test_a_fingerprint_tells_keys_apart_and_holds_nothing_of_them() -> None:
    mark = fingerprint(SecretStr(KEY))
    assert mark == fingerprint(SecretStr(KEY))
    assert mark != fingerprint(SecretStr(KEY + "0"))
    assert len(mark) == 16
    assert not any(KEY[i : i + 5] in mark for i in range(len(KEY) - 4))
