"""What Dagster's bookkeeping costs: 16 assets, 726 days of one symbol, one ranged run of one step."""

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import dagster as dg

from backfill_pipeline.database_urls import sqlalchemy_url
from backfill_pipeline.defs.bookkeeping import Recorder

from .database import fresh_database
from .figures import Figure

ASSETS = [f"asset_{number:02d}" for number in range(16)]
FIRST, ONE_DAY, LAST, DAYS = "2022-01-01|AAPL", "2022-01-01|AAPL", "2023-12-27|AAPL", 726
LIMIT_MS = 1.2
# As much as a partition of the chains says about itself.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
METADATA = {
    "rows": 390,
    "first_ts": "2022-01-03T14:30:00+00:00",
    "last_ts": "2022-01-03T20:59:00+00:00",
    "provider": "synthetic",
    "segments": {"pre": 0, "regular": 390, "post": 0},
    "note": "",
}

_partitions = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition("2022-01-01", end_date="2024-01-01"),
        "symbol": dg.DynamicPartitionsDefinition(name="benchmark_symbol"),
    }
)


def _chain() -> dg.AssetsDefinition:
    with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):
        policy = dg.BackfillPolicy.single_run()

        @dg.multi_asset(
            specs=[dg.AssetSpec(name, skippable=True) for name in ASSETS],
            can_subset=True,
            partitions_def=_partitions,
            backfill_policy=policy,
        )
        def chain(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
            with Recorder(context) as recorder:
                for key in context.partition_keys:
                    for asset in ASSETS:
                        recorder.record(asset, key, METADATA)
            yield from ()

    return chain


def _seconds(instance: dg.DagsterInstance, last: str) -> float:
    tags = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": last}
    started = time.perf_counter()
    assert dg.materialize([_chain()], instance=instance, tags=tags, run_config=QUIET).success
    return time.perf_counter() - started


def run() -> list[Figure]:
    """Milliseconds of the whole run for each asset and partition, its planned events included, less what a run over a
    single day takes."""
    with fresh_database("bookkeeping") as database_url, tempfile.TemporaryDirectory() as home:
        shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home)
        with (
            mock.patch.dict(os.environ, DAGSTER_DATABASE_URL=sqlalchemy_url(database_url)),
            dg.DagsterInstance.from_config(home) as instance,
        ):
            instance.add_dynamic_partitions("benchmark_symbol", ["AAPL"])
            _seconds(instance, ONE_DAY)  # the first run pays for imports and connections
            fixed = _seconds(instance, ONE_DAY)
            milliseconds = 1000 * (_seconds(instance, LAST) - fixed) / (len(ASSETS) * (DAYS - 1))
    return [Figure("bookkeeping, ms per asset and partition", milliseconds, LIMIT_MS)]
