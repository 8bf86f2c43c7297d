"""Polygon's stand-in as most commands want it; a file that wants another one has its own."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from backfill_pipeline_tests.standin import StandIn


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(now=datetime(2026, 11, 1, tzinfo=UTC), keys=("planted-key-0123456789",)) as started:
        yield started
