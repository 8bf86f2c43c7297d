"""The day's job and its schedule: bars of what runs, without a colour; and why a tick starts nothing."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.defs.intraday import JOB, intraday_schedule
from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, site

# 09:40 and 15:50 in New York on Tuesday 2024-06-04, whose post-market ends at 24:00 UTC.
MORNING, AFTERNOON = datetime(2024, 6, 4, 13, 40, tzinfo=UTC), datetime(2024, 6, 4, 19, 50, tzinfo=UTC)
CLOSED, SETTLED = datetime(2024, 6, 5, 0, 10, tzinfo=UTC), datetime(2024, 6, 5, 0, 15, tzinfo=UTC)
TODAY = "2024-06-04"


class Floor(Exchange):
    """An exchange whose plan may end yesterday."""

    today = True

    def serves_today(self, instrument: Instrument) -> bool:
        return self.today


@pytest.fixture
def floor() -> Floor:
    return Floor()


@pytest.fixture
def desk(server: EmbeddedServer, floor: Floor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("intraday"), floor, MORNING) as made:
        yield made


def follow(desk: Site, *symbols: str, since: str | None = "2024-05-31") -> None:
    with desk.pipeline.open() as warehouse:
        registration = parse_registration(
            symbols, asset_class=None, calendar=None, bars=("1m", "1d"), since=since, today=date(2024, 6, 4)
        )
        register_everywhere(desk.instance, warehouse, registration)


def tick(desk: Site) -> dg.RunRequest | str:
    """What the schedule does; why it does nothing."""
    context = dg.build_schedule_context(
        instance=desk.instance, scheduled_execution_time=MORNING, resources={"pipeline": desk.pipeline}
    )
    found = intraday_schedule()(context)
    if isinstance(found, dg.SkipReason):
        return str(found.skip_message)
    assert isinstance(found, dg.RunRequest)
    return found


def minutes(desk: Site) -> int:
    count = desk.query("SELECT count(*) FROM market_data WHERE timeframe = '1m'")[0][0]
    assert isinstance(count, int)
    return count


def test_a_running_session_is_brought_up_to_now_each_time_and_has_no_colour(desk: Site, floor: Floor) -> None:
    follow(desk, "ABC", "DEF")
    desk.run(JOB)
    assert minutes(desk) == 2 * 10  # since 09:30
    desk.at(AFTERNOON).run(JOB)
    assert minutes(desk) == 2 * 380
    # Today's minutes and nothing else: neither days nor the sessions before, which are the night's.
    assert {(r.timeframe, str(r.sessions.session[r.sessions.rows(r.window)][0])) for r in floor.requests} == {
        ("1m", TODAY)
    }
    assert len(floor.requests) == 4
    for symbol in ("ABC", "DEF"):
        assert desk.every_colour(INTRADAY, keys(symbol, TODAY, "2024-06-03")) == {}
        assert desk.every_colour(DAILY, keys(symbol, "2024-06")) == {}
    assert desk.query("SELECT DISTINCT session::text, missing FROM session_status") == [(TODAY, 0)]


def test_after_the_close_it_goes_on_until_the_session_is_settled_and_leaves_the_colour_to_others(
    desk: Site, floor: Floor
) -> None:
    follow(desk, "ABC")
    desk.at(CLOSED).run(JOB)
    assert minutes(desk) == 390
    assert desk.every_colour(INTRADAY, keys("ABC", TODAY)) == {}
    assert tick(desk.at(CLOSED)) == "everything of the running sessions has been asked for"
    assert tick(desk.at(SETTLED)) == "nothing is open: XNYS opens Wed 2024-06-05 08:00 UTC"
    desk.at(SETTLED).run("nightly_backfill")
    assert desk.every_colour(INTRADAY, keys("ABC", TODAY)) == green(*keys("ABC", TODAY))


def test_a_tick_asks_for_one_run_before_backfills(desk: Site) -> None:
    follow(desk, "ABC", "X:BTCUSD")
    request = tick(desk)
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.tags["backfill/priority"]) == (None, "nightly")


def test_a_tick_says_why_it_starts_nothing(desk: Site, floor: Floor) -> None:
    assert "backfill symbols add AAPL --since 2y" in str(tick(desk))
    follow(desk, "ABC", since=None)  # only what is asked for by hand
    assert "backfill symbols add AAPL --since 2y" in str(tick(desk))
    follow(desk, "ABC")
    saturday = datetime(2024, 6, 8, 15, tzinfo=UTC)
    assert tick(desk.at(saturday)) == "nothing is open: XNYS opens Mon 2024-06-10 08:00 UTC"
    juneteenth = datetime(2024, 6, 19, 15, tzinfo=UTC)
    assert tick(desk.at(juneteenth)) == "nothing is open: XNYS opens Thu 2024-06-20 08:00 UTC"
    floor.today = False
    assert tick(desk) == (
        "nobody serves today (1m from synthetic; 1d from synthetic); set TRADIER_TOKEN for today's minutes of US stocks"
    )
    assert floor.requests == []


def test_crypto_is_always_open(desk: Site) -> None:
    follow(desk, "X:BTCUSD")
    saturday = desk.at(datetime(2024, 6, 8, 15, tzinfo=UTC))
    assert isinstance(tick(saturday), dg.RunRequest)
    saturday.run(JOB)
    assert minutes(desk) == 15 * 60


def test_a_tick_waits_for_the_run_before_but_not_for_one_whose_process_is_gone(desk: Site) -> None:
    follow(desk, "ABC")
    job = build_definitions(desk.pipeline).resolve_job_def(JOB)
    run = desk.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    assert tick(desk) == f"the run before is still under way: {run.run_id}"
    began = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, JOB)
    desk.instance.report_dagster_event(began, run.run_id, timestamp=time.time() - 3600)
    assert isinstance(tick(desk), dg.RunRequest)  # no process has had the database open for an hour


def test_the_schedule_is_off_until_somebody_turns_it_on() -> None:
    schedule = intraday_schedule()
    assert schedule.cron_schedule == "*/15 * * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
