"""Which queue a run goes to: that of the provider it will ask, whoever submits it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.run_coordinator import SubmitRunContext
from pydantic import SecretStr

from backfill_pipeline.database_urls import with_database
from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.defs.queues import GENERAL, queue_names, queue_of
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.steps.requests import RequestError

NOW = datetime(2024, 6, 5, 15, tzinfo=UTC)
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path) -> Pipeline:
    settings = Settings.model_construct(
        home=tmp_path,
        database_url=database_url,
        dagster_database_url=with_database(database_url, "postgres"),
        provider="polygon,tradier,binance",
        polygon_api_key=SecretStr("key"),
        tradier_token=SecretStr("token"),
        intraday_start=date(2024, 1, 1),
        daily_start=date(2020, 1, 1),
    )
    return Pipeline(settings, now=lambda: NOW)


@pytest.fixture
def instance(pipeline: Pipeline) -> Iterator[dg.DagsterInstance]:
    """Two stocks and two coins, in this order."""
    with dg.DagsterInstance.ephemeral() as made, pipeline.open() as warehouse:
        for symbols in (["AAPL", "MSFT"], ["BTCUSDT", "ETHUSDT"]):
            registration = parse_registration(
                symbols,
                asset_class="crypto" if "BTCUSDT" in symbols else "stock",
                calendar=None,
                bars=["1m", "1d"],
                since=None,
                today=NOW.date(),
            )
            register_everywhere(made, warehouse, registration)
        yield made


@pytest.mark.parametrize(
    ("first", "last", "queue"),
    [
        pytest.param("2024-05-01|AAPL", "2024-06-05|AAPL", "polygon", id="a stock's history"),
        pytest.param("2024-05-01|AAPL", "2024-05-01|MSFT", "polygon", id="a day of two stocks"),
        pytest.param("2024-05-01|BTCUSDT", "2024-05-31|BTCUSDT", "binance", id="a coin"),
        pytest.param("2024-05-01|AAPL", "2024-05-01|BTCUSDT", GENERAL, id="two providers"),
        pytest.param("2024-05|AAPL", "2024-06|AAPL", GENERAL, id="keys of another grain"),
        pytest.param("2024-05-01|IBM", "2024-05-01|IBM", GENERAL, id="nobody knows it"),
    ],
)
def test_a_run_over_keys_waits_with_its_provider(
    instance: dg.DagsterInstance, pipeline: Pipeline, first: str, last: str, queue: str
) -> None:
    run = dg.DagsterRun("backfill_intraday", tags=dict(zip(RANGE, (first, last), strict=True)))
    try:
        found = queue_of(instance, pipeline, run)
    except LookupError:  # the run coordinator puts it with the others
        found = GENERAL

    assert found == queue


def asset_run(*assets: str, key: str) -> dg.DagsterRun:
    selection = frozenset(dg.AssetKey(name) for name in assets)
    return dg.DagsterRun("__ASSET_JOB", asset_selection=selection, tags={"dagster/partition": key})


def test_a_run_of_the_ui_over_one_key_is_told_too(instance: dg.DagsterInstance, pipeline: Pipeline) -> None:
    assert queue_of(instance, pipeline, asset_run("bars_1m", "bars_5m", key="2024-05-01|BTCUSDT")) == "binance"
    assert queue_of(instance, pipeline, asset_run("bars_1d", key="2024-05|AAPL")) == "polygon"


def test_what_asks_nobody_is_general(instance: dg.DagsterInstance, pipeline: Pipeline) -> None:
    assert queue_of(instance, pipeline, asset_run("features_1m", key="2024-05-01|AAPL")) == GENERAL
    assert queue_of(instance, pipeline, dg.DagsterRun("completeness_job")) == GENERAL
    verified = config_run("repair_gaps", symbols=["AAPL"], days=3, verify=True)
    assert queue_of(instance, pipeline, verified) == GENERAL


def config_run(job: str, **config: object) -> dg.DagsterRun:
    return dg.DagsterRun(job, run_config={"ops": {job: {"config": config}}})


def ranges(*symbols: str) -> list[dict[str, str]]:
    days = {"start": "2024-05-01", "end": "2024-05-03"}
    return [{"symbol": symbol, "timeframe": "1m", **days} for symbol in symbols]


@pytest.mark.parametrize(
    ("job", "config", "queue"),
    [
        pytest.param("master_backfill", {"symbols": ["AAPL", "MSFT"], "days": 30}, "polygon", id="stocks"),
        pytest.param("master_backfill", {"symbols": ["ETHUSDT"], "days": 30}, "binance", id="a coin"),
        pytest.param(
            "ensure_coverage",
            {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "start": date(2024, 5, 1), "end": date(2024, 5, 2)},
            "binance",
            id="dates that YAML has read",
        ),
        pytest.param("master_backfill", {"symbols": ["AAPL", "ETHUSDT"], "days": 30}, GENERAL, id="two providers"),
        pytest.param("master_backfill", {"days": 30}, GENERAL, id="all that are followed"),
        pytest.param("repair_gaps", {"ranges": ranges("AAPL", "MSFT")}, "polygon", id="a repair of ranges"),
        pytest.param("repair_gaps", {"ranges": ranges("AAPL", "BTCUSDT")}, GENERAL, id="ranges of two providers"),
        pytest.param("repair_gaps", {"symbols": ["BTCUSDT"]}, "binance", id="a repair of everything of a symbol"),
    ],
)
def test_a_run_by_config_waits_with_its_provider_too(
    instance: dg.DagsterInstance, pipeline: Pipeline, job: str, config: dict[str, object], queue: str
) -> None:
    assert queue_of(instance, pipeline, config_run(job, **config)) == queue


def test_a_night_waits_with_the_provider_of_all_that_is_followed(
    instance: dg.DagsterInstance, pipeline: Pipeline
) -> None:
    night, day = dg.DagsterRun("nightly_backfill"), dg.DagsterRun("intraday_backfill")
    assert queue_of(instance, pipeline, night) == GENERAL, "nothing is followed without an end"
    follow(instance, pipeline, "AAPL", "MSFT")
    assert [queue_of(instance, pipeline, run) for run in (night, day)] == ["polygon", "polygon"]
    follow(instance, pipeline, "BTCUSDT")
    assert queue_of(instance, pipeline, night) == GENERAL


def follow(instance: dg.DagsterInstance, pipeline: Pipeline, *symbols: str) -> None:
    with pipeline.open() as warehouse:
        registration = parse_registration(
            symbols, asset_class=None, calendar=None, bars=["1m"], since="2024-01-02", today=NOW.date()
        )
        register_everywhere(instance, warehouse, registration)


def test_a_config_that_makes_no_sense_is_told_in_one_line_and_the_run_is_general(
    instance: dg.DagsterInstance, pipeline: Pipeline
) -> None:
    with pytest.raises(RequestError, match="start 2024-05-09 is after end 2024-05-01"):
        queue_of(instance, pipeline, config_run("master_backfill", start="2024-05-09", end="2024-05-01"))


def test_whoever_submits_a_run_it_is_marked_with_its_queue(
    instance: dg.DagsterInstance, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = pipeline.settings
    assert settings.database_url is not None
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATABASE_URL": settings.database_url, "BACKFILL_PROVIDER": "synthetic"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", str(settings.dagster_database_url))
    queues = {"run_coordinator": {"module": "backfill_pipeline.defs.queues", "class": "ProviderQueues"}}
    tags = {"dagster/partition": "2024-05-01|AAPL", "dagster/backfill": "abc"}
    with dg.instance_for_test(overrides=queues) as other:
        kept = [
            # Enqueuing itself is Dagster's, and wants a workspace.
            other.add_run(dg.DagsterRun("backfill_intraday", tags=of, status=dg.DagsterRunStatus.STARTING))
            for of in (tags, {"dagster/partition": "2024-05-01|NONE"}, {**tags, "dagster-celery/queue": "polygon"})
        ]
        submitted = [other.run_coordinator.submit_run(SubmitRunContext(run, None)) for run in kept]  # type: ignore[arg-type]

    assert [run.tags["dagster-celery/queue"] for run in submitted] == ["synthetic", GENERAL, "polygon"]
    assert [run.tags.get("backfill/backfill_queue") for run in submitted] == ["synthetic", None, None]


def test_a_worker_knows_every_queue_of_its_settings(pipeline: Pipeline) -> None:
    assert queue_names(pipeline.settings) == (GENERAL, "polygon", "tradier", "binance")
    auto = Settings.model_construct(provider="auto", polygon_api_key=SecretStr("key"))
    assert queue_names(auto) == (GENERAL, "polygon", "binance")
