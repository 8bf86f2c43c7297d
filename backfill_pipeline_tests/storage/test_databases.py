"""Both databases: made when absent, by many at once, and one clear line when they cannot be had."""

import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from backfill_pipeline.database_urls import with_database
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.databases import DatabaseError, Databases, connect, open_databases
from backfill_pipeline.storage.server import EmbeddedServer

OPEN = "import sys; from pathlib import Path; from backfill_pipeline.settings import Settings; "
OPEN += "from backfill_pipeline.storage.databases import open_databases; "
OPEN += "print(open_databases(Settings(BACKFILL_HOME=sys.argv[1], DATABASE_URL=None, DAGSTER_DATABASE_URL=None), "
OPEN += "sql_folder=Path(sys.argv[2])).market_url)"


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    return empty_database_url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "001_bars.sql").write_text("CREATE TABLE bars (close float8)")
    return tmp_path


@pytest.fixture
def own_name(server: EmbeddedServer) -> Iterator[str]:
    """Name of a database that does not exist yet; dropped afterwards, as is the one named after it for Dagster."""
    name = f"test_{secrets.token_hex(8)}"
    yield name
    with closing(psycopg2.connect(server.url("postgres"))) as connection:
        connection.autocommit = True
        for database in (name, f"{name}_dagster"):
            connection.cursor().execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def opened(home: Path, folder: Path, market: str, dagster: str | None) -> Databases:
    settings = Settings(BACKFILL_HOME=str(home), DATABASE_URL=market, DAGSTER_DATABASE_URL=dagster)
    return open_databases(settings, sql_folder=folder)


def test_without_a_url_four_processes_at_once_get_the_embedded_databases(server: EmbeddedServer, folder: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(server.home), str(folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=60) for process in processes}
    assert answers == {(f"{server.url('market')}\n", "")}
    with closing(connect(server.url("market"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM bars")
    with closing(connect(server.url("dagster"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")
        assert cursor.fetchone() == ("UTF8",)


def test_given_urls_are_used_and_their_databases_made(server: EmbeddedServer, folder: Path, own_name: str) -> None:
    market, dagster = server.url(own_name), server.url(f"{own_name}_dagster")
    databases = opened(Path("/nonexistent"), folder, market, dagster)
    assert databases == Databases(market, dagster, embedded=False, home=databases.home, notice=databases.notice)
    assert opened(Path("/nonexistent"), folder, market, dagster) == databases
    for url in (market, dagster):
        connect(url).close()


def test_a_role_that_may_not_make_the_dagster_database_is_told_which_variable_to_set(
    server: EmbeddedServer, database_url: str, folder: Path
) -> None:
    """The role is asked for by SET ROLE at connecting, because the embedded server knows one login only."""
    role = f"role_{secrets.token_hex(4)}"
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role}; GRANT ALL ON SCHEMA public TO {role}")
        cursor.execute(f"GRANT CREATE ON DATABASE {psycopg2.extensions.parse_dsn(database_url)['dbname']} TO {role}")
    url = f"{database_url}&options=-c%20role%3D{role}"
    with pytest.raises(DatabaseError) as caught:
        opened(Path("/nonexistent"), folder, url, with_database(url, f"{role}_dagster"))
    assert str(caught.value).endswith("permission denied to create database; create it, or set DAGSTER_DATABASE_URL")
    with closing(psycopg2.connect(server.url("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {psycopg2.extensions.parse_dsn(database_url)['dbname']} WITH (FORCE)")
            cursor.execute(f"DROP ROLE {role}")


def test_a_dead_server_is_one_line_with_its_place_and_without_the_password(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"postgresql://me:s3cret@127.0.0.1:{port}/market"
    with pytest.raises(DatabaseError) as caught:
        opened(Path("/nonexistent"), folder, url, None)
    assert str(caught.value) == (
        f"PostgreSQL at 127.0.0.1, port {port}, database market: Connection refused; "
        "start that server, or correct DATABASE_URL"
    )
    assert caught.value.__suppress_context__


def test_a_dead_socket_says_how_to_start_the_embedded_server(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="No such file or directory; start it with `backfill db start`"):
        connect(f"postgresql://backfill@/market?host={tmp_path}")


def test_an_unknown_host_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"^PostgreSQL at db\.invalid, port 5432, database market: .*; start"):
        connect("postgresql://me:s3cret@db.invalid/market")


def test_every_session_is_alike_whatever_the_database_says(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    name = psycopg2.extensions.parse_dsn(database_url)["dbname"]
    with closing(connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    expected = {"timezone": "UTC", "search_path": "market,public", "client_encoding": "UTF8", "jit": "on"}
    url = f"{database_url}&options=-c%20jit%3Don"
    with closing(connect(url, application_name="a test")) as connection, connection.cursor() as cursor:
        for setting, value in {**expected, "application_name": "a test"}.items():
            cursor.execute(f"SHOW {setting}")
            assert cursor.fetchone() == (value,), setting


def test_a_dead_dagster_database_names_its_own_variable(database_url: str, folder: Path) -> None:
    with pytest.raises(DatabaseError, match=r"port 1, database dagster: .*, or correct DAGSTER_DATABASE_URL$"):
        opened(Path("/nonexistent"), folder, database_url, "postgresql://127.0.0.1:1/dagster")
