"""`backfill db size`: what takes the disk, and what more symbols would take."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import date, timedelta

from rich.table import Table

from backfill_pipeline.defs.resources import utc_now
from backfill_pipeline.domain.planning import rows_per_session
from backfill_pipeline.domain.sessions import horizon, load_sessions
from backfill_pipeline.domain.timeframe import BASES, TIMEFRAMES
from backfill_pipeline.steps.disk import GB
from backfill_pipeline.steps.estimate import BYTES_PER_BAR
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.sizes import Share, database_bytes, shares, table_sizes

from .common import Json, out, prepare_environment, print_json, settings_of_folder

_MEGABYTE = 1_000_000
_MOST_SYMBOLS = 10
_YEARS = 2


def size(json: Json = False) -> None:
    """Bytes by table, timeframe and symbol, free space, and what two years of one more symbol take."""
    environment = prepare_environment(settings_of_folder())
    databases = environment.databases
    with closing(connect(databases.market_url)) as conn:
        tables = table_sizes(conn)
        of_bars = shares(conn, tables)
        market = database_bytes(conn)
    with closing(connect(databases.dagster_url)) as conn:
        dagster = database_bytes(conn)
    free = shutil.disk_usage(databases.home).free if databases.embedded else None
    by_symbol = dict(_summed((share.symbol, share) for share in of_bars).most_common(_MOST_SYMBOLS))
    by_timeframe = _summed((share.timeframe, share) for share in of_bars)
    estimate = _two_years(utc_now().date())
    if json:
        print_json(
            {
                "tables": [asdict(table) for table in tables],
                "timeframes": by_timeframe,
                "symbols": by_symbol,
                "market_bytes": market,
                "dagster_bytes": dagster,
                "free_bytes": free,
                "min_free_gb": environment.settings.min_free_gb,
                "two_years_bytes": estimate,
            }
        )
        return
    if market >= _MEGABYTE:
        _show("table, with its indexes", {t.table: t.bytes for t in tables if t.bytes >= _MEGABYTE / 10})
    _show("bars and features", {t: by_timeframe[t] for t in TIMEFRAMES if by_timeframe[t]})
    _show("largest symbols", by_symbol)
    out.print(f"bars' database: {_mb(market)}; Dagster's: {_mb(dagster)}")
    if free is not None:
        floor = environment.settings.min_free_gb
        out.print(f"free at {databases.home}: {free / GB:,.1f} GB; writing stops below {floor:g} GB")
    out.print(
        f"{_YEARS} years of one more stock: at most {_mb(estimate['1m'])} for minutes, pre- and post-market included,"
        f" and all that derives from them; {_mb(estimate['1d'])} for days"
    )


def _summed(pairs: Iterable[tuple[str, Share]]) -> Counter[str]:
    """Bytes by name."""
    total: Counter[str] = Counter()
    for name, share in pairs:
        total[name] += share.bytes
    return total


def _two_years(today: date) -> dict[str, int]:
    """Bytes by base timeframe, of a stock on the New York Stock Exchange."""
    sessions = load_sessions("XNYS", horizon(today))
    rows = sessions.rows_between(today - timedelta(days=365 * _YEARS), today)
    count = rows.stop - rows.start
    return {base: int(count * rows_per_session(sessions, base) * BYTES_PER_BAR[base]) for base in BASES}


def _show(title: str, sizes: dict[str, int]) -> None:
    if not sizes:
        return
    table = Table(title, "size", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, count in sizes.items():
        table.add_row(name, _mb(count))
    out.print(table)
    out.print()


def _mb(count: int) -> str:
    return f"{count / _MEGABYTE:,.1f} MB"
