"""One spelling of a URL, read alike by libpq and SQLAlchemy."""

from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from backfill_pipeline.database_urls import canonical_url, redacted_url, sqlalchemy_url, with_database

URLS = [
    pytest.param("postgresql://u:p%40s%2Fs%25+%C3%BC@db.example:5433/market?sslmode=require", id="odd password"),
    pytest.param("postgres://u@%2Ftmp%2Fsockets/market", id="percent-encoded socket folder"),
    pytest.param("postgresql://backfill@/market?host=/tmp/a b&port=5432", id="socket folder in the query"),
    pytest.param("postgresql+psycopg2://u@[::1]:5432/market", id="IPv6"),
    pytest.param("postgresql://u:p@a:1,b:2/market", id="two hosts"),
    pytest.param("postgresql:///market?password=p%26q&options=-c%20jit%3Doff", id="all in the query"),
]


@pytest.mark.parametrize("url", URLS)
def test_the_canonical_url_means_the_same_to_libpq(url: str) -> None:
    canonical = canonical_url(url)
    assert canonical.startswith("postgresql://")
    assert parse_dsn(canonical) == parse_dsn(url.replace("+psycopg2", ""))
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize("url", URLS)
def test_sqlalchemy_connects_to_what_libpq_would(url: str) -> None:
    spelled = sqlalchemy_url(url)
    assert spelled.startswith("postgresql+psycopg2://")
    arguments, keywords = create_engine(spelled).dialect.create_connect_args(make_url(spelled))
    assert arguments == []
    assert {name: str(value) for name, value in keywords.items()} == parse_dsn(canonical_url(url))


def test_a_redacted_url_keeps_everything_but_the_password() -> None:
    assert redacted_url("postgres://u:p%40ss@h:5/d?sslmode=require") == "postgresql://u:***@h:5/d?sslmode=require"
    assert redacted_url("postgresql://u@h/d?password=pass") == "postgresql://u:***@h/d"
    assert redacted_url("postgresql://u:p@ss@h/d") == "postgresql://***"
    assert redacted_url("anything with pass") == "***"


def test_another_database_of_the_same_server_keeps_the_login() -> None:
    assert with_database("postgresql://u:p@h:5/market?sslmode=require", "dagster") == (
        "postgresql://u:p@h:5/dagster?sslmode=require"
    )


def test_files_are_named_from_the_folder_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's processes, which are handed the URL, work in another one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    given = "postgresql://u@h/d?sslrootcert=ca.crt&sslcert=~/my.crt&sslkey=/etc/my.key&sslmode=verify-full"
    assert parse_dsn(canonical_url(given)) == {
        **parse_dsn("postgresql://u@h/d?sslmode=verify-full&sslkey=/etc/my.key&sslcert=/home/me/my.crt"),
        "sslrootcert": str(tmp_path / "ca.crt"),
    }
    assert canonical_url("postgresql://u@h/d?sslrootcert=system") == "postgresql://u@h/d?sslrootcert=system"
