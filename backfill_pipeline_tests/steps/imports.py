"""Files of bars for tests, and taking them into a warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from backfill_pipeline.steps.import_bars import Found, read_file, store, survey
from backfill_pipeline.steps.import_request import ImportRequest, parse_import
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline_tests.steps.warehouses import query, regular_minutes, row_of

DAYS = [date(2024, 5, day) for day in (6, 7, 8)]
LATER = datetime(2024, 6, 20, 12, tzinfo=UTC)
NAMES = ["ts", "open", "high", "low", "close", "volume", "vwap", "trades"]


def minutes(days: list[date] = DAYS) -> pd.DataFrame:
    rows = [(ts, *row_of(ts)) for day in days for ts in regular_minutes(day)]
    return pd.DataFrame(rows, columns=NAMES)


def save(folder: Path, frame: pd.DataFrame, name: str = "mine.csv") -> Path:
    path = folder / name
    frame.to_csv(path, index=False)
    return path


def request(path: Path, base: str = "1m", **said: Any) -> ImportRequest:
    return parse_import(path, timeframe=base, adjusted="none", **({"symbol": "ABC"} | said))


def look(warehouse: Warehouse, wish: ImportRequest) -> list[Found]:
    with spooled(warehouse, wish) as spool:
        return survey(warehouse, wish, spool)


def take(warehouse: Warehouse, wish: ImportRequest) -> list[Found]:
    with spooled(warehouse, wish) as spool:
        survey(warehouse, wish, spool)
        return store(warehouse, wish, spool, Work())


@contextmanager
def spooled(warehouse: Warehouse, wish: ImportRequest) -> Iterator[Any]:
    folder = wish.path.parent / f"spool-{len(list(wish.path.parent.iterdir()))}"
    folder.mkdir()
    yield read_file(warehouse, wish, folder)


def contents(warehouse: Warehouse) -> dict[str, int]:
    tables = ("bars", "features", "coverage", "wanted", "session_status", "quarantine", "served")
    return {name: int(str(query(warehouse, f"SELECT count(*) FROM {name}")[0][0])) for name in tables}
