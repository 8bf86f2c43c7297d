"""The night's job and its schedule: what is followed is brought up to date, corrected, and nothing is asked twice."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.defs.nightly import JOB, nightly_schedule
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.providers.errors import ServerTrouble
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, metadata, site

TUESDAY_NIGHT = datetime(2024, 6, 5, 2, tzinfo=UTC)
FRIDAY_NIGHT = datetime(2024, 6, 8, 2, tzinfo=UTC)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("nightly"), exchange, TUESDAY_NIGHT) as made:
        yield made


def follow(desk: Site, *symbols: str, since: str = "2024-05-31") -> None:
    with desk.pipeline.open() as warehouse:
        registration = parse_registration(
            symbols, asset_class=None, calendar=None, bars=("1m", "1d"), since=since, today=date(2024, 6, 13)
        )
        register_everywhere(desk.instance, warehouse, registration)


def test_a_night_brings_what_is_due_and_the_next_makes_up_for_those_that_were_missed(
    desk: Site, exchange: Exchange
) -> None:
    follow(desk, "ABC", "DEF")
    desk.run(JOB)
    days = ["2024-05-31", "2024-06-03", "2024-06-04"]
    assert desk.every_colour(INTRADAY, [*keys("ABC", *days), *keys("DEF", *days)]) == green(
        *keys("ABC", *days), *keys("DEF", *days)
    )
    assert desk.every_colour(DAILY, keys("ABC", "2024-05", "2024-06")) == green(*keys("ABC", "2024-05"))
    exchange.requests.clear()
    desk.run(JOB)
    assert len(exchange.requests) == 1  # every answer is still valid: only the month's sample of what is final by now
    desk.run(JOB)
    assert len(exchange.requests) == 1

    desk.at(FRIDAY_NIGHT).run(JOB)
    missed = keys("ABC", "2024-06-05", "2024-06-06", "2024-06-07")
    assert desk.every_colour(INTRADAY, missed) == green(*missed)


def test_within_the_correction_window_a_session_is_asked_again_and_what_differs_is_a_revision(
    desk: Site, exchange: Exchange
) -> None:
    follow(desk, "ABC", since="2024-06-03")
    desk.run(JOB)
    desk.query("UPDATE bars SET volume = volume + 1 WHERE timeframe = '1m' AND session = '2024-06-04'")
    exchange.requests.clear()
    desk.at(datetime(2024, 6, 6, 2, tzinfo=UTC)).run(JOB)
    assert sorted(request.timeframe for request in exchange.requests) == ["1d", "1m"]
    assert desk.query("SELECT session, kind, count(*) FROM bar_revisions GROUP BY 1, 2") == [
        (date(2024, 6, 4), "restated", 390)
    ]


def test_a_session_that_stays_incomplete_fails_the_night_and_stops_no_other_symbol(
    desk: Site, exchange: Exchange
) -> None:
    follow(desk, "ABC", "DEF", since="2024-06-04")
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    desk.run(JOB, ok=False)
    assert desk.every_colour(INTRADAY, keys("DEF", "2024-06-04")) == green(*keys("DEF", "2024-06-04"))
    assert desk.query("SELECT DISTINCT symbol FROM market_data") == [("DEF",)]


def test_seven_missed_nights_are_made_up_by_one_run_and_closed_days_are_green_with_their_names(
    desk: Site, exchange: Exchange
) -> None:
    follow(desk, "ABC", since="2024-06-11")
    desk.at(datetime(2024, 6, 13, 2, tzinfo=UTC)).run(JOB)
    made_up = desk.at(datetime(2024, 6, 21, 2, tzinfo=UTC)).run(JOB)
    days = [f"2024-06-{day}" for day in range(11, 21)]
    assert desk.every_colour(INTRADAY, keys("ABC", *days)) == green(*keys("ABC", *days))
    told = metadata(made_up, desk.instance, "bars_4h")
    assert {key.partition("|")[0]: of["note"] for key, of in told.items() if "note" in of} == {
        "2024-06-15": "weekend",
        "2024-06-16": "weekend",
        "2024-06-19": "Juneteenth National Independence Day",
    }
    assert told["2024-06-19|ABC"]["rows"] == 0


def test_a_holiday_is_green_with_its_name_once_and_asks_nobody(desk: Site, exchange: Exchange) -> None:
    follow(desk, "ABC", since="2024-06-11")
    desk.at(datetime(2024, 6, 19, 2, tzinfo=UTC)).run(JOB)
    assert desk.every_colour(INTRADAY, keys("ABC", "2024-06-19")) == {}
    exchange.requests.clear()
    night = desk.at(datetime(2024, 6, 20, 2, tzinfo=UTC))
    ran = night.run(JOB)
    assert desk.every_colour(INTRADAY, keys("ABC", "2024-06-19")) == green(*keys("ABC", "2024-06-19"))
    assert metadata(ran, desk.instance, "bars_1m")["2024-06-19|ABC"]["note"] == "Juneteenth National Independence Day"
    # Only what the correction window asks for again; the holiday begins at 04:00 UTC.
    holiday = to_micros(datetime(2024, 6, 19, 4, tzinfo=UTC))
    assert all(request.window.end <= holiday for request in exchange.requests)
    assert "2024-06-19|ABC" not in metadata(night.run(JOB), desk.instance, "bars_1m")


def test_a_session_that_is_not_due_at_night_is_left_alone(desk: Site, exchange: Exchange) -> None:
    follow(desk, "ABC", since="2024-06-03")
    desk.at(datetime(2024, 6, 5, 0, 10, tzinfo=UTC)).run(JOB)  # due at 00:15, a quarter of an hour after 20:00
    assert desk.every_colour(INTRADAY, keys("ABC", "2024-06-03", "2024-06-04")) == green(*keys("ABC", "2024-06-03"))
    before = to_micros(datetime(2024, 6, 4, 4, tzinfo=UTC))
    assert all(request.window.end <= before for request in exchange.requests if request.timeframe == "1m")


def test_the_schedule_asks_for_one_run_and_says_why_it_does_not(desk: Site) -> None:
    schedule = nightly_schedule(desk.pipeline.settings)

    def evaluated() -> dg.RunRequest | dg.SkipReason:
        context = dg.build_schedule_context(
            instance=desk.instance, scheduled_execution_time=TUESDAY_NIGHT, resources={"pipeline": desk.pipeline}
        )
        found = schedule(context)
        assert isinstance(found, (dg.RunRequest, dg.SkipReason))
        return found

    skipped = evaluated()
    assert isinstance(skipped, dg.SkipReason)
    assert "backfill symbols add" in str(skipped.skip_message)
    follow(desk, "ABC")
    request = evaluated()
    assert isinstance(request, dg.RunRequest)
    assert request.tags["backfill/priority"] == "nightly"
    assert schedule.cron_schedule == "0 2 * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
