"""`backfill db move-to` and `backfill db size`: real rows from one database into another, compared, or nothing."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from backfill_pipeline.database_urls import database_of
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import database
from backfill_pipeline_tests.shell import Shell, one_line, shell
from backfill_pipeline_tests.tables import tables

DAYS = ("run", "--symbols", "AAPL", "--start", "2026-08-03", "--end", "2026-08-05")


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    """Three sessions of the sample's minutes and their days, of which nothing is changed by any test."""
    with shell(server) as made:
        made.quick("symbols", "add", "AAPL", "IBM", "--bars", "1m,1d")
        ran = made.quick(*DAYS, "--timeframes", "1m")
        assert ran.returncode == 0, ran.stderr
        made.quick("symbols", "remove", "IBM")
        yield made


@pytest.fixture
def targets(server: EmbeddedServer) -> Iterator[tuple[str, str]]:
    """Two empty databases: names."""
    with database(server, "empty") as one, database(server, "empty") as other:
        yield database_of(one), database_of(other)


def count(url: str, query: str) -> object:
    with closing(connect(url)) as conn, conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()[0][0]


def test_everything_is_moved_and_work_goes_on_there(
    desk: Shell, server: EmbeddedServer, targets: tuple[str, str]
) -> None:
    market, dagster = map(server.url, targets)

    moved = desk.quick("db", "move-to", market, "--dagster-url", dagster)

    assert moved.returncode == 0, moved.stderr
    assert f"\nDATABASE_URL={market}\nDAGSTER_DATABASE_URL={dagster}\n" in moved.stdout
    assert "bars: 1," in moved.stderr
    there = {"DATABASE_URL": market, "DAGSTER_DATABASE_URL": dagster}
    with closing(connect(desk.variables["DATABASE_URL"])) as old, closing(connect(market)) as new:
        assert tables(new) == tables(old)
    for table in ("runs", "event_logs", "asset_keys", "dynamic_partitions", "kvs"):
        query = f"SELECT count(*) FROM public.{table}"
        assert [(count(dagster, query),)] == desk.dagster_query(query)
    again = desk.quick(*DAYS, "--timeframes", "1m", **there)
    assert (again.returncode, again.stderr) == (0, ""), "the databases are of one day"
    assert again.stdout.startswith("everything asked for is complete already: nothing was started")
    # Identities and serial numbers go on after the last one.
    assert desk.quick("symbols", "add", "MSFT", **there).returncode == 0
    month = ("--start", "2013-02-01", "--end", "2013-02-28")
    further = desk.quick("run", "--symbols", "MSFT", "--timeframes", "1d", *month, **there)
    assert further.returncode == 0, further.stderr
    assert count(market, "SELECT max(symbol_id) FROM symbols") == 3


def test_without_a_place_for_dagsters_history_reconcile_is_named_and_works(
    desk: Shell, server: EmbeddedServer, targets: tuple[str, str]
) -> None:
    market, dagster = map(server.url, targets)

    moved = desk.quick("db", "move-to", market)

    assert moved.returncode == 0, moved.stderr
    kept = desk.variables["DAGSTER_DATABASE_URL"]
    assert f"DAGSTER_DATABASE_URL={kept}\n" in moved.stdout, "it is a setting, and stays"
    there = {"DATABASE_URL": market, "DAGSTER_DATABASE_URL": dagster}
    told = desk.quick(*DAYS, "--timeframes", "1m", **there)
    assert told.stderr.startswith("the bars' database and Dagster's are not of the same day")
    assert "next: backfill reconcile" in told.stderr
    reconciled = json.loads(desk.quick("reconcile", "--json", **there).stdout)
    assert (reconciled["recorded"], reconciled["turned_red"], reconciled["error"]) == (0, 0, None), "the run did it"
    assert desk.quick(*DAYS, "--timeframes", "1m", **there).stderr == ""
    assert "all show what the tables say" in desk.quick("reconcile", **there).stdout


def test_what_is_not_empty_is_refused_and_not_touched(
    desk: Shell, server: EmbeddedServer, targets: tuple[str, str]
) -> None:
    own, filled = desk.variables["DATABASE_URL"], server.url(targets[0])
    with closing(connect(filled)) as conn, conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE public.ledger AS SELECT 1 AS amount")

    assert "is where the data are already" in one_line(desk.quick("db", "move-to", own))
    line = one_line(desk.quick("db", "move-to", filled))
    assert f"database {targets[0]}: is not empty, ledger hold" in line
    assert count(filled, "SELECT count(*) FROM pg_namespace WHERE nspname = 'market'") == 0
    line = one_line(desk.quick("db", "move-to", server.url(targets[1]), "--dagster-url", filled))
    assert "is not empty" in line
    assert count(server.url(targets[1]), "SELECT count(*) FROM pg_namespace WHERE nspname = 'market'") == 0


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param("RAISE 'the disk is full'", ": the disk is full; nothing was moved", id="an error"),
        pytest.param(
            "NEW.volume := NEW.volume + 1", " rows arrived as other values; nothing was moved", id="a changed value"
        ),
        pytest.param("RETURN NULL", "; nothing was moved", id="a lost row"),
    ],
)
def test_a_copy_that_fails_leaves_nothing_and_the_same_command_can_be_given_again(
    desk: Shell, server: EmbeddedServer, targets: tuple[str, str], happens: str, told: str
) -> None:
    """It happens to one bar's row in the middle of the tables."""
    target = server.url(targets[0])
    with closing(connect(target)) as conn, conn, conn.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.ts = '2026-08-04 15:00Z' AND NEW.timeframe = '1m' THEN {happens}; END IF; RETURN NEW; END $$"
        )
    desk.quick("db", "migrate", DATABASE_URL=target)
    with closing(connect(target)) as conn, conn, conn.cursor() as cursor:
        cursor.execute("CREATE TRIGGER no BEFORE INSERT ON bars FOR EACH ROW EXECUTE FUNCTION public.refuse()")

    line = one_line_at_the_end(desk.quick("db", "move-to", target).stderr)

    assert line.endswith(told)
    assert count(target, "SELECT count(*) FROM symbols") == 0
    with closing(connect(target)) as conn, conn, conn.cursor() as cursor:
        cursor.execute("DROP TRIGGER no ON bars")
    assert desk.quick("db", "move-to", target).returncode == 0
    assert count(target, "SELECT count(*) FROM symbols") == 2


def one_line_at_the_end(stderr: str) -> str:
    """What comes after the tables that were copied; no trace anywhere."""
    assert "Traceback" not in stderr
    return stderr.splitlines()[-1]


def test_nothing_is_moved_while_a_run_is_at_work(desk: Shell, server: EmbeddedServer, targets: tuple[str, str]) -> None:
    with closing(connect(desk.variables["DATABASE_URL"])):
        line = one_line(desk.quick("db", "move-to", server.url(targets[0])))

    assert line.startswith("backfill: a run is at work")
    assert count(server.url(targets[0]), "SELECT count(*) FROM pg_namespace WHERE nspname = 'market'") == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("postgresql://me:hush@127.0.0.1:1/market", "correct URL", id="nobody there"),
        pytest.param("mysql://me:hush@host/market", "it starts with postgresql://", id="another database"),
        pytest.param("postgresql://me:hush@host:x/market", "has a port that is no number", id="no port"),
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(desk: Shell, url: str, words: str) -> None:
    line = one_line(desk.quick("db", "move-to", url))

    assert words in line
    assert "hush" not in line


def test_a_password_is_not_printed_on_success(desk: Shell, server: EmbeddedServer, targets: tuple[str, str]) -> None:
    target = server.url(targets[0]).replace("backfill@", "backfill:hush@")  # the socket asks for none

    moved = desk.quick("db", "move-to", target)

    assert moved.returncode == 0, moved.stderr
    assert "hush" not in moved.stdout + moved.stderr
    assert "DATABASE_URL=postgresql://backfill:***@" in moved.stdout
    assert "with the passwords in place of ***" in moved.stdout


def test_sizes_add_up_to_what_the_server_says(desk: Shell) -> None:
    told = json.loads(desk.quick("db", "size", "--json").stdout)

    of = {table["table"]: table["bytes"] for table in told["tables"]}
    assert desk.query("SELECT pg_total_relation_size('market.bars')") == [(of["bars"],)]
    assert told["free_bytes"] is None, "its server may be on another machine"
    big = of["bars"] + of["features"]
    assert big * 0.999 < sum(told["timeframes"].values()) <= big
    assert sum(told["symbols"].values()) == sum(told["timeframes"].values())
    assert set(told["symbols"]) == {"AAPL"}
    # 390 of 548 bars of a session are minutes: 78 + 26 + 13 + 7 + 2 derive from them.
    assert 0.7 < told["timeframes"]["1m"] / big < 0.8
    # Two years are about 500 sessions, of 960 minutes with extended hours.
    assert 490 * 960 * 300 < told["two_years_bytes"]["1m"] < 510 * 960 * 300
    text = desk.quick("db", "size").stdout
    assert "2 years of one more stock: at most 14" in text
