"""The gap sensor on a real instance: what it asks for, what comes of it, and when it keeps still."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.domain.timeframe import DAILY
from backfill_pipeline.providers.errors import ServerTrouble
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.defs.sensors import (
    CUT,
    DAY,
    NIGHT,
    WEEK,
    Sensor,
    backfill,
    colours,
    follow,
    withhold,
    words,
)
from backfill_pipeline_tests.sites import Exchange, Site, failure, green, keys, red, site


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path: Path) -> Iterator[Site]:
    with site(server, tmp_path, exchange, NIGHT) as made:
        yield made


@pytest.fixture
def sensor(desk: Site) -> Sensor:
    return Sensor(desk)


def test_where_nothing_is_missing_it_starts_nothing_and_says_so(desk: Site, sensor: Sensor) -> None:
    assert sensor.look() == "nothing to ask for, and no colour to put right"
    backfill(desk, "ABC")
    assert sensor.look() == "nothing to ask for, and no colour to put right"


def test_a_gap_is_asked_for_when_its_time_has_come_and_turns_green_once_it_is_filled(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    withhold(exchange, "ABC")
    withhold(exchange, "DEF", hours=1)
    backfill(desk, "ABC", "DEF", ok=False)
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK)) | red(*keys("ABC", CUT))
    assert sensor.act() == []

    exchange.requests.clear()
    assert sensor.act(NIGHT + DAY, ok=False) == [f"repair ABC 1m {CUT}..{CUT}, DEF 1m {CUT}..{CUT}"]
    assert len(exchange.requests) == 2
    assert colours(desk, "ABC", CUT) == red(*keys("ABC", CUT))

    exchange.withheld.clear()
    assert sensor.act(NIGHT + 2 * DAY) == [f"repair ABC 1m {CUT}..{CUT}, DEF 1m {CUT}..{CUT}"]
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK))
    assert colours(desk, "DEF", *WEEK) == green(*keys("DEF", *WEEK))
    assert sensor.act(NIGHT + 40 * DAY) == []


def test_the_attempts_are_spaced_and_their_number_is_in_the_run_key(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    withhold(exchange, "ABC")
    backfill(desk, "ABC", ok=False)
    asked = {}
    for day in range(18):
        now = NIGHT + day * DAY
        requests = sensor.look(now)
        for request in requests if isinstance(requests, list) else []:
            asked[day] = str(request.run_key).partition(" 2024-06")[0].split("attempt ")[1]
            desk.at(now).run("repair_gaps", ok=False, run_config=request.run_config)
    assert asked == {1: "1", 2: "2", 9: "3", 16: "4"}
    assert desk.query("SELECT attempts, next_attempt_at - %s FROM gaps WHERE resolved_at IS NULL", NIGHT) == [
        (4, 23 * DAY)
    ]


def test_a_session_that_became_due_since_the_night_is_asked_for_with_all_others_in_one_run(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    follow(desk, "ABC", "DEF", "X:BTCUSD", since="2024-06-04")
    desk.at(NIGHT - timedelta(hours=7)).run("nightly_backfill")
    exchange.requests.clear()
    assert sensor.act(NIGHT - timedelta(hours=6, minutes=1)) == []
    late = NIGHT - timedelta(hours=5)  # a quarter past eight in the evening in New York, and past midnight in UTC
    assert sensor.act(late) == [
        "repair ABC 1m 2024-06-04..2024-06-04, DEF 1m 2024-06-04..2024-06-04, X:BTCUSD 1m 2024-06-04..2024-06-04"
    ]
    assert colours(desk, "X:BTCUSD", "2024-06-04", "2024-06-05") == green("2024-06-04|X:BTCUSD")
    assert colours(desk, "DEF", "2024-06-04") == green("2024-06-04|DEF")
    assert len(exchange.requests) == 3
    assert sensor.act(NIGHT) == []


def test_a_provider_that_is_down_is_asked_once_an_hour_not_once_a_minute(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    follow(desk, "ABC", since="2024-06-04")
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    asked = [minute for minute in (0, 1, 30, 60, 90, 120) if sensor.act(NIGHT + timedelta(minutes=minute), ok=False)]
    assert asked == [0, 60, 120]
    exchange.fails.clear()
    assert sensor.look(NIGHT + timedelta(minutes=170)) == (
        "nothing to ask for, and no colour to put right; 1 partition left: asked for within the hour"
    )
    assert sensor.act(NIGHT + timedelta(minutes=180)) == ["repair ABC 1m 2024-06-04..2024-06-04"]
    assert colours(desk, "ABC", "2024-06-04") == green("2024-06-04|ABC")


def test_a_partition_that_a_run_is_queued_for_is_left_alone(desk: Site, sensor: Sensor, exchange: Exchange) -> None:
    withhold(exchange, "ABC")
    withhold(exchange, "DEF")
    backfill(desk, "ABC", "DEF", ok=False)
    ranges = [{"symbol": "ABC", "timeframe": "1m", "start": WEEK[0], "end": WEEK[4]}]
    run = create_run_for_test(
        desk.instance,
        job_name="repair_gaps",
        run_config={"ops": {"repair_gaps": {"config": {"ranges": ranges}}}},
        status=dg.DagsterRunStatus.STARTING,
    )
    assert [words(request) for request in sensor.look(NIGHT + DAY)] == [f"repair DEF 1m {CUT}..{CUT}"]  # type: ignore[arg-type]  # not words
    desk.instance.delete_run(run.run_id)
    found = sensor.look(NIGHT + DAY)
    assert [words(request) for request in found] == [f"repair ABC 1m {CUT}..{CUT}"]  # type: ignore[arg-type]


def test_it_waits_for_the_nights_run_to_say_what_it_is_at(desk: Site, sensor: Sensor, exchange: Exchange) -> None:
    withhold(exchange, "ABC")
    backfill(desk, "ABC", ok=False)
    run = create_run_for_test(desk.instance, job_name="nightly_backfill", status=dg.DagsterRunStatus.STARTING)
    assert sensor.look(NIGHT + DAY) == f"the night's run {run.run_id} has not said yet what it is at"
    desk.instance.delete_run(run.run_id)
    assert sensor.act(NIGHT + DAY, ok=False) == [f"repair ABC 1m {CUT}..{CUT}"]


@pytest.mark.parametrize("broken", ["market", "dagster"])
def test_a_failed_read_is_not_taken_for_no_gaps(desk: Site, sensor: Sensor, exchange: Exchange, broken: str) -> None:
    withhold(exchange, "ABC")
    backfill(desk, "ABC", ok=False)
    sensor.look()
    cursor = sensor.cursor
    rename(desk, broken, "gaps" if broken == "market" else "runs", "hidden")
    told = sensor.look(NIGHT + DAY)
    assert isinstance(told, str)
    assert told.startswith("nothing is known of gaps, because something could not be read: ")
    assert sensor.cursor == cursor
    rename(desk, broken, "hidden", "gaps" if broken == "market" else "runs")
    assert sensor.act(NIGHT + DAY, ok=False) == [f"repair ABC 1m {CUT}..{CUT}"]


def rename(desk: Site, database: str, table: str, name: str) -> None:
    settings = desk.pipeline.settings
    url = settings.database_url if database == "market" else settings.dagster_database_url
    assert url is not None
    with closing(connect(url)) as conn, conn, conn.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_the_job_by_hand_asks_without_waiting_and_ends_well_where_nothing_is_to_do(
    desk: Site, exchange: Exchange
) -> None:
    withhold(exchange, "ABC", hours=1)
    backfill(desk, "ABC", "DEF", ok=False)
    backfill(desk, "ABC", timeframe="1d")
    exchange.withheld.clear()
    exchange.requests.clear()

    def run(ok: bool = True, **config: object) -> str:
        run_config = {"ops": {"repair_gaps": {"config": config}}}
        return failure(desk.run("repair_gaps", ok=ok, run_config=run_config))

    run()
    run(symbols=["DEF"])
    run(start=WEEK[0], end=WEEK[1])
    assert exchange.requests == []
    assert "give either ranges or symbols, not both" in run(ok=False, symbols=["ABC"], ranges=[{"symbol": "ABC"}])
    assert "verify needs a place to look at" in run(ok=False, verify=True)
    assert colours(desk, "ABC", CUT) == red(*keys("ABC", CUT))
    run(symbols=["ABC"])
    assert len(exchange.requests) == 1
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK))
    assert desk.every_colour(DAILY, keys("ABC", "2024-05")) == green("2024-05|ABC")
    checks = desk.instance.event_log_storage.get_asset_check_summary_records
    key = dg.AssetCheckKey(dg.AssetKey("bars_1m"), "no_open_gaps")
    record = checks([key])[key].last_check_execution_record
    assert record is not None
    assert record.event is not None
    assert record.event.dagster_event.event_specific_data.passed  # type: ignore[union-attr]


def test_the_sensor_runs_from_the_first_start_of_the_daemon_on(desk: Site) -> None:
    definition = build_definitions(desk.pipeline).resolve_sensor_def("gap_sensor")
    assert definition.default_status is dg.DefaultSensorStatus.RUNNING
    assert definition.minimum_interval_seconds == 60
    assert definition.job_name == "repair_gaps"
