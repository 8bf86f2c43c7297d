"""Partitions whose colour is not what the tables say: the gap sensor has them put right, and nobody is asked."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from backfill_pipeline.defs.bookkeeping import colours as bookkept
from backfill_pipeline.defs.bookkeeping import plan
from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.providers.errors import ServerTrouble
from backfill_pipeline.steps.accepting import accept_gaps
from backfill_pipeline.steps.look import look
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
)
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, red, site


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


def test_the_colours_are_those_of_the_ui(desk: Site, exchange: Exchange) -> None:
    withhold(exchange, "ABC")
    backfill(desk, "ABC", ok=False)
    plan_and_fail(desk, *keys("ABC", WEEK[0], "2024-05-20"))
    days = [*WEEK, "2024-05-18", "2024-05-20"]
    words_of = {"green": "MATERIALIZED", "red": "FAILED"}
    shown = bookkept(desk.instance, asset_names(INTRADAY), keys("ABC", *days))
    for asset in asset_names(INTRADAY):
        mine = {key: words_of[colour] for (of, key), colour in shown.items() if of == asset}
        assert mine == desk.colours(INTRADAY, asset, keys("ABC", *days))
    assert sorted(key for (of, key), colour in shown.items() if of == "bars_1m" and colour == "red") == keys(
        "ABC", WEEK[0], CUT, "2024-05-20"
    )


def test_a_green_partition_that_is_no_longer_complete_is_turned_red_and_nobody_is_asked(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    backfill(desk, "ABC", "DEF")
    assert sensor.act() == []
    exchange.requests.clear()
    lose(desk, "ABC", CUT)
    later = NIGHT + timedelta(hours=2)

    assert sensor.act(later, ok=False) == [f"verify ABC 1m {CUT}..{CUT}"]

    assert exchange.requests == []
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK)) | red(*keys("ABC", CUT))
    assert sensor.act(later) == [], "what is red already is left alone"
    assert sensor.act(later + timedelta(hours=2)) == []


def lose(desk: Site, symbol: str, day: str) -> None:
    """As a look leaves a session of which it has found bars to be gone; its next attempt is far away."""
    of = "symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = %s) AND timeframe = '1m'"
    desk.query(f"DELETE FROM bars WHERE {of} AND session = %s", symbol, day)
    desk.query(
        f"UPDATE session_status SET stored = 0, missing = 390, checked_at = %s WHERE {of} AND session = %s",
        NIGHT + timedelta(hours=1),
        symbol,
        day,
    )
    desk.query(
        "INSERT INTO gaps (symbol_id, timeframe, time_window, expected, found, verdict, evidence, next_attempt_at,"
        " detected_at) SELECT symbol_id, '1m', tstzrange(open, close), 390, 0, 'missing', '{\"by\": \"habit\"}',"
        " '2025-01-01', %s FROM symbols JOIN sessions USING (calendar) WHERE symbol = %s AND session = %s",
        NIGHT,
        symbol,
        day,
    )


def test_rows_deleted_by_another_hand_are_found_by_a_look_and_asked_for_at_the_next_minute(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    backfill(desk, "ABC")
    assert sensor.act() == []
    before = desk.stored("ABC")
    desk.query("DELETE FROM bars WHERE timeframe = '1m' AND session = %s AND extract(minute FROM ts) = 7", CUT)
    later = NIGHT + timedelta(hours=2)
    with desk.at(later).pipeline.open() as warehouse:
        assert not look(warehouse).good
    assert sensor.act(later) == [f"repair ABC 1m {CUT}..{CUT}"]
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK))
    assert desk.stored("ABC") == before


def test_a_red_partition_that_is_complete_by_now_turns_green_and_nobody_is_asked(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    withhold(exchange, "ABC", hours=1)
    backfill(desk, "ABC", ok=False)
    assert sensor.act() == []
    exchange.requests.clear()
    with desk.at(NIGHT + timedelta(hours=2)).pipeline.open() as warehouse:
        with warehouse.conn, warehouse.conn.cursor() as cursor:
            cursor.execute("SELECT gap_id FROM gaps")
            ids = [row[0] for row in cursor.fetchall()]
        accepted = list(accept_gaps(warehouse, ids, "it was halted", print))
    assert [one.status.complete for one in accepted] == [True]
    assert colours(desk, "ABC", CUT) == red(*keys("ABC", CUT))

    assert sensor.act(NIGHT + timedelta(hours=3)) == [f"verify ABC 1m {CUT}..{CUT}"]

    assert exchange.requests == []
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK))


def test_bars_of_a_killed_run_that_dagster_never_heard_of_turn_green_when_no_run_is_at_them(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    desk.register("ABC")
    desk.chain("backfill_intraday", f"{WEEK[0]}|ABC", f"{WEEK[-1]}|ABC", ["bars_1m"])
    run = create_run_for_test(
        desk.instance,
        job_name="backfill_intraday",
        tags={
            "dagster/asset_partition_range_start": f"{WEEK[0]}|ABC",
            "dagster/asset_partition_range_end": f"{WEEK[4]}|ABC",
        },
        status=dg.DagsterRunStatus.STARTING,
    )
    assert sensor.act() == []
    assert sensor.act(NIGHT + DAY) == []
    desk.instance.delete_run(run.run_id)
    exchange.requests.clear()
    assert sensor.act(NIGHT + DAY) == [f"verify ABC 1m {WEEK[0]}..{WEEK[4]}"]
    assert exchange.requests == []
    assert colours(desk, "ABC", *WEEK) == green(*keys("ABC", *WEEK))


def test_what_a_failed_run_left_red_though_nothing_is_missing_turns_green(
    desk: Site, sensor: Sensor, exchange: Exchange
) -> None:
    """A night without its provider leaves the sessions of the correction window red, which were green."""
    follow(desk, "ABC", since="2024-06-03")
    desk.run("nightly_backfill")
    assert sensor.act() == []
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    desk.query("UPDATE coverage SET valid_until = %s", NIGHT)
    plan_and_fail(desk, *keys("ABC", "2024-06-03", "2024-06-04"))
    assert colours(desk, "ABC", "2024-06-03", "2024-06-04") == red(*keys("ABC", "2024-06-03", "2024-06-04"))
    assert sensor.act(NIGHT + timedelta(minutes=1)) == ["verify ABC 1m 2024-06-03..2024-06-04"]
    assert colours(desk, "ABC", "2024-06-03", "2024-06-04") == green(*keys("ABC", "2024-06-03", "2024-06-04"))


def plan_and_fail(desk: Site, *of: str) -> None:
    """A run that announces partitions and fails before it is at any."""

    @dg.op
    def fails(context: dg.OpExecutionContext) -> None:
        plan(context, asset_names(INTRADAY), of)
        raise dg.Failure("no provider", allow_retries=False)

    @dg.job
    def job() -> None:
        fails()

    assert not job.execute_in_process(instance=desk.instance, raise_on_error=False).success
