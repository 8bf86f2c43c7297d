"""What Dagster shows: names, arrows, descriptions, columns; and that loading it needs nothing and warns of nothing."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import migrate

TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(Pipeline(Settings.model_construct()))


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_every_timeframe_has_bars_and_features(specs: dict[str, dg.AssetSpec]) -> None:
    of_chains = {f"{kind}_{timeframe}" for kind in ("bars", "features") for timeframe in TIMEFRAMES}
    assert set(specs) == {*of_chains, "corporate_actions", "completeness"}


def test_the_jobs_have_the_promised_names(definitions: dg.Definitions) -> None:
    names = {job.name for job in definitions.resolve_all_job_defs()} - {"__ASSET_JOB"}

    bars = {"backfill_intraday", "backfill_daily", "master_backfill", "nightly_backfill", "ensure_coverage"}
    bars |= {"intraday_backfill", "repair_gaps"}
    assert names == {*bars, "register_symbols", "refresh_corporate_actions", "check_everything", "reconcile"}
    for name in names:
        assert definitions.resolve_job_def(name).description


def test_arrows_go_from_finer_bars_to_coarser_and_from_bars_to_features(specs: dict[str, dg.AssetSpec]) -> None:
    arrows = {name: sorted(dep.asset_key.to_user_string() for dep in spec.deps) for name, spec in specs.items()}

    assert arrows == {
        "bars_1m": [],
        "bars_5m": ["bars_1m"],
        "bars_15m": ["bars_5m"],
        "bars_30m": ["bars_15m"],
        "bars_1h": ["bars_30m"],
        "bars_4h": ["bars_1h"],
        "bars_1d": [],
        "bars_1w": ["bars_1d"],
        "corporate_actions": [],
        "completeness": [],
    } | {f"features_{timeframe}": [f"bars_{timeframe}"] for timeframe in TIMEFRAMES}


def test_each_chain_is_one_step_over_all_its_assets(definitions: dg.Definitions) -> None:
    for chain, base, count in (("intraday", "bars_1m", 12), ("daily", "bars_1d", 4)):
        job = definitions.resolve_job_def(f"backfill_{chain}")
        assert [node.name for node in job.nodes] == [f"{chain}_bars"]
        assert len(job.asset_layer.selected_asset_keys) == count
        policy = definitions.resolve_asset_graph().get(dg.AssetKey(base)).backfill_policy
        assert policy == dg.BackfillPolicy.single_run()


def test_a_run_is_one_process(definitions: dg.Definitions) -> None:
    assert definitions.executor is dg.in_process_executor
    for name in ("backfill_intraday", "backfill_daily", "master_backfill", "register_symbols"):
        assert definitions.resolve_job_def(name).executor_def is dg.in_process_executor


@pytest.mark.parametrize("name", [f"{kind}_{timeframe}" for kind in ("bars", "features") for timeframe in TIMEFRAMES])
def test_every_asset_says_what_it_is(specs: dict[str, dg.AssetSpec], name: str) -> None:
    spec, (kind, timeframe) = specs[name], name.split("_")

    assert spec.group_name == ("daily" if timeframe in ("1d", "1w") else "intraday")
    assert spec.kinds == {"postgres", kind}
    assert spec.description
    assert f"market.{kind}" in spec.description
    assert spec.metadata["dagster/table_name"] == f"market.{kind}"


def test_the_columns_that_are_shown_are_those_of_the_tables(specs: dict[str, dg.AssetSpec], database_url: str) -> None:
    migrate(database_url)
    with closing(connect(database_url)) as conn, conn.cursor() as cursor:
        for name, spec in specs.items():
            cursor.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema || '.' || table_name = %s",
                (spec.metadata["dagster/table_name"],),
            )
            stored = {row[0] for row in cursor.fetchall()}
            schema = spec.metadata["dagster/column_schema"]
            assert isinstance(schema, dg.TableSchema)
            assert {column.name for column in schema.columns} == stored != set(), name
            assert all(column.description and column.type for column in schema.columns)
            told = {column.name: column.description for column in schema.columns}
            assert not any("[-]" in str(text) for text in told.values()), "a value without a unit"
    schema = specs["bars_1d"].metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert "traded; may be fractional [shares or coins]" in [column.description for column in schema.columns]


def test_somebody_owns_every_asset(specs: dict[str, dg.AssetSpec]) -> None:
    assert {name: list(spec.owners) for name, spec in specs.items()} == {name: ["team:market-data"] for name in specs}


def test_loading_needs_no_database_and_warns_of_nothing(tmp_path: Path) -> None:
    code = (
        "import warnings, dagster\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    from backfill_pipeline.definitions import defs\n"
        "    defs.resolve_asset_graph(); [defs.resolve_job_def(j.name) for j in defs.resolve_all_job_defs()]\n"
        "print([str(w.message) for w in seen if 'backfill_pipeline' in w.filename or 'dagster' in w.filename])\n"
    )
    environment = {"BACKFILL_HOME": str(tmp_path / "none"), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/market"}

    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]\n", "")
    assert list(tmp_path.iterdir()) == []
