"""Columns of the tables about requests, migrations and Dagster; the other tables are in columns.py."""

from __future__ import annotations

from .table_columns import TableColumn as Column
from .table_columns import TableDeclaration

_BUDGET_KEY = (
    Column("provider", "text", "-", "who is asked"),
    Column("base_url", "text", "-", "where"),
    Column("key_fingerprint", "text", "-", "a hash of the key, never the key"),
)

_BUDGET = (
    *_BUDGET_KEY,
    Column("next_at", "timestamp with time zone", "UTC", "first moment that is not handed out yet"),
    Column("handed_out", "bigint", "requests", "slots handed out so far"),
    Column("passed_over", "integer", "requests", "slots in a row that went past an older caller"),
    Column("paused_at", "timestamp with time zone", "UTC", "handing out has stopped; NULL: it has not"),
    Column("budget_id", "integer", "-", "identity"),
)

_QUEUE = (
    Column("ticket", "bigint", "-", "drawn in the order of arrival"),
    Column("budget_id", "integer", "-", "see `provider_budget`"),
    Column("rank", "smallint", "-", "0 nightly, 1 repair, 2 backfill"),
    Column("back_at", "timestamp with time zone", "UTC", "when the caller asks again; one that does not is dead"),
)

_LIMITS = (
    *_BUDGET_KEY,
    Column("name", "text", "-", "which limit"),
    Column("day", "date", "date", "the day it is about; NULL: looked for, and not to be known"),
    Column("learned_at", "timestamp with time zone", "UTC", "when"),
)

_STAMP = (
    Column("one_row", "boolean", "-", "true: there is one row at most"),
    Column(
        "stamp", "text", "-", "changes with every run; Dagster's database keeps the same, while both are of one day"
    ),
    Column(
        "intraday_grain", "text", "-", "width of the partitions that were brought in line: `day`, `week` or `month`"
    ),
    Column("daily_grain", "text", "-", "the same of the daily chain"),
    Column("stamped_at", "timestamp with time zone", "UTC", "when"),
)

_MIGRATIONS = (
    Column("name", "text", "-", "file in `sql/`"),
    Column("sha256", "text", "-", "its checksum when it was applied"),
    Column("applied_at", "timestamp with time zone", "UTC", "when"),
)

HOUSEKEEPING_TABLES = (
    TableDeclaration("provider_budget", "One row per provider, base URL and key.", _BUDGET),
    TableDeclaration("provider_queue", "One row per caller that waits for a slot.", _QUEUE),
    TableDeclaration("provider_limits", "One row per provider, base URL, key and limit.", _LIMITS),
    TableDeclaration("dagster_stamp", "One row: the mark that Dagster's database carries, too.", _STAMP),
    TableDeclaration("schema_migrations", "One row per applied file of `sql/`.", _MIGRATIONS),
)
