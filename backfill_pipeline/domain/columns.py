"""Every column of every table, declared once: type, unit, meaning. The data dictionary and Dagster's column schemas are
made from this, and a test holds it against the migrated database.
"""

from __future__ import annotations

from .event_columns import EVENT_TABLES
from .feature_list import FEATURES
from .gap_columns import GAP_TABLES
from .housekeeping_columns import HOUSEKEEPING_TABLES
from .job_columns import JOB_TABLES
from .look_columns import LOOKS
from .table_columns import TableColumn, TableDeclaration


def _c(name: str, type_: str, unit: str, meaning: str) -> TableColumn:
    return TableColumn(name, type_, unit, meaning)


_SYMBOL_ID = _c("symbol_id", "integer", "-", "the instrument, see `symbols`")
_BASE = _c("timeframe", "timeframe", "-", "base timeframe: `1m` or `1d`")
_SESSION = _c("session", "date", "date in the calendar's zone", "the trading day")

BARS = (
    _SYMBOL_ID,
    _c("timeframe", "timeframe", "-", "`1m 5m 15m 30m 1h 4h 1d 1w`"),
    _c("ts", "timestamp with time zone", "UTC", "start of the bar (left edge); days and weeks: local midnight"),
    _c("session", "date", "date in the calendar's zone", "the trading day; of a week, its Monday"),
    _c("segment", "segment", "-", "`pre`, `regular` or `post`; days and weeks are `regular`"),
    _c("open", "double precision", "price, unadjusted", "first trade"),
    _c("high", "double precision", "price, unadjusted", "highest trade"),
    _c("low", "double precision", "price, unadjusted", "lowest trade"),
    _c("close", "double precision", "price, unadjusted", "last trade; of a day, the official close"),
    _c("volume", "double precision", "shares or coins", "traded; may be fractional"),
    _c("vwap", "double precision", "price, unadjusted", "volume-weighted average; NULL unknown; may leave low..high"),
    _c("trades", "integer", "count", "number of trades; NULL unknown, which is not 0"),
    _c("final", "boolean", "-", "whole, closed, and past the correction window of two sessions"),
    _c("provider", "text", "-", "who sent it, or sent what it is built from"),
)

FEATURE_ROWS = (
    _SYMBOL_ID,
    _c("timeframe", "timeframe", "-", "as in `bars`"),
    _c("ts", "timestamp with time zone", "UTC", "start of the regular bar"),
    *(_c(f.name, "double precision", f.unit, f"{f.formula}; {f.seed}") for f in FEATURES),
)

_SYMBOLS = (
    _c("symbol_id", "integer", "-", "identity"),
    _c("symbol", "text", "-", "ticker as followed; unique, case-sensitive"),
    _c("asset_class", "asset_class", "-", "`stock`, `etf` or `crypto`"),
    _c("calendar", "text", "-", "trading calendar: `XNYS`, `24/7`, …"),
    _c("active", "boolean", "-", "followed now"),
    _c("priority", "integer", "-", "lower comes first"),
    _c("first_date", "date", "date in the calendar's zone", "first listed; NULL unknown"),
    _c("last_date", "date", "date in the calendar's zone", "last listed; NULL unknown or still listed"),
    _c("lifetime_source", "text", "-", "who said so"),
    _c("added_at", "timestamp with time zone", "UTC", "registered"),
)

_NAMES = (
    _SYMBOL_ID,
    _c("provider", "text", "-", "where it is called so; `*`: wherever nothing else is stated"),
    _c("ticker", "text", "-", "what it is called; where nothing is stated, that is the symbol"),
    _c("valid_from", "date", "date in the calendar's zone", "first day; -infinity: since ever"),
    _c("valid_to", "date", "date in the calendar's zone", "last day, included; NULL: still so"),
    _c("by_hand", "boolean", "-", "a person said so, and no provider overrules it"),
)

_IDENTITIES = (
    _SYMBOL_ID,
    _c("provider", "text", "-", "who was asked"),
    _c("instrument_id", "text", "-", "its own id (composite FIGI), the same under any ticker; NULL unknown"),
    _c("looked_up_at", "timestamp with time zone", "UTC", "when it was last asked"),
)

_SESSIONS = (
    _c("calendar", "text", "-", "trading calendar"),
    _SESSION,
    _c("day_start", "timestamp with time zone", "UTC", "local midnight of the session's date"),
    _c("day_end", "timestamp with time zone", "UTC", "the next local midnight"),
    _c("pre_open", "timestamp with time zone", "UTC", "start of the pre-market; `open` where there is none"),
    _c("open", "timestamp with time zone", "UTC", "start of the regular segment"),
    _c("break_start", "timestamp with time zone", "UTC", "lunch break; `close` where there is none"),
    _c("break_end", "timestamp with time zone", "UTC", "end of the lunch break; `close` where there is none"),
    _c("close", "timestamp with time zone", "UTC", "end of the regular segment"),
    _c("post_close", "timestamp with time zone", "UTC", "end of the post-market; `close` where there is none"),
    _c("expected_1m", "integer", "minutes", "regular minutes"),
    _c("note", "text", "-", "local override, in words"),
)

_WANTED = (
    _SYMBOL_ID,
    _BASE,
    _c("time_window", "tstzrange", "UTC", "what somebody asked to have and keep; no end: grows by itself"),
)

_SERVED = (
    _SYMBOL_ID,
    _BASE,
    _c("provider", "text", "-", "who would be asked"),
    _c("time_window", "tstzrange", "UTC", "what it can serve; beyond it nothing is expected"),
    _c("reason", "text", "-", "why no more, for people"),
)

_REVISIONS = (
    *BARS,
    _c("kind", "text", "-", "`restated` or `withdrawn`"),
    _c("revised_at", "timestamp with time zone", "UTC", "when the bar stopped being so"),
)

_QUARANTINE = (
    _SYMBOL_ID,
    _BASE,
    _c("ts", "timestamp with time zone", "UTC", "the row's own bar start"),
    _c("row", "jsonb", "-", "the row as it came"),
    _c("reason", "text", "-", "why it was refused"),
    _c("provider", "text", "-", "who sent it"),
    _c("seen_at", "timestamp with time zone", "UTC", "first seen"),
)

_COVERAGE = (
    _SYMBOL_ID,
    _BASE,
    _c("time_window", "tstzrange", "UTC", "what was asked and answered"),
    _c("provider", "text", "-", "who answered"),
    _c("rows_received", "integer", "bars", "accepted from the answer"),
    _c("rows_written", "integer", "bars", "new or changed in `bars`"),
    _c("settled", "boolean", "-", "fetched after the provider's settle delay: absence means something"),
    _c("fetched_at", "timestamp with time zone", "UTC", "when"),
    _c("valid_until", "timestamp with time zone", "UTC", "asked again from then on; infinity: never"),
)

_SAMPLES = (
    _c("month", "date", "date", "the month's first day"),
    _SYMBOL_ID,
    _BASE,
    _SESSION,
    _c("asked_at", "timestamp with time zone", "UTC", "when what was known stopped being believed"),
    _c("differing", "integer", "base bars", "changed or withdrawn by the new answer; NULL: there is none yet"),
)

_STATUS = (
    _SYMBOL_ID,
    _BASE,
    _SESSION,
    _c("expected", "integer", "base bars", "regular minutes of the session, or 1 day"),
    _c("stored", "integer", "base bars", "regular bars that an answer vouches for"),
    _c("explained", "jsonb", "base bars", "verdict → count: `not_listed not_due no_trade halt accepted`"),
    _c("missing", "integer", "base bars", "absent without: a gap"),
    _c("derived", "jsonb", "bars", "derived timeframe → regular bars stored and whole"),
    _c("provider", "text", "-", "who was asked last; NULL: nobody"),
    _c("due_at", "timestamp with time zone", "UTC", "until then `not_due` holds; NULL where nothing is not due"),
    _c("checked_at", "timestamp with time zone", "UTC", "when this last changed"),
    _c("bars", "integer", "base bars", "all that are stored, of every segment; NULL with the sums: not known"),
    _c("price_sum", "double precision", "currency", "over these: open + 2 high + 3 low + 5 close + 7 vwap (0 if NULL)"),
    _c("volume_sum", "double precision", "shares or coins", "over these: volume"),
)

_COMPLETENESS = (
    _c("symbol", "text", "-", "ticker"),
    _c("timeframe", "timeframe", "-", "any of the eight"),
    _c("wanted_from", "date", "date in the calendar's zone", "first wanted session (week: Monday) that is served"),
    _c("wanted_to", "date", "date in the calendar's zone", "last one that has begun"),
    _c("expected", "bigint", "bars", "= stored + explained + missing + not_due"),
    _c("stored", "bigint", "bars", "regular, whole"),
    _c("explained", "bigint", "bars", "absent with a reason"),
    _c("missing", "bigint", "bars", "absent without"),
    _c("not_due", "bigint", "bars", "of sessions not over, or not settled yet"),
    _c("complete_pct", "numeric", "percent of what is due", "cut, not rounded: 100 means all; NULL: nothing due"),
)

_WANTED_SESSIONS = (
    _SYMBOL_ID,
    _c("base", "timeframe", "-", "base timeframe: `1m` or `1d`"),
    *(c for c in _SESSIONS if c.name in {"calendar", "session", "open", "break_start", "break_end", "close"}),
    _c("expected", "integer", "base bars", "regular minutes of the session, or 1 day"),
    _c("stored", "integer", "base bars", "regular bars that an answer vouches for"),
    _c("not_due", "integer", "base bars", "absent, and nobody could have them yet"),
    _c(
        "missing", "integer", "base bars", "absent without a reason; all of a session that is over and nobody looked at"
    ),
    _c("derived", "jsonb", "bars", "as in `session_status`"),
)

_MARKET_ALL = (_c("symbol", "text", "-", "ticker"), *BARS[1:])

_ADJUSTED = (
    *(
        _c(c.name, c.type, c.unit.replace("unadjusted", "split-adjusted"), c.meaning)
        for c in _MARKET_ALL
        if c.name not in {"segment", "final", "provider"}
    ),
    _c("factor", "double precision", "-", "prices and vwap × it, volume ÷ it; of a week, that of its last day"),
    *BARS[-2:],
)

TABLES = (
    TableDeclaration("symbols", "One row per instrument.", _SYMBOLS),
    TableDeclaration("symbol_names", "One row per instrument, provider and period: its ticker.", _NAMES),
    TableDeclaration("symbol_identities", "One row per instrument and provider that was asked who it is.", _IDENTITIES),
    TableDeclaration("sessions", "One row per calendar and session.", _SESSIONS),
    TableDeclaration("wanted", "One row per symbol, base timeframe and stretch; stretches never touch.", _WANTED),
    TableDeclaration("served", "One row per symbol and base timeframe: what its provider can serve.", _SERVED),
    TableDeclaration("bars", "One row per symbol, timeframe and bar start. Unadjusted.", BARS),
    TableDeclaration("bar_revisions", "One row per changed or withdrawn base bar: the values it had.", _REVISIONS),
    TableDeclaration("quarantine", "One row per refused row of an answer.", _QUARANTINE),
    TableDeclaration("coverage", "One row per answered stretch.", _COVERAGE),
    TableDeclaration(
        "session_status",
        "One row per symbol, base timeframe and session. expected = stored + sum(explained) + missing.",
        _STATUS,
    ),
    LOOKS,
    *GAP_TABLES,
    TableDeclaration(
        "samples", "One row per month, symbol, base timeframe and session that was asked again.", _SAMPLES
    ),
    TableDeclaration("features", "One row per symbol, timeframe and regular bar.", FEATURE_ROWS),
    *EVENT_TABLES,
    *JOB_TABLES,
    *HOUSEKEEPING_TABLES,
    TableDeclaration("market_data_all", "View: bars of every segment with the symbol's text.", _MARKET_ALL),
    TableDeclaration(
        "market_data",
        "View: regular bars with the symbol's text.",
        tuple(column for column in _MARKET_ALL if column.name != "segment"),
    ),
    TableDeclaration(
        "bars_adjusted",
        "View: regular bars on the share basis after the newest accepted split. A week with an ex-date inside is built"
        " from its adjusted days.",
        _ADJUSTED,
    ),
    TableDeclaration(
        "wanted_sessions",
        "View: one row per symbol, base timeframe and wanted, served session that has begun. `completeness` counts it.",
        _WANTED_SESSIONS,
    ),
    TableDeclaration(
        "completeness", "View: one row per symbol and timeframe of which anything is wanted.", _COMPLETENESS
    ),
)


def dictionary() -> str:
    """The data dictionary, as Markdown."""
    lines = [
        "# Data dictionary",
        "",
        "Schema `market`. Generated from the declared columns by `make docs`; do not edit. How each feature is",
        "computed, with window and seed: [features.md](features.md).",
    ]
    for table in TABLES:
        lines += [
            "",
            f"## {table.name}",
            "",
            table.grain,
            "",
            "| column | type | unit | meaning |",
            "| - | - | - | - |",
        ]
        lines += [f"| {c.name} | {c.type} | {c.unit} | {c.meaning} |" for c in table.columns]
    return "\n".join(lines) + "\n"
