"""The steps of a run, called as functions, in a process without Dagster: SYMBOL FIRST LAST."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import date

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.grain import periods_between
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.settings import load_settings
from backfill_pipeline.steps.backfill import run_tasks
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.symbols import get_instruments


def main(symbol: str, first: date, last: date) -> None:
    with Pipeline(load_settings()).open() as warehouse:
        with warehouse.conn:
            instrument = get_instruments(warehouse.conn, [symbol])[symbol]
        task = Task(instrument, INTRADAY, tuple(periods_between(first, last, "day")))
        states = Counter(outcome.state for _, outcome in run_tasks(warehouse, [task], Work()))
    assert set(states) == {"complete"}, states


if __name__ == "__main__":
    main(sys.argv[1], *map(date.fromisoformat, sys.argv[2:]))
