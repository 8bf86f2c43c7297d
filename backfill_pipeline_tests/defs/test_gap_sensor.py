"""The gap sensor on a real instance: what it starts, what its runs put right, and when it keeps still."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.gap_sensor import gap_sensor
from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.errors import ServerTrouble
from backfill_pipeline.steps.accepting import accept_gaps
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, failure, green, keys, red, site

NIGHT = datetime(2024, 6, 5, 6, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = [f"2024-05-{day}" for day in range(13, 18)]
CUT = "2024-05-15"


class Sensor:
    """The sensor of a site, which remembers its cursor as the daemon does."""

    def __init__(self, desk: Site) -> None:
        self.desk = desk
        self.cursor: str | None = None
        self.keys: set[str] = set()

    def look(self, now: datetime | None = None) -> list[dg.RunRequest] | str:
        """The runs of one look that Dagster would start, or why there are none."""
        desk = self.desk if now is None else self.desk.at(now)
        context = dg.build_sensor_context(desk.instance, self.cursor, resources={"pipeline": desk.pipeline})
        found = gap_sensor()(context)
        if isinstance(found, dg.SkipReason):
            return str(found.skip_message)
        assert isinstance(found, dg.SensorResult)
        self.cursor = found.cursor
        requests = [request for request in found.run_requests or [] if request.run_key not in self.keys]
        self.keys |= {str(request.run_key) for request in requests}
        assert all(request.tags["backfill/priority"] == "repair" for request in requests)
        return requests or (str(found.skip_reason.skip_message) if found.skip_reason else "started before")

    def act(self, now: datetime | None = None, *, ok: bool = True) -> list[str]:
        """Look, and run what it starts: the ranges of each run, in words."""
        requests = self.look(now)
        if isinstance(requests, str):
            return []
        desk = self.desk if now is None else self.desk.at(now)
        for request in requests:
            desk.run("repair_gaps", ok=ok, run_config=request.run_config, tags=request.tags)
        return [words(request) for request in requests]


def words(request: dg.RunRequest) -> str:
    config = request.run_config["ops"]["repair_gaps"]["config"]
    ranges = [f"{one['symbol']} {one['timeframe']} {one['start']}..{one['end']}" for one in config["ranges"]]
    return " ".join(["verify" if config["verify"] else "repair", ", ".join(ranges)])


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


def backfill(desk: Site, *symbols: str, timeframe: str = "1m", ok: bool = True) -> None:
    desk.register(*symbols)
    config = {"symbols": list(symbols), "timeframes": [timeframe], "start": WEEK[0], "end": WEEK[-1]}
    desk.run("master_backfill", ok=ok, run_config={"ops": {"master_backfill": {"config": config}}})


def follow(desk: Site, *symbols: str, since: str) -> None:
    with desk.pipeline.open() as warehouse:
        registration = parse_registration(
            symbols, asset_class=None, calendar=None, bars=("1m",), since=since, today=date(2024, 6, 5)
        )
        register_everywhere(desk.instance, warehouse, registration)


def withhold(exchange: Exchange, symbol: str, hours: int = 7) -> None:
    """Of the cut day."""
    opening = datetime(2024, 5, 15, 13, 30, tzinfo=UTC)
    exchange.withheld[symbol] = [Window(to_micros(opening), to_micros(opening + timedelta(hours=hours)))]


def colours(desk: Site, symbol: str, *days: str) -> dict[str, str]:
    return desk.every_colour(INTRADAY, keys(symbol, *days))


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


def plan_and_fail(desk: Site, *of: str) -> None:
    """A run that announces partitions and fails before it is at any."""
    from backfill_pipeline.defs.bookkeeping import plan
    from backfill_pipeline.defs.running import asset_names

    @dg.op
    def fails(context: dg.OpExecutionContext) -> None:
        plan(context, asset_names(INTRADAY), of)
        raise dg.Failure("no provider", allow_retries=False)

    @dg.job
    def job() -> None:
        fails()

    assert not job.execute_in_process(instance=desk.instance, raise_on_error=False).success


def test_the_sensor_runs_from_the_first_start_of_the_daemon_on(desk: Site) -> None:
    definition = build_definitions(desk.pipeline).resolve_sensor_def("gap_sensor")
    assert definition.default_status is dg.DefaultSensorStatus.RUNNING
    assert definition.minimum_interval_seconds == 60
    assert definition.job_name == "repair_gaps"
