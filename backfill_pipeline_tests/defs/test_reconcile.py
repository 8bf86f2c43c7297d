"""Dagster's partitions after one of the two databases was restored, lost or made anew."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date

import dagster as dg
import pytest

from backfill_pipeline.database_urls import database_of, sqlalchemy_url
from backfill_pipeline.defs.reconcile import compare
from backfill_pipeline.defs.stamp import DISAGREE, disagreement
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.storage.databases import open_databases
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import administer
from backfill_pipeline_tests.sites import Exchange, Site, failure, green, keys, red, site

# Friday before a weekend to the Tuesday after it; no holiday.
DAYS = ("2024-05-10", "2024-05-11", "2024-05-12", "2024-05-13", "2024-05-14")
LATER = ("2024-05-15", "2024-05-16")


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("site"), exchange) as made:
        yield made


@contextmanager
def other_dagster(desk: Site, server: EmbeddedServer) -> Iterator[Site]:
    """The same bars, and a Dagster that knows nothing."""
    name = f"test_{secrets.token_hex(8)}"
    settings = desk.pipeline.settings.model_copy(update={"dagster_database_url": server.url(name)})
    open_databases(settings)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_DATABASE_URL", sqlalchemy_url(server.url(name)))
        with dg.DagsterInstance.from_config(str(settings.home)) as instance:
            yield replace(desk, pipeline=replace(desk.pipeline, settings=settings), instance=instance)
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def told(desk: Site) -> str | None:
    with desk.pipeline.open() as warehouse:
        return disagreement(desk.instance, warehouse)


def test_a_dagster_made_anew_shows_what_the_tables_say(desk: Site, exchange: Exchange, server: EmbeddedServer) -> None:
    desk.register("ABC", "XYZ")
    desk.chain("backfill_intraday", f"{DAYS[0]}|ABC", f"{DAYS[-1]}|ABC")
    desk.chain("backfill_daily", "2024-04|ABC", "2024-06|ABC")
    before = desk.colours(INTRADAY, "features_4h", keys("ABC", *DAYS, *LATER))
    assert before == green(*keys("ABC", *DAYS))
    bars, asked = desk.versions(), len(exchange.requests)

    with other_dagster(desk, server) as other:
        assert (told(desk), told(other)) == (None, DISAGREE)
        result = other.run("reconcile")

        assert other.every_colour(INTRADAY, keys("ABC", *DAYS, *LATER)) == before
        months = keys("ABC", "2024-03", "2024-04", "2024-05", "2024-06")
        assert other.colours(DAILY, "features_1w", months) == green(*months[1:3]), "June is not over"
        assert other.instance.get_dynamic_partitions("intraday_symbol") == ["ABC", "XYZ"]
        assert told(other) is None
        recorded = other.instance.fetch_materializations(dg.AssetKey("bars_1m"), limit=100).records
        assert sorted(str(r.partition_key) for r in recorded) == keys("ABC", *DAYS), result.run_id
    assert desk.versions() == {**bars, "served": desk.versions()["served"]}
    assert len(exchange.requests) == asked


def test_bars_of_an_older_day_turn_what_is_lost_red_and_the_next_run_brings_it(
    desk: Site, server: EmbeddedServer
) -> None:
    """The database is put back to a real copy of it, taken before the last run."""
    desk.register("ABC")
    desk.chain("backfill_intraday", f"{DAYS[0]}|ABC", f"{DAYS[-1]}|ABC")
    name, copy = database_of(desk.url), f"test_{secrets.token_hex(8)}"
    end = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"  # one just closed
    administer(server, end, f"CREATE DATABASE {copy} TEMPLATE {name}")
    desk.chain("backfill_intraday", f"{LATER[0]}|ABC", f"{LATER[-1]}|ABC")
    assert told(desk) is None
    administer(server, f"DROP DATABASE {name} WITH (FORCE)", f"ALTER DATABASE {copy} RENAME TO {name}")

    assert told(desk) == DISAGREE
    lost = keys("ABC", *LATER)
    assert desk.colours(INTRADAY, "bars_1m", lost) == green(*lost), "Dagster knows nothing of it"
    result = desk.run("reconcile", ok=False)

    assert desk.every_colour(INTRADAY, keys("ABC", *DAYS, *LATER)) == green(*keys("ABC", *DAYS)) | red(*lost)
    assert f"ABC {LATER[0]} 1m: the tables do not vouch for it" in failure(result)
    assert told(desk) is None
    desk.chain("backfill_intraday", lost[0], lost[-1])
    assert desk.colours(INTRADAY, "features_4h", lost) == green(*lost)


def test_a_run_before_the_reconciling_does_not_hide_that_the_databases_differ(
    desk: Site, server: EmbeddedServer
) -> None:
    desk.register("ABC")
    desk.chain("backfill_intraday", f"{DAYS[0]}|ABC", f"{DAYS[0]}|ABC")

    with other_dagster(desk, server) as other:
        other.register("ABC")
        result = other.chain("backfill_intraday", f"{LATER[0]}|ABC", f"{LATER[0]}|ABC")

        assert told(other) == DISAGREE
        logged = [entry.user_message for entry in other.instance.all_logs(result.run_id)]
        assert DISAGREE in logged
        other.run("reconcile", run_config={"ops": {"reconcile": {"config": {"symbols": ["ABC"]}}}})
        assert told(other) == DISAGREE, "only one symbol was compared"


def test_a_stamp_that_was_cut_short_is_no_disagreement(desk: Site) -> None:
    desk.register("ABC")
    desk.chain("backfill_intraday", f"{DAYS[0]}|ABC", f"{DAYS[0]}|ABC")
    old = str(desk.query("SELECT stamp FROM dagster_stamp")[0][0])

    desk.instance.run_storage.set_cursor_values({"backfill_pipeline/stamp": f'["of a killed run", "{old}"]'})
    assert told(desk) is None
    desk.instance.run_storage.set_cursor_values({"backfill_pipeline/stamp": '["of another day"]'})
    assert told(desk) == DISAGREE


def test_where_nothing_differs_nothing_is_recorded(desk: Site) -> None:
    desk.register("ABC")
    desk.chain("backfill_intraday", f"{DAYS[0]}|ABC", f"{DAYS[-1]}|ABC")

    with desk.pipeline.open() as warehouse:
        found = compare(desk.instance, desk.pipeline, warehouse)
        assert found.differences == ()
        # Only the chain in which anything is wanted: every day from the first of January to the clock's.
        assert found.partitions == (date(2024, 6, 3) - date(2024, 1, 1)).days + 1
    result = desk.run("reconcile")
    events = desk.instance.fetch_materializations(dg.AssetKey("bars_1m"), limit=100).records
    assert not [record for record in events if record.run_id == result.run_id]


def test_a_symbol_that_is_followed_no_more_is_no_partition(desk: Site) -> None:
    desk.register("ABC", "OLD")
    desk.query("UPDATE symbols SET active = false WHERE symbol = 'OLD'")

    desk.run("reconcile")

    assert desk.instance.get_dynamic_partitions("intraday_symbol") == ["ABC"]
