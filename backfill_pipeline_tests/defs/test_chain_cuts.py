"""The two chains cut in other ways: scattered keys, other grains, months of days."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from backfill_pipeline.defs.bookkeeping import plan
from backfill_pipeline.defs.partitions import key_of
from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.defs.running import asset_names, run_tasks
from backfill_pipeline.domain.grain import period_of
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.steps.task import Task
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline.storage.symbols import get_instruments, remove_symbol
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, metadata, site

# Monday to Friday without a holiday, New York in summer time: 13:30 to 20:00 UTC.
WEEK = ("2024-05-13", "2024-05-14", "2024-05-15", "2024-05-16", "2024-05-17")


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("cuts"), exchange) as made:
        yield made


def test_one_run_takes_any_set_of_keys_of_several_symbols(desk: Site, exchange: Exchange) -> None:
    """Neither neighbouring days nor neighbouring symbols, in one step, as a UI backfill may cut them."""
    desk.register("ODD", "SKIPPED", "EVEN")
    days = {"ODD": ("2024-05-13", "2024-05-15", "2024-05-17"), "EVEN": ("2024-05-14", "2024-05-16")}
    exchange.requests.clear()

    @dg.op
    def scattered(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
        with pipeline.open() as warehouse:
            instruments = get_instruments(warehouse.conn, list(days))
            warehouse.conn.rollback()
            tasks = [
                Task(instruments[name], INTRADAY, tuple(period_of(date.fromisoformat(day), "day") for day in of))
                for name, of in days.items()
            ]
            for task in tasks:
                plan(context, asset_names(INTRADAY), [key_of(task.instrument.symbol, p) for p in task.periods])
            run_tasks(context, pipeline, warehouse, tasks)

    @dg.job(
        executor_def=dg.in_process_executor,
        resource_defs={"pipeline": dg.ResourceDefinition.hardcoded_resource(desk.pipeline)},
    )
    def scattered_job() -> None:
        scattered()

    assert scattered_job.execute_in_process(instance=desk.instance).success

    for symbol, of in days.items():
        assert desk.colours(INTRADAY, "features_4h", keys(symbol, *WEEK)) == green(*keys(symbol, *of))
        sessions = desk.query(
            "SELECT DISTINCT session::text FROM bars JOIN symbols USING (symbol_id) WHERE symbol = %s ORDER BY 1",
            symbol,
        )
        assert [row[0] for row in sessions] == list(of)
    assert len(exchange.requests) == 5, "one request a stretch of days"


@pytest.mark.parametrize(
    ("chain", "setting", "grain", "first", "last"),
    [
        pytest.param(INTRADAY, "intraday_grain", "week", "2024-04-29W", "2024-05-06W", id="weeks of minutes"),
        pytest.param(INTRADAY, "intraday_grain", "month", "2024-05", "2024-05", id="months of minutes"),
        pytest.param(DAILY, "daily_grain", "day", "2024-03-25", "2024-05-10", id="days of days"),
    ],
)
def test_any_grain_gives_the_same_bars(
    desk: Site, chain: object, setting: str, grain: str, first: str, last: str
) -> None:
    """Compared with the days (of minutes) and months (of days) of the default, over the same dates."""
    assert chain in (INTRADAY, DAILY)
    job, kind = ("backfill_intraday", "1m") if chain is INTRADAY else ("backfill_daily", "1d")
    span = {
        "week": ("2024-04-29", "2024-05-12"),
        "month": ("2024-05-01", "2024-05-31"),
        "day": ("2024-03", "2024-05"),
    }[grain]
    symbol = f"GRAIN{grain.upper()}"
    desk.register(symbol, bars=[kind])
    desk.chain(job, f"{span[0]}|{symbol}", f"{span[1]}|{symbol}")
    usual = desk.stored(symbol)
    assert len(usual["bars"]) == len(usual["features"]) > 30

    with desk.pipeline.open() as warehouse, warehouse.conn:
        remove_symbol(warehouse.conn, symbol, with_bars=True)
    other = desk.cut(**{setting: grain})
    other.register(symbol, bars=[kind])
    if grain == "day":
        first, last = "2024-03-01", "2024-05-31"
    result = other.chain(job, f"{first}|{symbol}", f"{last}|{symbol}")

    recorded = metadata(result, desk.instance, f"bars_{kind}")
    assert min(recorded) == f"{first}|{symbol}"
    assert other.stored(symbol) == usual


def test_months_of_days_become_days_and_weeks(desk: Site) -> None:
    desk.register("LONG", bars=["1d"])

    result = desk.chain("backfill_daily", "2024-01|LONG", "2024-05|LONG")

    months = keys("LONG", "2024-01", "2024-02", "2024-03", "2024-04", "2024-05")
    assert desk.every_colour(DAILY, months) == green(*months)
    # NYSE sessions of the months, and their Mondays, Memorial Day included.
    assert [of["rows"] for _, of in sorted(metadata(result, desk.instance, "bars_1d").items())] == [21, 20, 20, 22, 22]
    assert [of["rows"] for _, of in sorted(metadata(result, desk.instance, "bars_1w").items())] == [5, 4, 4, 5, 4]
    assert metadata(result, desk.instance, "bars_1d")["2024-01|LONG"]["first_ts"] == "2024-01-02 05:00Z"


def test_the_month_that_is_not_over_is_neither_green_nor_red(desk: Site) -> None:
    desk.register("MONTH", bars=["1d"])

    desk.at(datetime(2024, 5, 16, 1, tzinfo=UTC)).chain("backfill_daily", "2024-04|MONTH", "2024-05|MONTH")

    assert desk.every_colour(DAILY, keys("MONTH", "2024-04", "2024-05")) == green("2024-04|MONTH")
    stored = desk.query(
        "SELECT max(session)::text FROM bars JOIN symbols USING (symbol_id) WHERE symbol = 'MONTH' AND timeframe = '1d'"
    )
    assert stored == [("2024-05-15",)]
