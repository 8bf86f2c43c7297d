"""Green, red and neither: what Dagster shows after real runs, as Dagster itself computes it."""

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import execute_run

from backfill_pipeline.defs.bookkeeping import Recorder, plan, recorded
from backfill_pipeline_tests.defs.bookkept_chain import ASSETS, KEYS, RANGE, chain, chain_job, partitions, shell_job
from backfill_pipeline_tests.defs.bookkept_runs import (
    all_colours,
    colours,
    expected,
    job_execute,
    query,
)

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

BAD, NOT_DUE = KEYS[3], KEYS[9]
GOOD = [key for key in KEYS if key not in (BAD, NOT_DUE)]
ONE_BAD_ONE_EARLY = RANGE | {"bad": BAD, "not_due": NOT_DUE}


def run(instance: dg.DagsterInstance, tags: dict[str, str], assets: tuple[str, ...] = ASSETS) -> bool:
    selection = [dg.AssetKey(asset) for asset in assets]
    result = chain_job().execute_in_process(
        instance=instance, tags=tags, asset_selection=selection, raise_on_error=False
    )
    return result.success


def stored(dagster_database_url: str, kind: str) -> list[tuple[object, ...]]:
    """(asset, partition, number of events) of a kind."""
    return query(
        dagster_database_url,
        "SELECT asset_key::json->>0, partition, count(*) FROM event_logs"
        f" WHERE dagster_event_type = '{kind}' GROUP BY 1, 2 ORDER BY 1, 2",
    )


def test_a_bad_key_is_red_an_early_one_has_no_colour_and_the_others_are_green_on_every_asset(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    assert not run(instance, ONE_BAD_ONE_EARLY)

    assert all_colours(instance) == [expected(green=GOOD, red=[BAD])] * 3
    once = [(asset, key, 1) for asset in sorted(ASSETS) for key in GOOD]
    assert stored(dagster_database_url, "ASSET_MATERIALIZATION") == once


def test_a_plain_op_job_leaves_the_same_colours_as_an_asset_run(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    tags = {"bad": BAD, "not_due": NOT_DUE}
    result = shell_job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)

    assert not result.success
    assert all_colours(instance) == [expected(green=GOOD, red=[BAD])] * 3
    once = [(asset, key, 1) for asset in sorted(ASSETS) for key in GOOD]
    assert stored(dagster_database_url, "ASSET_MATERIALIZATION") == once


def test_a_subset_of_the_assets_colours_only_that_subset(instance: dg.DagsterInstance) -> None:
    run(instance, ONE_BAD_ONE_EARLY, assets=("bars_5m", "features_1m"))

    assert all_colours(instance) == [{}, expected(green=GOOD, red=[BAD]), expected(green=GOOD, red=[BAD])]


def test_colours_follow_the_latest_run_that_announced_a_key(instance: dg.DagsterInstance) -> None:
    run(instance, ONE_BAD_ONE_EARLY)
    all_colours(instance)  # fills the status cache, which the next runs have to bring up to date

    assert run(instance, {"dagster/asset_partition_range_start": BAD, "dagster/asset_partition_range_end": BAD})
    assert all_colours(instance) == [expected(green=[*GOOD, BAD])] * 3

    assert not run(instance, RANGE | {"bad": KEYS[0], "not_due": KEYS[1]})
    green = [key for key in KEYS if key != KEYS[0]]
    assert all_colours(instance) == [expected(green=green, red=[KEYS[0]])] * 3


def test_a_key_taken_back_has_no_colour_although_the_cache_had_it_in_progress(
    instance: dg.DagsterInstance,
) -> None:
    created = instance.create_run_for_job(chain_job(), tags=ONE_BAD_ONE_EARLY)
    waiting = instance.get_status_by_partition(dg.AssetKey("bars_1m"), KEYS, partitions)
    assert {str(key): status.value for key, status in waiting.items() if status} == expected(green=[], busy=KEYS)

    execute_run(dg.reconstructable(chain_job), created, instance)

    assert all_colours(instance) == [expected(green=GOOD, red=[BAD])] * 3


def test_a_run_with_nothing_but_early_keys_leaves_no_trace(instance: dg.DagsterInstance) -> None:
    assert run(instance, RANGE | {"not_due": ",".join(KEYS)})

    assert all_colours(instance) == [{}] * 3


def test_the_record_of_an_asset_is_its_last_materialization(instance: dg.DagsterInstance) -> None:
    run(instance, ONE_BAD_ONE_EARLY)

    for asset in ASSETS:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        materialization = event.asset_materialization
        assert materialization is not None
        assert materialization.partition == GOOD[-1]
        assert materialization.metadata == {
            "rows": dg.IntMetadataValue(390),
            "provider": dg.TextMetadataValue("made up"),
        }


def test_what_was_flushed_before_a_kill_is_green_and_the_rest_red_once_the_run_is_declared_dead(
    instance: dg.DagsterInstance,
) -> None:
    died = job_execute(instance, "chain_job", RANGE | {"die_at": KEYS[7]})
    assert died.returncode == -9

    flushed = 20  # of 21 pairs (7 keys, 3 assets): four batches of 5
    after_the_kill = all_colours(instance)
    assert sum(list(of.values()).count("MATERIALIZED") for of in after_the_kill) == flushed
    assert all(of[key] == "IN_PROGRESS" for of in after_the_kill for key in KEYS[7:])

    instance.report_run_failed(instance.get_runs()[0])
    declared_dead = all_colours(instance)
    assert sum(list(of.values()).count("MATERIALIZED") for of in declared_dead) == flushed
    assert sum(list(of.values()).count("FAILED") for of in declared_dead) == 30 - flushed


def test_a_flush_shows_while_the_run_goes_on_and_a_pair_recorded_twice_is_stored_once(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    seen: list[set[tuple[str, str]]] = []

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        with Recorder(context) as recorder:
            recorder.record("bars_1m", KEYS[0], {"rows": 1})
            seen.append(recorded(context.instance, ASSETS, KEYS))
            recorder.flush()
            seen.append(recorded(context.instance, ASSETS, KEYS))
            recorder.record("bars_1m", KEYS[0], {"rows": 2})

    @dg.job
    def flushing() -> None:
        step()

    flushing.execute_in_process(instance=instance)

    assert seen == [set(), {("bars_1m", KEYS[0])}]
    assert stored(dagster_database_url, "ASSET_MATERIALIZATION") == [("bars_1m", KEYS[0], 1)]


def test_an_announcement_repeated_by_a_retried_step_does_not_turn_recorded_keys_red(
    instance: dg.DagsterInstance, dagster_database_url: str
) -> None:
    @dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
    def step(context: dg.OpExecutionContext) -> None:
        plan(context, ["bars_1m"], KEYS[:2])
        with Recorder(context) as recorder:
            if context.retry_number == 0:
                recorder.record("bars_1m", KEYS[0], {})
        raise RuntimeError

    @dg.job
    def retried() -> None:
        step()

    retried.execute_in_process(instance=instance, raise_on_error=False)

    assert colours(instance, "bars_1m") == expected(green=[KEYS[0]], red=[KEYS[1]])
    planned = stored(dagster_database_url, "ASSET_MATERIALIZATION_PLANNED")
    assert planned == [("bars_1m", KEYS[0], 1), ("bars_1m", KEYS[1], 1)]


def test_recorded_names_pairs_with_a_materialization_that_was_not_wiped(instance: dg.DagsterInstance) -> None:
    run(instance, ONE_BAD_ONE_EARLY)
    run(instance, RANGE | {"bad": f"{KEYS[0]},{BAD}"})  # the first is red now, but its materialization stands

    assert recorded(instance, ASSETS, KEYS) == {(asset, key) for asset in ASSETS for key in KEYS if key != BAD}
    assert recorded(instance, ["bars_1m"], [KEYS[0], BAD]) == {("bars_1m", KEYS[0])}
    instance.wipe_assets([dg.AssetKey("bars_1m")])
    assert recorded(instance, ["bars_1m", "bars_5m"], [KEYS[0]]) == {("bars_5m", KEYS[0])}


def warnings_of(instance: dg.DagsterInstance) -> int:
    entries = instance.all_logs(instance.get_runs()[0].run_id)
    return sum("Bookkeeping is slow or incomplete" in entry.user_message for entry in entries)


def test_with_dagster_as_it_is_nothing_falls_back(instance: dg.DagsterInstance) -> None:
    """The test that notices a change of Dagster's internals."""
    run(instance, ONE_BAD_ONE_EARLY)
    assert warnings_of(instance) == 0


@pytest.mark.parametrize("job", [chain_job(), shell_job], ids=lambda job: str(job.name))
def test_changed_internals_are_met_with_one_warning_and_the_public_way(
    instance: dg.DagsterInstance, dagster_database_url: str, monkeypatch: pytest.MonkeyPatch, job: dg.JobDefinition
) -> None:
    for context in (dg.AssetExecutionContext, dg.OpExecutionContext):
        monkeypatch.delattr(context, "get_step_execution_context")

    result = job.execute_in_process(instance=instance, tags=ONE_BAD_ONE_EARLY, raise_on_error=False)

    assert not result.success
    assert warnings_of(instance) == 1
    once = [(asset, key, 1) for asset in sorted(ASSETS) for key in GOOD]
    assert stored(dagster_database_url, "ASSET_MATERIALIZATION") == once
    red = [BAD] if job.name == "chain_job" else []  # a plain op cannot announce without the internals
    assert all_colours(instance) == [expected(green=GOOD, red=red)] * 3


def test_an_announcement_that_dagster_would_not_read_as_one_is_noticed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DagsterEvent, "is_asset_materialization_planned", False)
    result = shell_job.execute_in_process(instance=instance)

    assert result.success
    assert warnings_of(instance) == 1
    assert all_colours(instance) == [expected(green=KEYS)] * 3


def test_another_event_log_is_served_too_with_one_warning() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("bookkept_symbol", ["AAPL"])
        result = dg.materialize([chain], instance=instance, tags=ONE_BAD_ONE_EARLY, raise_on_error=False)

        assert not result.success
        assert warnings_of(instance) == 1
        red = [BAD, NOT_DUE]  # taking an announcement back needs the project's event log
        assert all_colours(instance) == [expected(green=GOOD, red=red)] * 3
        assert recorded(instance, ASSETS, KEYS) == {(asset, key) for asset in ASSETS for key in GOOD}
