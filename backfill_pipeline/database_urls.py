"""Database URLs: one canonical spelling, libpq's, and what is derived from it.

libpq refuses `postgresql+psycopg2://`, SQLAlchemy takes `postgresql://` for whichever driver its version
prefers: so libpq's form is what is stored and printed, and SQLAlchemy's is derived where it is needed.
"""

import re
from pathlib import Path
from urllib.parse import quote

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")
INVALID = "is no valid PostgreSQL URL; special characters of a password are percent-encoded: @ is %40, / is %2F"
SECRET_PARAMETERS = ("password", "sslpassword")
FILE_PARAMETERS = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "passfile")


def canonical_url(url: str) -> str:
    """One spelling of a PostgreSQL URL: `postgresql://user:password@host:port/database?parameter=value`.

    Socket folders and lists of hosts stand in the query, where both libpq and SQLAlchemy read them. Files, as in
    sslrootcert=ca.crt, are made absolute: Dagster's processes work in another folder. Raises ValueError, one line
    without the password, if it is no PostgreSQL URL or names no database.
    """
    parts = _parts(url)
    database = parts.get("dbname", "")
    if not database:
        raise ValueError("names no database; a URL ends in /market, say")
    if not re.fullmatch(r"[A-Za-z0-9_.$-]+", database):  # SQLAlchemy takes %20 in this place literally
        raise ValueError("names a database with other characters than letters, digits, _ . $ -")
    return _spelled({name: _absolute(value) if name in FILE_PARAMETERS else value for name, value in parts.items()})


def sqlalchemy_url(url: str) -> str:
    """The same database for SQLAlchemy and Dagster, which need the driver's name: `postgresql+psycopg2://…`."""
    return canonical_url(url).replace("postgresql://", "postgresql+psycopg2://", 1)


def redacted_url(url: str) -> str:
    """The URL with `***` in place of passwords, for people to read. Never raises."""
    try:
        parts = _parts(url)
    except ValueError:
        return f"{url.split(':', 1)[0]}://***" if "://" in url else "***"
    return _spelled({name: "***" if name in SECRET_PARAMETERS else value for name, value in parts.items()})


def database_of(url: str) -> str:
    """The database that a canonical URL names."""
    return _parts(url)["dbname"]


def with_database(url: str, database: str) -> str:
    """The URL of another database on the same server, with the same login and parameters."""
    return _spelled({**_parts(url), "dbname": database})


def _absolute(file: str) -> str:
    return file if file == "system" else str(Path(file).expanduser().absolute())  # `system`: libpq's word for its CAs


def _spelled(parts: dict[str, str]) -> str:
    user, password = quote(parts.get("user", ""), safe=""), quote(parts.get("password", ""), safe="*")
    host, port = parts.get("host", ""), parts.get("port", "")
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    in_path, place = {"user", "password", "dbname"}, ""
    if host and not host.startswith(("/", "@")) and "," not in host:
        place = (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
        in_path |= {"host", "port"}
    query = "&".join(f"{name}={quote(parts[name], safe='/,*')}" for name in parts if name not in in_path)
    return f"postgresql://{login}{place}/{quote(parts.get('dbname', ''), safe='')}{'?' if query else ''}{query}"


def _parts(url: str) -> dict[str, str]:
    """The parameters of a URL, decoded. Raises ValueError; libpq's own message is left out, it may quote the
    password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError("is no PostgreSQL URL; it starts with postgresql://")
    try:
        parts: dict[str, str] = parse_dsn(f"postgresql://{rest}")
    except ProgrammingError:
        raise ValueError(INVALID) from None
    if "@" in parts.get("host", "")[1:]:  # the tail of a password with an @ in it; @name is an abstract socket
        raise ValueError(INVALID)
    if not re.fullmatch(r"\d*(,\d*)*", parts.get("port", "")):
        raise ValueError("has a port that is no number")
    return parts
