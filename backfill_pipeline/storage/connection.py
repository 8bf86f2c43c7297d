"""Connections to PostgreSQL, all alike: schema market first, UTC, UTF-8, dead peers noticed."""

from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  psycopg2's class has a lower-case name
from psycopg2.extensions import parse_dsn

from backfill_pipeline.database_urls import redacted_url

OLDEST_SERVER = 15
SESSION_OPTIONS = (
    "-c search_path=market,public -c timezone=UTC"
    # The server, too, notices within a minute that this machine is gone, and lets go of what a run has locked.
    " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 -c tcp_user_timeout=60000"
)

# In what PostgreSQL and libpq say: no place for another connection; and what TLS has against the other side.
_FULL = ("too many clients", "connection slots are reserved", "too many connections")
_NO_TLS = ("SSL error", "not support SSL", "sslmode", "certificate", "private key file")


class DatabaseError(RuntimeError):
    """A database cannot be used. The text is one line: which one, why, what to do; never a password."""


def connect(url: str, *, application_name: str = "backfill") -> Connection:
    """Connect to a database given by its URL in libpq's form.

    The session has search_path market, public, time zone UTC and encoding UTF8, waits 10 s at most for the
    server, and over TCP notices a dead one after about a minute. Raises DatabaseError.
    """
    try:
        parts = parse_dsn(url)
        connection = psycopg2.connect(
            url,
            application_name=application_name,
            client_encoding="UTF8",
            connect_timeout=10,
            keepalives=1,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=60_000,
            options=f"{parts.get('options', '')} {SESSION_OPTIONS}".strip(),
        )
    except psycopg2.Error as error:
        raise DatabaseError(f"{place(url)}: {reason(error, url)}; {_next_step(url, str(error))}") from None
    _refuse_old_server(connection, url)
    if connection.info.parameter_status("TimeZone") != "UTC":  # PGTZ in the environment beats the options
        connection.autocommit = True  # outside of any transaction, so that no rollback takes it back
        with connection.cursor() as cursor:
            cursor.execute("SET timezone = 'UTC'")
        connection.autocommit = False
    return connection


def place(url: str) -> str:
    """Host, port and database of a URL for people to read, without login."""
    try:
        parts: dict[str, Any] = parse_dsn(url)
    except psycopg2.ProgrammingError:
        return redacted_url(url)
    host, port = parts.get("host", "the local socket"), parts.get("port", "5432")
    return f"PostgreSQL at {host}, port {port}, database {parts.get('dbname', '')}"


def reason(error: psycopg2.Error, url: str) -> str:
    """The first line of what PostgreSQL says, without the place, which is said already, and without the
    password.
    """
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    for marker in ("failed: ", "FATAL:  ", "ERROR:  "):
        line = line.rpartition(marker)[2] or line
    password = parse_dsn(url).get("password") if "://" in url else None
    return line.replace(password, "***") if password else line


def _next_step(url: str, text: str) -> str:
    if any(sign in text for sign in _FULL):
        return "wait until some end, or give that server or role more; docs/security.md says how many are held"
    if any(sign in text for sign in _NO_TLS):
        return "correct sslmode, sslrootcert, sslcert or sslkey in DATABASE_URL"
    if "password" in text or "authentication" in text or "no pg_hba.conf entry" in text:
        return "correct the user, the password or sslmode in DATABASE_URL"
    if "permission denied for database" in text:
        return "its owner may GRANT CONNECT to that role; or correct DATABASE_URL"
    if "host=/" in url:
        return "start it with `backfill db start`, or correct DATABASE_URL"
    if "does not exist" in text:
        return "create it, or correct DATABASE_URL"
    return "start that server, or correct DATABASE_URL"


def _refuse_old_server(connection: Connection, url: str) -> None:
    major = connection.server_version // 10_000
    if major < OLDEST_SERVER:
        connection.close()
        raise DatabaseError(
            f"{place(url)}: is PostgreSQL {major} and {OLDEST_SERVER} is the oldest supported; upgrade it, "
            "or unset DATABASE_URL to use the embedded server"
        )
