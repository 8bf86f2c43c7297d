"""Columns of the table about looks; the other tables are in columns.py."""

from __future__ import annotations

from .table_columns import TableColumn as Column
from .table_columns import TableDeclaration

LOOKS = TableDeclaration(
    "looks",
    "One row per complete look at all followed symbols: is everything stored what was written?",
    (
        Column("looked_at", "timestamp with time zone", "UTC", "when"),
        Column("sessions", "integer", "sessions", "that were looked at, with bars, answers and features"),
        Column(
            "found",
            "jsonb",
            "sessions",
            "what was wrong → count: `changed unvouched forgotten derived features stray`; empty: all as written",
        ),
    ),
)
