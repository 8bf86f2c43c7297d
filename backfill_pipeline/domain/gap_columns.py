"""Columns of the tables about gaps and calendar overrides; the other tables are in columns.py."""

from __future__ import annotations

from .table_columns import TableColumn as Column
from .table_columns import TableDeclaration

_GAPS = (
    Column("gap_id", "integer", "-", "identity, for `backfill gaps accept`"),
    Column("symbol_id", "integer", "-", "the instrument, see `symbols`"),
    Column("timeframe", "timeframe", "-", "base timeframe: `1m` or `1d`"),
    Column(
        "time_window", "tstzrange", "UTC", "from the first absent bar to the end of the last; a lunch break is inside"
    ),
    Column("expected", "integer", "base bars", "regular bars that the window should hold"),
    Column("found", "integer", "base bars", "those that are stored"),
    Column("verdict", "text", "-", "`outage`: volume or other symbols prove a loss; `missing`: nothing explains it"),
    Column("evidence", "jsonb", "-", "`by` what it was judged, with the figures; `because`: who accepted it said why"),
    Column("attempts", "integer", "answers", "complete answers since it was found that lacked the bars, too"),
    Column("next_attempt_at", "timestamp with time zone", "UTC", "not asked for by itself before"),
    Column("detected_at", "timestamp with time zone", "UTC", "first found"),
    Column("resolved_at", "timestamp with time zone", "UTC", "closed; NULL: open"),
    Column("resolution", "text", "-", "`filled`, `explained …`, `accepted`, …; NULL: open"),
)

_OVERRIDES = (
    Column("calendar", "text", "-", "trading calendar"),
    Column("session", "date", "date in the calendar's zone", "a day that the calendar calls a session"),
    Column("kind", "text", "-", "`closed`: a person says it is none; `open`: it is one; `unconfirmed`: nothing traded"),
    Column("note", "text", "-", "why, for people"),
    Column("added_at", "timestamp with time zone", "UTC", "when"),
    Column("attempts", "integer", "requests", "how often an unconfirmed one was asked for again"),
    Column("next_attempt_at", "timestamp with time zone", "UTC", "not asked for again before; NULL: not at all"),
)

_EVIDENCE = (
    Column("calendar", "text", "-", "trading calendar"),
    Column("day", "date", "date in the calendar's zone", "a session that may be none, or the other way round"),
    Column("provider", "text", "-", "who was asked"),
    Column("traded", "boolean", "-", "whether anything at all traded, by the last answer"),
    Column("seen_at", "timestamp with time zone", "UTC", "when this last changed"),
)

GAP_TABLES = (
    TableDeclaration("gaps", "One row per run of absent base bars that nothing explains, open or past.", _GAPS),
    TableDeclaration("calendar_overrides", "One row per calendar and day on which it is overruled.", _OVERRIDES),
    TableDeclaration("calendar_evidence", "One row per calendar, day and provider that makes it doubtful.", _EVIDENCE),
)
