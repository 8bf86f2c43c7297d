"""`backfill db …`, `backfill env` and a `.env` file."""

import json
import os
from collections.abc import Iterator

import psycopg2
import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, reachable_folder, shell


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    """Works on the databases that DATABASE_URL and DAGSTER_DATABASE_URL name."""
    with shell(server) as made:
        yield made


@pytest.fixture
def own() -> Iterator[Shell]:
    """A folder that the server's user reaches, and no database: the home's own server is used."""
    with reachable_folder() as folder:
        made = Shell(folder, {"BACKFILL_HOME": str(folder / "home"), "BACKFILL_PROVIDER": "synthetic"})
        yield made
        made.quick("db", "stop")
        made.close()


def test_the_embedded_server_starts_when_it_is_needed_and_stops_when_told(own: Shell) -> None:
    assert json.loads(own.quick("db", "status", "--json").stdout)["running"] is False

    url = own.backfill("db", "url")

    assert (url.returncode, url.stderr) == (0, "")
    with psycopg2.connect(url.stdout.strip()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM market.symbols")
        assert cursor.fetchall() == [(0,)]
    connection.close()
    home = str(own.folder / "home")
    assert own.quick("db", "status").stdout == f"embedded server: running; home {home}\n"
    assert own.quick("db", "start").stdout == "the embedded server is up; next: backfill symbols add AAPL\n"
    exports = own.quick("env").stdout
    assert f"export BACKFILL_HOME={home}\n" in exports
    assert "DATABASE_URL=postgresql" not in exports.replace("DAGSTER_DATABASE_URL", "")
    assert own.quick("db", "stop").stdout == "stopped\n"
    assert own.quick("db", "stop").stdout == "it was not running\n"
    assert own.quick("db", "status").stdout == f"embedded server: not running; home {home}\n"


def test_a_database_that_is_named_is_used_and_migrated(desk: Shell) -> None:
    assert desk.quick("db", "migrate").stdout == "the tables are up to date\n"
    assert desk.quick("db", "url").stdout.strip() == desk.variables["DATABASE_URL"]
    assert desk.quick("db", "start").stdout.startswith("the server of DATABASE_URL is up")
    status = json.loads(desk.quick("db", "status", "--json").stdout)
    assert (status["embedded"], status["running"]) == (False, True)
    assert desk.query("SELECT to_regclass('market.bars') IS NOT NULL") == [(True,)]


def test_env_is_what_a_bare_dagster_command_needs(desk: Shell) -> None:
    """Dagster's own command finds its home, its database and the code, with nothing else set."""
    script = (
        'set -eu; exports="$(backfill env)"; unset BACKFILL_HOME BACKFILL_PROVIDER DATABASE_URL DAGSTER_DATABASE_URL;'
        ' eval "$exports"; printenv DAGSTER_DATABASE_URL DATABASE_URL DAGSTER_HOME BACKFILL_PROVIDER;'
        " dagster run list"
    )

    ran = desk.bash(script)

    assert ran.returncode == 0, ran.stderr
    for expected in (desk.variables["DATABASE_URL"], str(desk.folder / "home" / "dagster")):
        assert expected in ran.stdout
    assert ran.stdout.startswith("postgresql+psycopg2://")


def test_a_dotenv_file_is_honoured_and_the_environment_wins(desk: Shell) -> None:
    lines = [f"{name}={value}" for name, value in desk.variables.items()]
    (desk.folder / ".env").write_text("\n".join([*lines, "BACKFILL_DAILY_START=1999-01-01", ""]), encoding="utf-8")
    bare = Shell(desk.folder, {})

    url = bare.backfill("db", "url")
    exports = bare.backfill("env", BACKFILL_PROVIDER="synthetic").stdout.splitlines()
    (desk.folder / ".env").unlink()

    assert (url.returncode, url.stdout.strip()) == (0, desk.variables["DATABASE_URL"])
    assert "export BACKFILL_DAILY_START=1999-01-01" in exports
    assert "export BACKFILL_PROVIDER=synthetic" in exports


def test_an_edited_dagster_yaml_is_left_alone_and_an_old_one_is_renewed(desk: Shell) -> None:
    desk.quick("env")
    target = desk.folder / "home" / "dagster" / "dagster.yaml"
    shipped = target.read_bytes()

    target.write_bytes(shipped + b"# mine\n")
    desk.quick("env")
    assert target.read_bytes() == shipped + b"# mine\n"

    target.unlink()
    desk.quick("env")
    assert target.read_bytes() == shipped


def test_the_home_is_the_users_alone(desk: Shell) -> None:
    desk.quick("env")

    assert (desk.folder / "home" / "dagster").stat().st_uid == os.geteuid()
