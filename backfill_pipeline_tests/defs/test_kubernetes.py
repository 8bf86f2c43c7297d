"""The Kubernetes variant of docs/distributed.md, held against Dagster's schemas: there is no cluster here."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def blocks() -> list[dict[str, Any]]:
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    return [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)]


def test_the_run_launcher_of_the_page_is_one_that_dagster_takes(blocks: list[dict[str, Any]]) -> None:
    instance, _ = blocks
    launcher = instance["run_launcher"]
    assert (launcher["module"], launcher["class"]) == ("dagster_k8s", K8sRunLauncher.__name__)

    taken = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), launcher["config"])

    assert taken.success, taken.errors
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    whole = process_config(resolve_to_config_type(dagster_instance_config_schema()), {**ours, **instance})
    assert whole.success, whole.errors


def test_a_misspelt_option_of_the_run_launcher_would_be_noticed(blocks: list[dict[str, Any]]) -> None:
    config = {**blocks[0]["run_launcher"]["config"], "job_imgae": "x"}

    assert not process_config(resolve_to_config_type(K8sRunLauncher.config_type()), config).success


def test_the_values_for_helm_start_this_code(blocks: list[dict[str, Any]]) -> None:
    _, values = blocks
    (deployment,) = values["dagster-user-deployments"]["deployments"]

    assert deployment["dagsterApiGrpcArgs"][0] == "-m"
    assert importlib.util.find_spec(deployment["dagsterApiGrpcArgs"][1]) is not None
    launcher = values["runLauncher"]
    assert launcher["type"] == K8sRunLauncher.__name__
    assert launcher["config"]["k8sRunLauncher"]["envSecrets"] == deployment["envSecrets"]
