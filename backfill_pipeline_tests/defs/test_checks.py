"""Asset checks in real runs on a real instance: what is stored of them, and that they fail no run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.checks import check_keys, check_specs
from backfill_pipeline.domain.timeframe import CHAINS, DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, failure, site

NAMES = {
    "bars_1m": {"bars_are_valid", "session_is_complete", "no_open_gaps", "calendar_is_current"},
    "bars_1d": {
        "bars_are_valid",
        "session_is_complete",
        "no_open_gaps",
        "calendar_is_current",
        "daily_agrees_with_minutes",
    },
}


@pytest.fixture
def desk(server: EmbeddedServer, tmp_path: Path) -> Iterator[Site]:
    with site(server, tmp_path, Exchange(), datetime(2024, 6, 3, 12, tzinfo=UTC)) as made:
        yield made


def latest(desk: Site, asset: str, check: str) -> dg.AssetCheckEvaluation:
    """The newest evaluation, as the UI shows it beside the asset."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    (record,) = desk.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.evaluation is not None, f"{asset} {check} is {record.status}"
    return record.evaluation


def test_every_base_asset_has_its_checks_each_with_a_description() -> None:
    specs = [spec for chain in CHAINS for spec in check_specs(chain)]
    found: dict[str, set[str]] = {}
    for spec in specs:
        found.setdefault(spec.asset_key.to_user_string(), set()).add(spec.name)
        assert spec.description
        assert not spec.blocking
    assert found == NAMES
    assert {key.asset_key.to_user_string() for key in check_keys([DAILY])} == {"bars_1d"}
    assert len(check_keys([INTRADAY])) == 4


def test_everything_is_checked_by_one_job_and_what_it_finds_does_not_fail_it(desk: Site) -> None:
    desk.register("AAA", bars=["1m"])
    desk.chain("backfill_intraday", "2024-05-13|AAA", "2024-05-17|AAA")
    desk.run("check_everything")
    for asset, names in NAMES.items():
        for name in names:
            evaluation = latest(desk, asset, name)
            assert evaluation.passed, (asset, name, evaluation.description)
            assert evaluation.metadata["count"].value == 0

    desk.query("UPDATE session_status SET stored = 380, missing = 10 WHERE session = '2024-05-15'")
    result = desk.run("check_everything")

    assert result.success
    evaluation = latest(desk, "bars_1m", "session_is_complete")
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert evaluation.description == "AAA 2024-05-15: 10 of 390 bars are missing"
    assert evaluation.metadata["count"].value == 1
    assert evaluation.metadata["sample"].value == "- AAA 2024-05-15: 10 of 390 bars are missing"
    assert latest(desk, "bars_1d", "session_is_complete").passed


def test_of_many_findings_the_metadata_has_the_count_and_some(desk: Site) -> None:
    desk.register("AAA", bars=["1m"])
    desk.chain("backfill_intraday", "2024-04-01|AAA", "2024-05-17|AAA")
    desk.query("UPDATE session_status SET stored = 380, missing = 10")
    desk.run("check_everything")
    evaluation = latest(desk, "bars_1m", "session_is_complete")
    lines = str(evaluation.metadata["sample"].value).splitlines()
    assert evaluation.metadata["count"].value == 35, "seven weeks without a holiday"
    assert (len(lines), lines[-1]) == (21, "- and 15 more")


def test_what_disagrees_is_a_warning_with_figures(desk: Site) -> None:
    desk.register("AAA")
    for job, last in (("backfill_daily", "2024-05|AAA"), ("backfill_intraday", "2024-05-17|AAA")):
        desk.chain(job, last if "daily" in job else "2024-05-13|AAA", last)
    desk.query("UPDATE bars SET volume = volume * 2 WHERE timeframe = '1d' AND session = '2024-05-15'")
    desk.run("check_everything")
    evaluation = latest(desk, "bars_1d", "daily_agrees_with_minutes")
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.metadata["sessions_compared"].value == 5
    assert "AAA 2024-05-15: minutes hold 50.00 % of the day's volume, usually 100.00 %" in str(evaluation.description)


def test_a_run_of_a_chain_checks_what_is_stored_when_it_is_through(desk: Site) -> None:
    desk.register("AAA", bars=["1m"])
    desk.chain("backfill_intraday", "2024-05-13|AAA", "2024-05-17|AAA")
    for name in NAMES["bars_1m"]:
        assert latest(desk, "bars_1m", name).passed


def test_a_run_that_fails_for_missing_bars_has_checked_and_said_so(desk: Site) -> None:
    exchange = desk.pipeline.provider
    assert isinstance(exchange, Exchange)
    desk.register("AAA", bars=["1m"])
    start = datetime(2024, 5, 15, 15, tzinfo=UTC)
    exchange.withheld["AAA"] = [Window(to_micros(start), to_micros(start + timedelta(hours=1)))]

    result = desk.chain("backfill_intraday", "2024-05-13|AAA", "2024-05-17|AAA", ok=False)

    assert "1 of 5 partitions are not complete" in failure(result)
    evaluation = latest(desk, "bars_1m", "session_is_complete")
    assert (evaluation.passed, evaluation.metadata["count"].value) == (False, 1)
    assert evaluation.description == "AAA 2024-05-15: 60 of 390 bars are missing"
    assert latest(desk, "bars_1m", "bars_are_valid").passed


def test_derived_assets_alone_plan_no_check(desk: Site) -> None:
    desk.register("AAA", bars=["1m"])
    desk.chain("backfill_intraday", "2024-05-13|AAA", "2024-05-13|AAA")
    before = latest_ids(desk)
    desk.chain("backfill_intraday", "2024-05-13|AAA", "2024-05-13|AAA", ["bars_5m", "features_5m"])
    assert latest_ids(desk) == before


def test_a_check_runs_alone_without_partitions(desk: Site) -> None:
    """As the UI's button does: a run of the chain's step for the checks only, which asks nobody."""
    exchange = desk.pipeline.provider
    assert isinstance(exchange, Exchange)
    key = dg.AssetCheckKey(dg.AssetKey("bars_1m"), "no_open_gaps")
    job = build_definitions(desk.pipeline).resolve_implicit_global_asset_job_def()
    alone = job.get_subset(asset_check_selection={key})
    assert alone.execute_in_process(instance=desk.instance).success
    assert latest(desk, "bars_1m", "no_open_gaps").passed
    assert exchange.requests == []


def test_a_run_from_a_shell_checks_too(desk: Site) -> None:
    desk.register("AAA", bars=["1d"])
    config = {"symbols": ["AAA"], "timeframes": ["1d"], "start": "2024-05-01", "end": "2024-05-31"}
    desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})
    assert latest(desk, "bars_1d", "session_is_complete").passed


def latest_ids(desk: Site) -> list[int]:
    keys = check_keys(CHAINS)
    found = desk.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return sorted(record.id for record in found.values())
