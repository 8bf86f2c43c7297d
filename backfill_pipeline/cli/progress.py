"""What a run in this process has done so far: counted, and shown as a bar on a terminal, as lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

import backfill_pipeline
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.window import Work

from .common import err

# Without a terminal, a line this often, in seconds.
_NEWS = 5.0


@dataclass
class Counts:
    """`partitions`: how many of each state. `incomplete`: a line for each partition that lacks bars."""

    partitions: dict[str, int] = field(default_factory=dict)
    incomplete: list[str] = field(default_factory=list)
    asked: int = 0
    bars_received: int = 0
    bars_written: int = 0
    bars_withdrawn: int = 0
    feature_rows_written: int = 0
    not_served: list[str] = field(default_factory=list)


class Progress:
    """Follows a run of `total` partitions in this process, as the pipeline's listener."""

    def __init__(self, counts: Counts, total: int, *, quiet: bool) -> None:
        self._counts = counts
        self._total = total
        self._spoke = time.monotonic()
        self._quiet = quiet
        self._unserved: dict[tuple[str, str], str] = {}
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar, log_shown(quiet=self._quiet):
            yield

    def outcome(self, chain: Chain, outcome: PartitionOutcome, work: Work) -> None:
        counts = self._counts.partitions
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
        if outcome.state == "incomplete":
            self._counts.incomplete.append(outcome.message)
        if outcome.state == "not served":
            self._unserved.setdefault((outcome.symbol, chain.base), outcome.message)
        where = f"{outcome.symbol} {chain.base} {outcome.period.key}"
        done = sum(counts.values())
        self._bar.update(self._task, completed=done, description=f"{where}{work.to_go}")
        if not self._quiet and not err.is_terminal and time.monotonic() - self._spoke > _NEWS:
            err.print(f"{done} of {self._total} partitions, now {where}{work.to_go}")
            self._spoke = time.monotonic()

    def finished(self, work: Work) -> None:
        counts = self._counts
        # Found out on the way: a plan's edge. One line a symbol and chain, with its first such partition.
        counts.not_served += [f"{line} and others" for line in self._unserved.values()]
        counts.asked, counts.bars_received, counts.bars_written = work.asked, work.received, work.written
        counts.bars_withdrawn, counts.feature_rows_written = work.removed, work.features


class _Lines(logging.Handler):
    """Lines of the log on stderr: above the bar on a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(record.getMessage())


@contextmanager
def log_shown(*, quiet: bool) -> Iterator[None]:
    """What the package logs meanwhile, such as waits for a request, is shown to the person who waits."""
    if quiet:
        yield
        return
    # Before Dagster adds its own handler, which rewrites the record's text for the handlers after it.
    log, lines = logging.getLogger(backfill_pipeline.__name__), _Lines(logging.INFO)
    level = log.level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.setLevel(level)
