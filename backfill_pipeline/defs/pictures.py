"""Pictures on what a run records last: which partition carries them, and what they show. How they look is in steps."""

from collections.abc import Collection, Iterator
from typing import Literal

import dagster as dg

from backfill_pipeline.domain.timeframe import Chain, Timeframe
from backfill_pipeline.steps.bar_picture import bar_picture, shown_window
from backfill_pipeline.steps.completeness_picture import as_markdown
from backfill_pipeline.steps.feature_picture import SHOWN, feature_picture
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.bars import read_bars
from backfill_pipeline.storage.features import read_features
from backfill_pipeline.storage.rows import Key

Finished = tuple[Task, PartitionOutcome]
Kind = Literal["bars", "features"]


class LastWord:
    """Keeps back, of each chain, the newest complete partition with bars since the last release.

    Dagster's page of an asset shows what was recorded last: what is kept back until a run's end is where a picture is
    seen, once a run and asset however many partitions it has.
    """

    def __init__(self) -> None:
        self.kept: dict[Chain, Finished] = {}

    def keep(self, task: Task, outcome: PartitionOutcome) -> Finished | None:
        """Keep a complete partition back; returns the one that is to be recorded instead, if any."""
        kept = self.kept.get(task.chain)
        if kept is not None and _rank(*kept) >= _rank(task, outcome):
            return task, outcome
        self.kept[task.chain] = task, outcome
        return kept

    def release(self) -> list[Finished]:
        """Everything that was kept back."""
        released = list(self.kept.values())
        self.kept.clear()
        return released


def _rank(task: Task, outcome: PartitionOutcome) -> tuple[bool, str]:
    return outcome.bars[task.chain.base].rows > 0, outcome.period.last.isoformat()


def pictures(
    warehouse: Warehouse, finished: Finished, timeframe: Timeframe, kinds: Collection[Kind]
) -> Iterator[tuple[Kind, dg.MetadataValue]]:
    """The picture of each of `kinds`, as Markdown of under 30 kB; none where no bars are stored. 12 ms each."""
    if not kinds:
        return
    task, outcome = finished
    window = shown_window(warehouse.sessions(task.instrument.calendar), timeframe, outcome.period)
    key = Key(task.instrument.symbol_id, timeframe, window)
    with warehouse.conn as conn:
        bars = read_bars(conn, key, regular_only=True)
        values = read_features(conn, key, bars.ts, SHOWN)
    if not len(bars):
        return
    if "bars" in kinds:
        yield "bars", _markdown(bar_picture(outcome.symbol, timeframe, bars), f"bars_{timeframe}")
    if "features" in kinds:
        png = feature_picture(outcome.symbol, timeframe, bars.ts, bars.close, values)
        yield "features", _markdown(png, f"features_{timeframe}")


def _markdown(png: bytes, text: str) -> dg.MetadataValue:
    return dg.MetadataValue.md(as_markdown(png, text))
