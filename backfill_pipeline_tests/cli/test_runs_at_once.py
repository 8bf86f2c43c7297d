"""How many runs there are at once: by `BACKFILL_RUNS_AT_ONCE`, else by the machine and by the provider's plan."""

import os

import pytest
import yaml
from pydantic import SecretStr

from backfill_pipeline.cli.dagster_home import dagster_yaml
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import one_line, shell

KEY = SecretStr("planted-key-0123456789")
CORES = max(3, os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        pytest.param({"provider": "synthetic"}, CORES, id="what the machine can do"),
        pytest.param({"polygon_api_key": KEY}, 3, id="five requests a minute are what runs wait for"),
        pytest.param({"polygon_api_key": KEY, "polygon_requests_per_minute": 0}, CORES, id="no limit"),
        pytest.param({"polygon_api_key": KEY, "polygon_requests_per_minute": 300}, CORES, id="a good plan"),
        pytest.param({"polygon_api_key": KEY, "provider": "synthetic"}, CORES, id="a key that is not used"),
        pytest.param({"provider": "polygon"}, CORES, id="a wrong setting is for the run to tell"),
        pytest.param({"polygon_api_key": KEY, "runs_at_once": 12}, 12, id="as the person says"),
    ],
)
def test_a_slow_plan_has_few_runs_and_one_place_is_for_the_night(changes: dict[str, object], most: int) -> None:
    runs = yaml.safe_load(dagster_yaml(Settings.model_construct(**changes)))["concurrency"]["runs"]  # type: ignore[arg-type]  # any field
    assert runs["max_concurrent_runs"] == most
    assert runs["tag_concurrency_limits"] == [{"key": "dagster/backfill", "limit": most - 1}]


def test_one_run_at_once_is_a_run_of_anything() -> None:
    runs = yaml.safe_load(dagster_yaml(Settings.model_construct(runs_at_once=1)))["concurrency"]["runs"]
    assert (runs["max_concurrent_runs"], runs["tag_concurrency_limits"][0]["limit"]) == (1, 1)


def test_dagster_takes_the_number_and_a_changed_one_with_the_next_command(server: EmbeddedServer) -> None:
    with shell(server) as desk:
        assert "BACKFILL_RUNS_AT_ONCE is '0'" in one_line(desk.quick("env", BACKFILL_RUNS_AT_ONCE="0"))
        for most in (7, 5):
            assert desk.quick("jobs", BACKFILL_RUNS_AT_ONCE=str(most)).returncode == 0
            text = (desk.folder / "home" / "dagster" / "dagster.yaml").read_text()
            assert f"max_concurrent_runs: {most}\n" in text
        with desk.instance() as instance:  # laid out once more, by a command without the variable
            queue = instance.get_concurrency_config().run_queue_config
            assert queue is not None
            assert queue.max_concurrent_runs == CORES
