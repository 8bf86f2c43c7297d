"""Partitions cut in another width on databases that are in use; and how many of them are too many."""

from collections.abc import Iterator
from datetime import date

import pytest

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.grains import changed_grains, crowded
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline.storage.stamps import Stamp, read_stamp
from backfill_pipeline.storage.symbols import remove_symbol
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, site


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("grain"), exchange) as made:
        yield made


def test_weeks_of_days_give_the_same_bars_as_months(desk: Site) -> None:
    """The first quarter of 2024 ends with a week that reaches into April."""
    desk.register("WEEKLY", bars=["1d"])
    desk.chain("backfill_daily", "2024-01|WEEKLY", "2024-03|WEEKLY")
    usual = desk.stored("WEEKLY")
    with desk.pipeline.open() as warehouse, warehouse.conn:
        remove_symbol(warehouse.conn, "WEEKLY", with_bars=True)

    weeks = desk.cut(daily_grain="week")
    weeks.register("WEEKLY", bars=["1d"])
    weeks.chain("backfill_daily", "2024-01-01W|WEEKLY", "2024-03-25W|WEEKLY")

    assert len(usual["bars"]) == 61 + 13, "sessions and weeks of the quarter"
    assert weeks.stored("WEEKLY") == usual


@pytest.mark.parametrize(
    ("settings", "intraday", "daily"),
    [
        pytest.param(
            {"intraday_grain": "week", "daily_grain": "day"},
            ["2024-05-06W", "2024-05-13W"],
            [f"2024-04-{day:02d}" for day in range(1, 31)],
            id="weeks of minutes, days of days",
        ),
        pytest.param(
            {"intraday_grain": "month", "daily_grain": "week"},
            [],  # two weeks are no month
            ["2024-04-01W", "2024-04-08W", "2024-04-15W", "2024-04-22W"],
            id="months of minutes, weeks of days",
        ),
    ],
)
def test_a_changed_grain_leaves_bars_and_reconcile_marks_the_new_keys(
    server: EmbeddedServer,
    tmp_path_factory: pytest.TempPathFactory,
    settings: dict[str, str],
    intraday: list[str],
    daily: list[str],
) -> None:
    exchange = Exchange()
    with site(server, tmp_path_factory.mktemp("change"), exchange) as desk:
        desk.register("ABC")
        desk.chain("backfill_intraday", "2024-05-06|ABC", "2024-05-19|ABC")
        desk.chain("backfill_daily", "2024-04|ABC", "2024-04|ABC")
        stored, versions, asked = desk.stored("ABC"), desk.versions(), len(exchange.requests)
        other = desk.cut(**settings)

        with other.pipeline.open() as warehouse:
            known = read_stamp(warehouse.conn)
            assert known is not None
            lines = changed_grains(known, warehouse.intraday_grain, warehouse.daily_grain)
            assert len(lines) == 2
        # A week that is only half wanted is complete: nobody asked for the rest of it.
        of_minutes = intraday or ["2024-05"]
        assert other.colours(INTRADAY, "features_4h", keys("ABC", *of_minutes)) == {}
        other.run("reconcile")

        assert other.colours(INTRADAY, "features_4h", keys("ABC", *of_minutes)) == green(*keys("ABC", *of_minutes))
        assert other.colours(DAILY, "features_1w", keys("ABC", *daily)) == green(*keys("ABC", *daily))
        with other.pipeline.open() as warehouse:
            known = read_stamp(warehouse.conn)
            assert known is not None
            assert changed_grains(known, warehouse.intraday_grain, warehouse.daily_grain) == []
        assert other.stored("ABC") == stored
        assert other.versions() == {**versions, "served": other.versions()["served"]}
        assert len(exchange.requests) == asked

        first, last = keys("ABC", of_minutes[0], of_minutes[-1])
        if intraday:
            other.chain("backfill_intraday", first, last)
            assert len(exchange.requests) == asked, "what is stored is not asked for again"


def test_a_changed_grain_is_told_with_what_to_do() -> None:
    known = Stamp("mark", "day", "month")

    assert changed_grains(known, "day", "month") == []
    (line,) = changed_grains(known, "week", "month")
    assert line == (
        "BACKFILL_INTRADAY_GRAIN is week and was day: bars and coverage stay as they are, the new partitions of what is"
        " stored have no colour yet; next: backfill reconcile"
    )


@pytest.mark.parametrize(
    ("symbols", "crowd"), [pytest.param(54, None, id="98,604"), pytest.param(55, "100,430", id="100,430")]
)
def test_more_partitions_than_dagster_recommends_are_told_with_the_setting(symbols: int, crowd: str | None) -> None:
    """2022 to 2026 are 1,826 days: one of the five years is a leap year."""
    line = crowded(INTRADAY, symbols, date(2022, 1, 1), date(2026, 12, 31), "day")

    if crowd is None:
        assert line is None
    else:
        assert line is not None
        assert f"55 symbols × 1,826 days are {crowd} partitions" in line
        assert "set BACKFILL_INTRADAY_GRAIN to week or month" in line


def test_months_that_are_too_many_can_only_start_later() -> None:
    line = crowded(DAILY, 400, date(2000, 1, 1), date(2020, 12, 31), "month")

    assert line is not None
    assert "400 symbols × 252 months are 100,800 partitions" in line
    assert "GRAIN" not in line
    assert "BACKFILL_DAILY_START to a later day than 2000-01-01" in line
