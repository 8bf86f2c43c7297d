"""A running stand-in per test, on a Thursday evening in New York, and a client that reads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.standin.reader import NOW, Reader


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


@pytest.fixture
def reader(standin: StandIn) -> Reader:
    return Reader(standin)
