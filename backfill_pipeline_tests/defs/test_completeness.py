"""The asset `completeness` in real runs on a real instance."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from PIL import Image

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, site

ASSET = dg.AssetKey("completeness")


@pytest.fixture
def desk(server: EmbeddedServer, tmp_path: Path) -> Iterator[Site]:
    with site(server, tmp_path, Exchange(), datetime(2024, 6, 3, 12, tzinfo=UTC)) as made:
        yield made


def materialized(desk: Site) -> dict[str, object]:
    definitions = build_definitions(desk.pipeline)
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={ASSET})
    assert job.execute_in_process(instance=desk.instance).success
    (record,) = desk.instance.fetch_materializations(ASSET, limit=1).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def test_it_shows_a_table_a_picture_and_counts(desk: Site) -> None:
    desk.register("AAA", "BBB")
    desk.chain("backfill_intraday", "2024-05-13|AAA", "2024-05-17|BBB")
    desk.query("UPDATE session_status SET stored = 380, missing = 10 WHERE session = '2024-05-15' AND symbol_id = 1")

    told = materialized(desk)

    assert (told["symbols"], told["missing_1m"], told["not_due_1m"], told["missing_1d"]) == (2, 10, 0, 0)
    lines = str(told["matrix"]).splitlines()
    assert lines[0].startswith("Complete, in % of the bars that are due")
    # 1940 of 1950 minutes; a derived timeframe lacks what its session's status says, and that was left as it was.
    assert lines[4] == "| `AAA` | **99.49** −10 | 100 | 100 | 100 | 100 | 100 | · | · |"
    assert lines[5].startswith("| `BBB` | 100 | 100 |")
    head, data = str(told["sessions"]).split(";base64,")
    assert head.endswith("(data:image/png")
    image = Image.open(io.BytesIO(base64.b64decode(data.removesuffix(")"))))
    assert image.size[0] == 1100
    assert "Sessions of the 90 days to 2024-05-17]" in head, "the last days that are wanted"


def test_without_symbols_it_says_what_to_type(desk: Site) -> None:
    assert materialized(desk) == {"symbols": 0, "note": "nothing is wanted yet; next: backfill symbols add AAPL"}


def test_it_stands_in_no_lineage_and_has_no_partitions(desk: Site) -> None:
    node = build_definitions(desk.pipeline).resolve_asset_graph().get(ASSET)
    assert (node.parent_keys, node.child_keys, node.partitions_def) == (set(), set(), None)
    assert (node.group_name, node.kinds) == ("completeness", {"postgres"})
