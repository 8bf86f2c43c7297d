"""Migrations: each file once, whole or not at all, and no way to drift unnoticed."""

import threading
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from backfill_pipeline.project_files import project_file
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.migrations import MigrationError, applied, migrate, migration_files, pending


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    return empty_database_url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "001_bars.sql").write_text("CREATE TABLE bars (close float8 CHECK (close > 0));")
    (tmp_path / "002_more.sql").write_text("ALTER TABLE bars ADD volume float8; -- 100 % of it\nSELECT 1;")
    return tmp_path


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def test_a_new_database_gets_every_file_in_order_and_then_none(database_url: str, folder: Path) -> None:
    assert migrate(database_url, folder) == ["001_bars.sql", "002_more.sql"]
    assert migrate(database_url, folder) == []
    assert rows(database_url, "SELECT count(volume) FROM market.bars") == [(0,)]
    with closing(connect(database_url)) as connection:
        assert list(applied(connection)) == ["001_bars.sql", "002_more.sql"]
        assert pending(connection, migration_files(folder)) == []


def test_a_later_file_is_the_only_one_applied(database_url: str, folder: Path) -> None:
    migrate(database_url, folder)
    (folder / "003_last.sql").write_text("CREATE VIEW last AS SELECT * FROM bars")
    assert migrate(database_url, folder) == ["003_last.sql"]


def test_the_reading_functions_write_nothing(database_url: str, folder: Path) -> None:
    with closing(connect(database_url)) as connection:
        assert applied(connection) == {}
        assert [file.name for file in pending(connection, migration_files(folder))] == ["001_bars.sql", "002_more.sql"]
    assert rows(database_url, "SELECT to_regnamespace('market')") == [(None,)]


def test_a_failing_file_leaves_nothing_and_those_before_it_stay(database_url: str, folder: Path) -> None:
    (folder / "002_more.sql").write_text("CREATE TABLE half (a int);\n\nCREATE TABLE half (b int);")
    with pytest.raises(MigrationError, match=r'^002_more\.sql: relation "half" already exists$'):
        migrate(database_url, folder)
    assert rows(database_url, "SELECT to_regclass('market.half'), to_regclass('market.bars')::text") == [(None, "bars")]
    (folder / "002_more.sql").write_text("CREATE TABLE half (a int)")
    assert migrate(database_url, folder) == ["002_more.sql"]


def test_a_mistake_is_told_with_its_line(database_url: str, folder: Path) -> None:
    (folder / "002_more.sql").write_text("SELECT 1;\n\nSELEKT 2;")
    with pytest.raises(MigrationError, match=r'^002_more\.sql, line 3: syntax error at or near "SELEKT"$'):
        migrate(database_url, folder)


def test_a_file_that_commits_by_itself_is_refused(database_url: str, folder: Path) -> None:
    (folder / "002_more.sql").write_text("SELECT 1; COMMIT;")
    with pytest.raises(MigrationError, match=r"002_more\.sql ends the transaction itself"):
        migrate(database_url, folder)


def change(folder: Path) -> None:
    (folder / "001_bars.sql").write_text("CREATE TABLE bars (close float4)")


def remove_last(folder: Path) -> None:
    (folder / "002_more.sql").unlink()


def rename_first(folder: Path) -> None:
    (folder / "001_bars.sql").rename(folder / "001_beans.sql")


def leave_a_gap(folder: Path) -> None:
    (folder / "004_late.sql").write_text("SELECT 1")


def number_twice(folder: Path) -> None:
    (folder / "002_again.sql").write_text("SELECT 1")


def misname(folder: Path) -> None:
    (folder / "3-third.sql").write_text("SELECT 1")


@pytest.mark.parametrize(
    ("drift", "complaint"),
    [
        (change, r"^001_bars\.sql was changed after it was applied"),
        (remove_last, r"^002_more\.sql is applied and unknown here: the database is newer"),
        (rename_first, r"^001_bars\.sql is applied and its file is gone"),
        (leave_a_gap, r"004_late\.sql: expected number 003 here"),
        (number_twice, r"002_more\.sql: expected number 003 here"),
        (misname, r"3-third\.sql: a migration is called like 001_what\.sql"),
    ],
)
def test_files_that_do_not_fit_the_database_are_refused(
    database_url: str, folder: Path, drift: object, complaint: str
) -> None:
    migrate(database_url, folder)
    assert callable(drift)
    drift(folder)
    with pytest.raises(MigrationError, match=complaint) as caught:
        migrate(database_url, folder)
    assert "\n" not in str(caught.value)


def test_a_file_older_than_the_newest_applied_is_refused(database_url: str, folder: Path) -> None:
    migrate(database_url, folder)
    with closing(connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE name = '001_bars.sql'")
    with pytest.raises(MigrationError, match=r"001_bars\.sql comes before 002_more\.sql, which is applied"):
        migrate(database_url, folder)


def test_line_ends_of_windows_are_no_change(database_url: str, folder: Path) -> None:
    migrate(database_url, folder)
    file = folder / "002_more.sql"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(database_url, folder) == []


def test_of_eight_at_once_one_applies_and_seven_find_it_done(database_url: str, folder: Path) -> None:
    (folder / "003_slow.sql").write_text("SELECT pg_sleep(0.2)")
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(database_url, folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, results)) == [0, 0, 0, 0, 0, 0, 0, 3]


def test_a_database_of_our_own_shows_market_to_psql_too(database_url: str, folder: Path) -> None:
    migrate(database_url, folder)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM bars")
        assert cursor.fetchone() == (0,)


def test_a_database_shared_with_others_keeps_its_search_path(database_url: str, folder: Path) -> None:
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.bars (theirs int)")
    migrate(database_url, folder)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT theirs FROM bars")
        cursor.execute("SELECT close FROM market.bars")


def test_the_projects_own_files_are_found_and_apply(database_url: str) -> None:
    names = [file.name for file in migration_files(project_file("sql"))]
    assert names
    assert migrate(database_url) == names
    with pytest.raises(FileNotFoundError, match="nothing-like-it is neither in"):
        project_file("nothing-like-it")
