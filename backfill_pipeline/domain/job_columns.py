"""Columns of the tables about the progress of backfills; the other tables are in columns.py."""

from __future__ import annotations

from .table_columns import TableColumn as Column
from .table_columns import TableDeclaration

_TIME = "timestamp with time zone"

_JOBS = (
    Column("id", "uuid", "-", "identity, for `backfill status`"),
    Column("dagster_id", "text", "-", "Dagster's backfill or, of none, its run; NULL: there was nothing to do"),
    Column("origin", "text", "-", "`ui`, `schedule`, `sensor` or `shell`"),
    Column("symbols", "text[]", "-", "all that it is about, by name"),
    Column("start_date", "date", "session date", "first day, included; NULL: nothing to do"),
    Column("end_date", "date", "session date", "last day, included; NULL: nothing to do"),
    Column("timeframes", "text[]", "-", "all of the chains it is about, `1m` to `1w`"),
    Column("status", "text", "-", "`queued`, `running`, `completed`, `failed` or `canceled`"),
    Column("progress_pct", "double precision", "% of the days to settle", "0 to 100, never falls"),
    Column("symbols_completed", "integer", "symbols", "those of which every timeframe is completed or skipped"),
    Column("symbols_total", "integer", "symbols", "number of `symbols`"),
    Column("current_symbol", "text", "-", "fetched or settled last; NULL: not begun, or over"),
    Column("current_timeframe", "text", "-", "its base timeframe; NULL: not begun, or over"),
    Column("total_records_fetched", "bigint", "base bars", "received from providers, before any check"),
    Column("total_records_inserted", "bigint", "bars", "rows written, new or changed, of every timeframe"),
    Column("error_message", "text", "-", "why it failed or was canceled, and what goes on with it; NULL: neither"),
    Column("created_at", _TIME, "UTC", "first seen: when it was asked for, or queued"),
    Column("started_at", _TIME, "UTC", "its first run began; NULL: none yet"),
    Column("completed_at", _TIME, "UTC", "its end, checks included, however it ended; NULL: not over"),
    Column(
        "estimated_completion_time", _TIME, "UTC", "by the request budget and the pace so far; NULL: unknown, or over"
    ),
)

_PROGRESS = (
    Column("job_id", "uuid", "-", "see `backfill_jobs`"),
    Column("symbol", "text", "-", "the instrument's name"),
    Column("timeframe", "text", "-", "`1m` to `1w`"),
    Column(
        "status",
        "text",
        "-",
        "`pending`, `running`, `completed`, `failed`, or `skipped`: there was nothing to do when the job began",
    ),
    Column("records_fetched", "bigint", "base bars", "received from providers; 0 for what is derived"),
    Column("records_inserted", "bigint", "bars", "rows written, new or changed"),
    Column("error_message", "text", "-", "of the first incomplete partition, or why nothing can be had; NULL: none"),
    Column("started_at", _TIME, "UTC", "first news of it; NULL: none yet, or skipped"),
    Column("completed_at", _TIME, "UTC", "all its partitions were settled; NULL: not yet, or skipped"),
    Column("duration_seconds", "double precision", "s", "from started_at to completed_at"),
)

_DAYS = (
    Column("job_id", "uuid", "-", "see `backfill_jobs`"),
    Column("symbol", "text", "-", "the instrument's name"),
    Column("timeframe", "text", "-", "base timeframe: `1m` or `1d`"),
    Column("target", "datemultirange", "session dates", "days of the partitions to settle"),
    Column("settled", "datemultirange", "session dates", "days of those that are through"),
    Column("incomplete", "datemultirange", "session dates", "settled days of partitions that lack bars"),
    Column("target_days", "integer", "days", "of `target`"),
    Column("settled_days", "integer", "days", "of `settled` inside `target`"),
    Column("moved", "bigint", "bars", "rows fetched and written"),
    Column("message", "text", "-", "of the first incomplete partition, or why nothing can be had"),
)

_RUNS = (
    Column("run_id", "text", "-", "Dagster's run"),
    Column("job_id", "uuid", "-", "see `backfill_jobs`"),
    Column("started_at", _TIME, "UTC", "it took up the job"),
    Column("ended_at", _TIME, "UTC", "it was through; NULL: at work, or its process is gone"),
)

JOB_TABLES = (
    TableDeclaration("backfill_jobs", "One row per backfill: of the UI, of a schedule or sensor, of a shell.", _JOBS),
    TableDeclaration("backfill_job_progress", "One row per job, symbol and timeframe.", _PROGRESS),
    TableDeclaration("backfill_job_days", "One row per job, symbol and base timeframe.", _DAYS),
    TableDeclaration("backfill_job_runs", "One row per Dagster run that works on a job.", _RUNS),
)
