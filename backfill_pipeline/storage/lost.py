"""A database that goes away while it is worked with: killed, restarted, cut off."""

from __future__ import annotations

import psycopg2

from .connection import DatabaseError

# SQLSTATE: the server shuts down, has crashed or starts up; the connection broke. Without one, libpq alone spoke: the
# other side has hung up.
_LOST = ("57P", "08")


class LostDatabaseError(RuntimeError):
    """The database went away in the middle, and is back. What was committed stays: the same work goes on from there."""


def was_lost(error: BaseException | None) -> bool:
    """Whether this error, or what caused it, is that of a connection that broke or could not be had anew."""
    while error is not None:
        if isinstance(error, DatabaseError):
            return True
        if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
            return error.pgcode is None or error.pgcode.startswith(_LOST)
        error = error.__cause__
    return False
