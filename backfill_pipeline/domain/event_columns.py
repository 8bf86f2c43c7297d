"""Every column of the tables of splits, dividends and earnings; see columns.py."""

from __future__ import annotations

from .table_columns import TableColumn as _c  # noqa: N813  (as short as in columns.py)
from .table_columns import TableDeclaration

_STAMP = "timestamp with time zone"
_SYMBOL_ID = _c("symbol_id", "integer", "-", "the instrument, see `symbols`")
_EX_DATE = _c("ex_date", "date", "date in the calendar's zone", "the first session without it")
_PROVIDER_ID = _c("provider_id", "text", "-", "the provider's own name of the event; empty: none")
_PROVIDER = _c("provider", "text", "-", "who tells it")
_JUDGED = (
    _c("accepted", "boolean", "-", "used; false: refused or suspicious; NULL: cannot be judged yet"),
    _c("reason", "text", "-", "why, with the figures"),
    _c("seen_at", _STAMP, "UTC", "first told"),
    _c("withdrawn_at", _STAMP, "UTC", "when it was found to be told no longer; NULL: it still is"),
)

_SPLITS = (
    _SYMBOL_ID,
    _c("ex_date", "date", "date in the calendar's zone", "the first session on the new basis, pre-market included"),
    _c("split_from", "double precision", "shares", "so many old ones; 0: the provider told no number"),
    _c("split_to", "double precision", "shares", "become so many new ones; 0: the provider told no number"),
    _c("adjustment_type", "text", "-", "`forward_split`, `reverse_split`, `stock_dividend`, as told"),
    _PROVIDER_ID,
    _PROVIDER,
    *_JUDGED,
)

_DIVIDENDS = (
    _SYMBOL_ID,
    _EX_DATE,
    _c("cash_amount", "double precision", "`currency` per share of the ex-date", "0: the provider told no number"),
    _c("currency", "text", "-", "ISO code"),
    _c("declaration_date", "date", "date", "announced; NULL unknown"),
    _c("record_date", "date", "date", "who holds a share then is paid; NULL unknown"),
    _c("pay_date", "date", "date", "paid; NULL unknown"),
    _c("distribution_type", "text", "-", "`recurring`, `special`, …, as told"),
    _c("frequency", "integer", "times a year", "as told; NULL unknown"),
    _PROVIDER_ID,
    _PROVIDER,
    *_JUDGED,
)

_EARNINGS = (
    _SYMBOL_ID,
    _c("report_date", "date", "date in the calendar's zone", "reported, or expected to be"),
    _c("report_time", "text", "time of day, as told", "empty: unknown"),
    _c("date_status", "text", "-", "`projected` or `confirmed`, as told"),
    _c("fiscal_year", "integer", "year", "NULL unknown"),
    _c("fiscal_period", "text", "-", "`Q1` … `FY`, as told"),
    _c("currency", "text", "-", "ISO code; empty: unknown"),
    _c("actual_eps", "double precision", "`currency` per share", "NULL: not reported yet"),
    _c("estimated_eps", "double precision", "`currency` per share", "NULL unknown"),
    _c("actual_revenue", "double precision", "`currency`", "NULL: not reported yet"),
    _c("estimated_revenue", "double precision", "`currency`", "NULL unknown"),
    _PROVIDER_ID,
    _PROVIDER,
    *_JUDGED,
)

_ASKED = (
    _c("kind", "text", "-", "`splits`, `dividends` or `earnings`"),
    _c("provider", "text", "-", "who was asked"),
    _c("account", "text", "-", "where, and a hash of the key"),
    _SYMBOL_ID,
    _c("asked_from", "date", "date", "events from then on were asked, coming ones included"),
    _c("asked_at", _STAMP, "UTC", "for the last time"),
)

_STALE = (
    _SYMBOL_ID,
    _c("timeframe", "timeframe", "-", "base timeframe, for its chain"),
    _c("since", "date", "date in the calendar's zone", "first session whose features are to be computed anew"),
    _c("marked_at", _STAMP, "UTC", "when the accepted splits changed"),
)

EVENT_TABLES = (
    TableDeclaration("splits", "One row per told split. At most one of a symbol and date is accepted.", _SPLITS),
    TableDeclaration("dividends", "One row per told payment.", _DIVIDENDS),
    TableDeclaration("earnings", "One row per told report of earnings.", _EARNINGS),
    TableDeclaration(
        "events_asked", "One row per kind of event, provider, account and symbol: since when it was asked.", _ASKED
    ),
    TableDeclaration("features_stale", "One row per symbol and chain whose accepted splits changed.", _STALE),
)
