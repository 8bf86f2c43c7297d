"""Owner, writer and reader on a real second server: each can do its work, and nothing else."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from backfill_pipeline.domain.columns import TABLES
from backfill_pipeline.project_files import project_file
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import MigrationError, migrate, migration_files
from backfill_pipeline_tests.second_server import SecondServer, second_server
from backfill_pipeline_tests.shell import Shell, one_line, reachable_folder

PASSWORD = f"planted-{secrets.token_hex(8)}"
HIDDEN = {"provider_budget", "provider_queue", "provider_limits"}


@pytest.fixture(scope="module")
def second() -> Iterator[SecondServer]:
    with second_server() as started:
        yield started


@pytest.fixture(scope="module")
def admin(second: SecondServer) -> Iterator[Shell]:
    """A shell of who may do anything, in which the roles are made."""
    with reachable_folder() as folder:
        urls = {"DATABASE_URL": second.url("market"), "DAGSTER_DATABASE_URL": second.url("dagster")}
        made = Shell(folder, {"BACKFILL_HOME": str(folder / "home"), "BACKFILL_PROVIDER": "sample", **urls})
        done = made.quick("db", "roles", "--apply", "--prefix", "team")
        assert done.returncode == 0, done.stderr
        assert "database dagster: granted" in done.stderr
        assert done.stdout.startswith("next: give team_owner, team_writer, team_reader passwords")
        for role in ("owner", "writer", "reader"):
            second.query(second.url("market"), f"ALTER ROLE team_{role} PASSWORD '{PASSWORD}'")
        yield made
        made.close()


def as_role(admin: Shell, second: SecondServer, role: str) -> Shell:
    urls = {
        "DATABASE_URL": second.url("market", f"team_{role}", PASSWORD),
        "DAGSTER_DATABASE_URL": second.url("dagster", f"team_{role}", PASSWORD),
    }
    return replace(admin, variables={**admin.variables, **urls}, _driver=None)


@pytest.fixture(scope="module")
def writer(admin: Shell, second: SecondServer) -> Iterator[Shell]:
    """The writer's shell, in which a backfill was run from first to last."""
    made = as_role(admin, second, "writer")
    assert made.quick("symbols", "add", "AAPL", "IBM", "--bars", "1m,1d").returncode == 0
    days = ("--timeframes", "1m", "--start", "2026-08-03", "--end", "2026-08-05")
    ran = made.backfill("run", "--symbols", "AAPL", *days)
    assert ran.returncode == 0, ran.stderr
    yield made
    made.close()


def test_the_pipeline_runs_as_the_writer(writer: Shell, second: SecondServer) -> None:
    assert writer.query("SELECT count(*) FROM bars WHERE timeframe = '1m'") == [(3 * 390,)]
    assert writer.runs()[-1][1] == "SUCCESS"
    for command in ("matrix", "gaps", "verify", "rebuild", "jobs", "reconcile", "db size", "db migrate"):
        done = writer.quick(*command.split())
        assert done.returncode == 0, (command, done.stderr)
    renamed = writer.quick("symbols", "alias", "IBM", "--provider", "polygon", "--ticker", "IBM.N")
    assert "permission denied" not in renamed.stderr  # it locks a table


def test_the_writer_changes_no_table_and_no_record_of_migrations(writer: Shell, second: SecondServer) -> None:
    url = writer.variables["DATABASE_URL"]
    for statement in (
        "DROP TABLE market.bars",
        "ALTER TABLE market.bars ADD x int",
        "TRUNCATE market.bars",
        "CREATE TABLE market.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "DELETE FROM market.schema_migrations",
        "CREATE ROLE friend",
        "SET ROLE team_owner",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            second.query(url, statement)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        second.query(writer.variables["DAGSTER_DATABASE_URL"], "DROP TABLE runs")


def test_the_reader_reads_bars_and_sees_nothing_else(writer: Shell, admin: Shell, second: SecondServer) -> None:
    reader = as_role(admin, second, "reader")
    read = reader.python(
        "from backfill_pipeline import read_bars, read_features;"
        " print(len(read_bars('AAPL', '1m', '2026-08-03', '2026-08-05')),"
        " len(read_features('AAPL', '1h', '2026-08-03', '2026-08-05')))"
    )
    assert (read.stdout, read.returncode) == ("1170 21\n", 0), read.stderr
    url = reader.variables["DATABASE_URL"]
    assert second.query(url, "SELECT count(*) FROM market_data WHERE symbol = 'AAPL'")[0][0]
    for statement in ("DELETE FROM bars", "UPDATE bars SET close = 1", "INSERT INTO gaps DEFAULT VALUES"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            second.query(url, statement)
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        second.query(reader.variables["DAGSTER_DATABASE_URL"], "SELECT 1")
    assert "permission denied" in one_line(reader.quick("run", "--symbols", "AAPL", "--days", "3"))
    reader.close()


def test_of_every_table_it_is_known_whether_a_reader_sees_it(admin: Shell, second: SecondServer) -> None:
    """A table of a later migration is readable unless it is taken away, so each is looked at here once."""
    of = "SELECT relname FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relkind IN ('r', 'p', 'v')"
    found = second.query(second.url("market"), f"{of} AND has_table_privilege('team_reader', oid, 'SELECT')")
    assert {str(name) for (name,) in found} == {table.name for table in TABLES} - HIDDEN
    owned = second.query(second.url("market"), f"{of} AND relowner <> 'team_owner'::regrole")
    assert owned == []


def test_the_owner_alone_migrates_and_what_it_makes_is_the_writers_to_fill(
    writer: Shell, admin: Shell, second: SecondServer
) -> None:
    with reachable_folder() as folder:
        for file in migration_files(project_file("sql")):
            (folder / file.name).write_bytes(file.read_bytes())
        late = f"{len(list(folder.glob('*.sql'))) + 1:03d}_late.sql"
        (folder / late).write_text("CREATE TABLE late (x int); ALTER TABLE bars ADD late int")
        with pytest.raises(MigrationError) as caught:
            migrate(writer.variables["DATABASE_URL"], folder)
        assert str(caught.value).startswith(f"{late} is not applied yet, and role team_writer may not (")
        assert str(caught.value).endswith("run `backfill db migrate` as the tables' owner")
        owner = second.url("market", "team_owner", PASSWORD)
        assert migrate(owner, folder) == [late]
    with closing(connect(writer.variables["DATABASE_URL"])) as conn, conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO late VALUES (1)")
    assert second.query(second.url("market", "team_reader", PASSWORD), "SELECT x FROM late") == [(1,)]
    second.query(owner, "DROP TABLE market.late; ALTER TABLE market.bars DROP late")
    second.query(second.url("market"), f"DELETE FROM market.schema_migrations WHERE name = '{late}'")


def test_again_changes_nothing_and_printed_it_is_what_psql_takes(admin: Shell, second: SecondServer) -> None:
    grants = (
        "SELECT md5(string_agg(relname || coalesce(relacl::text, '') || relowner, ',' ORDER BY relname))"
        " FROM pg_class WHERE relnamespace = 'market'::regnamespace"
    )
    before = second.query(second.url("market"), grants)
    assert admin.quick("db", "roles", "--apply", "--prefix", "team").returncode == 0
    assert second.query(second.url("market"), grants) == before
    printed = admin.quick("db", "roles", "--prefix", "team").stdout
    for part, url in zip(printed.split("\\connect dagster\n"), ("market", "dagster"), strict=True):
        second.query(second.url(url), part)
    assert second.query(second.url("market"), grants) == before
    assert "backfill_owner" not in printed
    assert "backfill_jobs" not in printed


def test_a_role_that_may_not_make_roles_is_told(writer: Shell) -> None:
    line = one_line(writer.quick("db", "roles", "--apply"))
    assert "permission denied to create role" in line
    assert line.endswith("run this as a superuser, or as a role with CREATEROLE that owns the database and its tables")
    assert PASSWORD not in line
    assert "small letters, digits and _" in one_line(writer.quick("db", "roles", "--prefix", "a'; DROP"))


def test_a_role_that_owns_the_databases_and_may_make_roles_is_enough(admin: Shell, second: SecondServer) -> None:
    second.query(second.url("postgres"), f"CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD '{PASSWORD}'")
    urls = {
        variable: second.url(database, "manager", PASSWORD)
        for variable, database in (("DATABASE_URL", "theirs"), ("DAGSTER_DATABASE_URL", "theirs_dagster"))
    }
    for _ in range(2):
        done = admin.quick("db", "roles", "--apply", "--prefix", "theirs", **urls)
        assert done.returncode == 0, done.stderr
    second.query(second.url("theirs"), f"ALTER ROLE theirs_writer PASSWORD '{PASSWORD}'")
    urls = {variable: url.replace("manager", "theirs_writer") for variable, url in urls.items()}
    assert admin.quick("symbols", "add", "AAPL", **urls).returncode == 0
