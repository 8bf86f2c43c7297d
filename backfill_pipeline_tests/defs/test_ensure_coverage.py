"""The job `ensure_coverage`, and which partitions are said to be in a run's hands: of real runs on a real instance."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.ensure_coverage import coverage_of, report_tasks
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.base import Answer, Request
from backfill_pipeline.steps.coverage_report import CoverageReport
from backfill_pipeline.steps.requests import parse_request
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import NOW, Exchange, Site, failure, green, keys, site

WEEK = [f"2024-05-{day}" for day in range(13, 18)]
RANGE = {"start": WEEK[0], "end": WEEK[-1]}

# Dagster's own code calls what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")


class Watched(Exchange):
    """Calls `meanwhile` when it is asked: a run is under way."""

    meanwhile: Callable[[], None] | None = None

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        if self.meanwhile is not None:
            self.meanwhile()
        yield from super().fetch(request, now)


@pytest.fixture(scope="module")
def exchange() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("ensure"), exchange) as made:
        yield made


def ensure(desk: Site, *symbols: str, ok: bool = True, **config: object) -> dg.ExecuteInProcessResult:
    every = {"symbols": list(symbols), "timeframes": ["1h"], **RANGE, **config}
    return desk.run("ensure_coverage", ok=ok, run_config={"ops": {"ensure_coverage": {"config": every}}})


def told(result: dg.ExecuteInProcessResult, when: str) -> list[dict[str, Any]]:
    """The reports that stand in the metadata of a run, whether it failed or not."""
    for event in result.all_events:
        if event.is_successful_output:
            return event.step_output_data.metadata[when].value  # type: ignore[return-value]  # JSON
        if event.is_step_failure:
            assert event.step_failure_data.user_failure_data is not None
            return event.step_failure_data.user_failure_data.metadata[when].value  # type: ignore[return-value]  # JSON
    raise AssertionError("neither output nor failure")


def coverage(desk: Site, symbol: str, timeframe: str = "1h") -> CoverageReport:
    with desk.pipeline.open() as warehouse:
        request = parse_request([symbol], [timeframe], days=None, start=WEEK[0], end=WEEK[-1], today=NOW.date())
        return coverage_of(desk.instance, warehouse, request, report_tasks(desk.pipeline, warehouse, request))[0]


def hands(desk: Site, symbol: str, timeframe: str = "1h") -> tuple[str, int | None, int | None]:
    """Status, slices that are running and slices that are queued."""
    found = coverage(desk, symbol, timeframe)
    return found.status, found.backfill_progress.running_slices, found.backfill_progress.queued_slices


def test_a_range_is_completed_and_both_states_stand_in_the_runs_metadata(desk: Site) -> None:
    desk.register("NEW", "OLD")
    ensure(desk, "OLD")

    result = ensure(desk, "NEW", "OLD")

    assert [(r["symbol"], r["status"]) for r in told(result, "before")] == [
        ("NEW", "gaps_detected"),
        ("OLD", "coverage_complete"),
    ]
    assert told(result, "after")[0] == {
        "symbol": "NEW",
        "timeframe": "1h",
        "start": "2024-05-13",
        "end": "2024-05-17",
        "status": "coverage_complete",
        "backfill_progress": {
            "total_slices": 5,
            "completed_slices": 5,
            "running_slices": 0,
            "queued_slices": 0,
            "progress_percent": 100.0,
            "bars_written": 5 * 7,
        },
        "eta_seconds": None,
        "missing": [],
        "served": None,
    }
    assert desk.every_colour(INTRADAY, keys("NEW", *WEEK)) == green(*keys("NEW", *WEEK))


def test_what_stays_missing_fails_the_run_and_stands_in_its_metadata(desk: Site, exchange: Watched) -> None:
    desk.register("GAPPY")
    at = datetime(2024, 5, 15, 15, tzinfo=UTC)
    exchange.withheld["GAPPY"] = [Window(to_micros(at), to_micros(at + timedelta(hours=1)))]

    result = ensure(desk, "GAPPY", ok=False)

    assert failure(result) == "1 of 5 partitions are not complete: GAPPY 2024-05-15 1m: 60 of 390 bars are missing"
    (after,) = told(result, "after")
    assert (after["status"], after["backfill_progress"]["progress_percent"]) == ("gaps_detected", 80.0)
    assert after["missing"] == [{"start": "2024-05-15", "end": "2024-05-15", "sessions": 1}]


def test_an_unknown_symbol_is_followed_if_the_config_says_so(desk: Site) -> None:
    refused = ensure(desk, "FRESH", ok=False)
    assert failure(refused) == "symbol FRESH not registered; add: backfill symbols add FRESH"

    ensure(desk, "FRESH", register=True)

    assert coverage(desk, "FRESH").status == "coverage_complete"
    assert "FRESH" in desk.instance.get_dynamic_partitions("intraday_symbol")
    assert "FRESH" not in desk.instance.get_dynamic_partitions("daily_symbol"), "only minutes were asked for"


def test_both_chains_are_reported_each_in_the_timeframe_that_was_named(desk: Site) -> None:
    desk.register("BOTH")

    result = ensure(desk, "BOTH", timeframes=["1w", "15m", "1m"])

    found = {r["timeframe"]: (r["status"], r["backfill_progress"]["total_slices"]) for r in told(result, "after")}
    assert found == {"15m": ("coverage_complete", 5), "1w": ("coverage_complete", 1)}


def test_a_wrong_request_is_one_line(desk: Site) -> None:
    assert failure(ensure(desk, "X", ok=False, timeframes=["2h"])).startswith("timeframe '2h' is not known")
    assert (
        failure(ensure(desk, "X", ok=False, end="2024-05-01")) == "start 2024-05-13 is after end 2024-05-01; swap them"
    )


def test_slices_of_a_run_under_way_are_running_and_no_longer_once_it_is_over(desk: Site, exchange: Watched) -> None:
    desk.register("BUSY", "IDLE")
    seen: list[tuple[str, int | None, int | None]] = []
    exchange.meanwhile = lambda: seen.extend([hands(desk, "BUSY"), hands(desk, "IDLE"), hands(desk, "BUSY", "1d")])

    config = {"symbols": ["BUSY"], "timeframes": ["1h"], "start": WEEK[1], "end": WEEK[-1]}
    desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})
    exchange.meanwhile = None

    assert seen == [("backfilling", 4, 0), ("gaps_detected", 0, 0), ("gaps_detected", 0, 0)]
    assert hands(desk, "BUSY") == ("gaps_detected", 0, 0), "the first day, in nobody's hands"


def test_slices_that_the_nightly_run_has_found_open_are_running(desk: Site, exchange: Watched) -> None:
    config = {"symbols": ["NIGHT"], "bars": ["1m"], "since": WEEK[1]}
    desk.run("register_symbols", run_config={"ops": {"register_symbols": {"config": config}}})
    seen: list[tuple[str, int | None, int | None]] = []
    exchange.meanwhile = lambda: seen.append(hands(desk, "NIGHT"))

    desk.run("nightly_backfill")
    exchange.meanwhile = None

    assert seen[0] == ("backfilling", 4, 0)


def test_a_run_does_not_call_itself_a_backfill_under_way(desk: Site) -> None:
    desk.register("SELF")

    assert [r["status"] for r in told(ensure(desk, "SELF"), "before")] == ["gaps_detected"]


def test_a_run_whose_process_is_gone_is_not_under_way(desk: Site) -> None:
    """Nobody tells Dagster of a killed process. The run starts long ago, and no warehouse is open since."""
    desk.register("DEAD")
    config = {"symbols": ["DEAD"], "timeframes": ["1h"], **RANGE}
    run = queue(desk, "master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)
    desk.instance.run_storage.handle_run_event(run.run_id, started, hour_ago)

    assert hands(desk, "DEAD") == ("gaps_detected", 0, 0)
    desk.instance.delete_run(run.run_id)


def queue(desk: Site, job: str, **options: Any) -> dg.DagsterRun:
    """A run that waits in the queue: no daemon is up to take it."""
    definition = build_definitions(desk.pipeline).resolve_job_def(job)
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__").get_job_origin(job)
    status = dg.DagsterRunStatus.QUEUED
    return desk.instance.create_run_for_job(definition, status=status, remote_job_origin=origin, **options)


def span(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


QUEUED: list[Any] = [
    pytest.param({"tags": span(f"{WEEK[3]}|Q0B", f"{WEEK[4]}|Q0B")}, [0, 2, 0], id="a range"),
    pytest.param({"tags": span(f"{WEEK[3]}|Q1A", f"{WEEK[3]}|Q1C")}, [1, 1, 1], id="symbols between two"),
    pytest.param({"tags": {"dagster/partition": f"{WEEK[0]}|Q2A"}}, [1, 0, 0], id="one key"),
    pytest.param(
        {"tags": span(f"{WEEK[3]}|Q3A", f"{WEEK[3]}|Q3A"), "asset_selection": {dg.AssetKey("bars_5m")}},
        [0, 0, 0],
        id="a run that asks for nothing",
    ),
    pytest.param(
        {"job": "master_backfill", "symbols": ["Q4A", "Q4C"], "timeframes": ["4h"], **RANGE}, [5, 0, 5], id="config"
    ),
    pytest.param({"job": "master_backfill", "timeframes": ["1m"], "days": 20}, [3, 3, 3], id="every symbol"),
    pytest.param({"job": "master_backfill", "timeframes": ["1d"], "days": 30}, [0, 0, 0], id="the other chain"),
    pytest.param({"job": "ensure_coverage", "symbols": ["Q7B"], "days": 40}, [0, 5, 0], id="ensure_coverage"),
    pytest.param({"job": "register_symbols", "symbols": ["Q8A"]}, [0, 0, 0], id="a run that completes nothing"),
]


@pytest.mark.parametrize(("number", "options", "slices"), [(i, *p.values) for i, p in enumerate(QUEUED)])
def test_slices_that_a_queued_run_is_for_are_queued(
    desk: Site, number: int, options: dict[str, Any], slices: list[int]
) -> None:
    names = [f"Q{number}{letter}" for letter in "ABC"]
    desk.register(*names)
    config = dict(options)
    job = config.pop("job", None)
    if job is None:
        run = queue(desk, "backfill_intraday", **config)
    else:
        run = queue(desk, job, run_config={"ops": {job: {"config": config}}})

    found = [hands(desk, name) for name in names]

    assert found == [("backfilling" if count else "gaps_detected", 0, count) for count in slices]
    desk.instance.delete_run(run.run_id)


def test_a_run_queued_before_the_grain_was_changed_is_for_none_of_todays_slices(desk: Site) -> None:
    desk.register("GRAIN")
    run = queue(desk, "backfill_intraday", tags={"dagster/partition": f"{WEEK[0]}|GRAIN"})

    assert hands(desk, "GRAIN") == ("backfilling", 0, 1)
    assert hands(desk.cut(intraday_grain="month"), "GRAIN") == ("gaps_detected", 0, 0)
    desk.instance.delete_run(run.run_id)


def test_a_backfill_that_is_not_cut_into_runs_yet_is_queued(desk: Site) -> None:
    desk.register("CLICKED", "BESIDE")
    launch(desk, keys("CLICKED", *WEEK[:2]))

    assert hands(desk, "CLICKED") == ("backfilling", 0, 2)
    assert hands(desk, "BESIDE") == ("gaps_detected", 0, 0)


def launch(desk: Site, partitions: Sequence[str]) -> None:
    """A backfill as the UI launches it."""
    desk.instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            backfill_id="clicked",
            asset_graph=build_definitions(desk.pipeline).resolve_asset_graph(),
            partition_names=list(partitions),
            asset_selection=[dg.AssetKey("bars_1m")],
            backfill_timestamp=NOW.timestamp(),
            tags={},
            dynamic_partitions_store=desk.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    )
