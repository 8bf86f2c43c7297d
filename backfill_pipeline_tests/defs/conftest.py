"""What most tests of Dagster's bookkeeping want; a file that wants another one has its own."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline_tests.defs.bookkept_runs import users_instance


@pytest.fixture
def instance(tmp_path: Path, dagster_database_url: str) -> Iterator[dg.DagsterInstance]:
    with users_instance(tmp_path, dagster_database_url) as made:
        yield made
