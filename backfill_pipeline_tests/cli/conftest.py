"""What most tests of commands want; a file that wants another one has its own."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import StandIn


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(now=datetime(2026, 11, 1, tzinfo=UTC), keys=("planted-key-0123456789",)) as started:
        yield started


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    """A shell that follows AAPL, of the sample."""
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        yield made
