"""Runs tasks inside a Dagster step: records what is complete, takes back what is not due, fails for what is missing."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import dagster as dg
import psycopg2

from backfill_pipeline.domain.completeness import State
from backfill_pipeline.domain.timeframe import Chain, Timeframe
from backfill_pipeline.providers.budget import PRIORITIES, Priority
from backfill_pipeline.steps.backfill import run_tasks as run_all
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.progress import Known, Progress
from backfill_pipeline.steps.run import Done
from backfill_pipeline.steps.run_table import RunCounts
from backfill_pipeline.steps.summary import Summary
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work
from backfill_pipeline.storage.lost import LostDatabaseError

from .bookkeeping import Context, Recorder, forget_plans, keep_statuses
from .job_progress import ended_last, followed
from .partitions import chain_partitions, key_of
from .pictures import Finished, Kind, LastWord, pictures
from .resources import USER_ERRORS, Pipeline
from .stamp import kept_in_step

# Who starts a run says with this tag how urgent its requests are: nightly, repair or backfill.
PRIORITY_TAG = "backfill/priority"

# A person reading the log or looking at the partitions sees news this often, in seconds.
_NEWS = 5.0
_MOST_LINES = 50

# Fewer new partitions than this are counted at 0.02 ms an asset each, by whoever looks next.
_MANY = 200

# How often a step starts again after losing the database: each time the database was up in between.
_AGAIN = 5


def bars_asset(timeframe: Timeframe) -> str:
    return f"bars_{timeframe}"


def features_asset(timeframe: Timeframe) -> str:
    return f"features_{timeframe}"


def asset_names(chain: Chain) -> list[str]:
    """Every asset of a chain, bars before features."""
    return [bars_asset(t) for t in chain.timeframes] + [features_asset(t) for t in chain.timeframes]


def priority_of(context: Context) -> Priority:
    """How urgent a run's requests are, by its tag; a person's backfill where it has none."""
    return next((known for known in PRIORITIES if known == context.run.tags.get(PRIORITY_TAG)), "backfill")


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Around all that a run does: a person's mistake ends the step as Dagster's Failure with that line, a database that
    went away starts it again.
    """
    try:
        with ended_last():
            yield
    except LostDatabaseError as error:
        raise dg.RetryRequested(max_retries=_AGAIN) from error
    except USER_ERRORS as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def run_tasks(
    context: Context,
    pipeline: Pipeline,
    warehouse: Warehouse,
    tasks: Sequence[Task],
    assets: Callable[[Chain], Sequence[str]] = asset_names,
    refused: Sequence[str] = (),
    whole: Sequence[Task] = (),
    known: Sequence[Known] = (),
    through: Callable[[Warehouse, Sequence[Task], Work], Iterator[Done]] = run_all,
) -> None:
    """Run the tasks and record the partitions they complete for the `assets` of their chain. Raises dagster's Failure
    at the very end, naming the partitions with missing bars and what was `refused` before anything ran.

    For the job's progress: the `whole` that the tasks are a part of, prepared, and what was `known` to need nothing.
    `through`: what works through the tasks.
    """
    work = Work()
    with (
        kept_in_step(context, warehouse),
        followed(context, warehouse, [*tasks, *whole], known, work) as progress,
        _interrupts_seen(),
    ):
        ledger = _Ledger(context, pipeline, warehouse, work, assets)
        _run_tasks(ledger, through(warehouse, tasks, work), progress)
        ledger.count()
        ledger.close(refused)


@contextmanager
def _interrupts_seen() -> Iterator[None]:
    """A signal that comes while rows are copied reaches us as the database's error, which would be a failure."""
    try:
        yield
    except psycopg2.errors.QueryCanceled as error:
        if "Interrupt" in str(error):
            raise dg.DagsterExecutionInterruptedError from None
        raise


def _run_tasks(ledger: "_Ledger", done: Iterator[Done], progress: Progress | None) -> None:
    shown: dict[str, dg.MetadataValue] = {}
    try:
        with Recorder(ledger.context) as recorder:
            try:
                for task, outcome in done:
                    ledger.note(recorder, task, outcome)
                    if progress is not None:
                        progress.heard(task.chain, outcome)
                shown = ledger.pictures(ledger.kept)
            finally:  # what is complete is recorded, with a picture or without
                ledger.release(recorder, shown)
    finally:  # whatever ended the run, nobody may read a partition that is not due as a failed one
        ledger.settle()


class _Ledger:
    """What a run says of its partitions, while it goes on and at the end."""

    def __init__(
        self,
        context: Context,
        pipeline: Pipeline,
        warehouse: Warehouse,
        work: Work,
        assets: Callable[[Chain], Sequence[str]],
    ) -> None:
        self.context = context
        self._work = work
        self._pipeline = pipeline
        self._warehouse = warehouse
        self._assets = assets
        self._spoke = time.monotonic()
        self._states: Counter[State] = Counter()
        self._symbols = RunCounts()
        self._last = LastWord()
        self._incomplete: list[str] = []
        self._unsettled: dict[str, list[str]] = {}
        self._grey: dict[State, list[str]] = {}

    def counts(self) -> str:
        """`partitions: 12 complete, 2 incomplete`, in the words of `backfill run`."""
        return f"partitions: {', '.join(f'{count} {state}' for state, count in sorted(self._states.items())) or 'none'}"

    def note(self, recorder: Recorder, task: Task, outcome: PartitionOutcome) -> None:
        self._states[outcome.state] += 1
        self._symbols.note(task.chain, outcome.symbol, outcome.state)
        if time.monotonic() - self._spoke > _NEWS:  # before this one is kept back: the last of a run gets the picture
            self._tell(recorder, task.chain, outcome)
        if outcome.state == "complete":
            if (other := self._last.keep(task, outcome)) is not None:
                self._record(recorder, other, {})
        elif outcome.state == "incomplete":
            self._incomplete.append(outcome.message)
        else:
            for asset in self._assets(task.chain):
                self._unsettled.setdefault(asset, []).append(key_of(outcome.symbol, outcome.period))
            self._grey.setdefault(outcome.state, []).append(outcome.message)
        if self._pipeline.listener is not None:
            self._pipeline.listener.outcome(task.chain, outcome, self._work)

    def _tell(self, recorder: Recorder, chain: Chain, outcome: PartitionOutcome) -> None:
        """Partitions turn green as they are done: nothing is kept back for longer than this. `chain`: whose are on."""
        self.release(recorder, self.pictures([other for other in self.kept if other != chain]))
        recorder.flush()
        place = f"{outcome.symbol} {outcome.period.key}"
        self.context.log.info(f"{self.counts()} so far, now at {place}{self._work.to_go}")
        self._tell_grey()
        self._spoke = time.monotonic()

    def _tell_grey(self) -> None:
        """Why partitions got no colour since the last news: a line for each reason."""
        for messages in self._grey.values():
            more = f"; and {len(messages) - 1} more like it" if len(messages) > 1 else ""
            self.context.log.info(f"{messages[0]}{more}")
        self._grey.clear()

    def _record(self, recorder: Recorder, finished: Finished, shown: Mapping[str, dg.MetadataValue]) -> None:
        task, outcome = finished
        for timeframe in task.chain.timeframes:
            pairs = ((bars_asset(timeframe), outcome.bars), (features_asset(timeframe), outcome.features))
            for asset, summaries in pairs:
                if asset in self._assets(task.chain):
                    picture = {"picture": shown[asset]} if asset in shown else {}
                    metadata = _metadata(summaries[timeframe], outcome.message) | picture
                    recorder.record(asset, key_of(outcome.symbol, outcome.period), metadata)

    def release(self, recorder: Recorder, shown: Mapping[str, dg.MetadataValue]) -> None:
        """Record what was kept back. `shown`: by asset, a picture of it."""
        for finished in self._last.release():
            self._record(recorder, finished, shown)

    @property
    def kept(self) -> Sequence[Chain]:
        """Those of which a partition is kept back."""
        return tuple(self._last.kept)

    def pictures(self, chains: Sequence[Chain]) -> dict[str, dg.MetadataValue]:
        """By asset, a picture of what is kept back of these chains."""
        shown: dict[str, dg.MetadataValue] = {}
        for chain in chains:
            finished = self._last.kept[chain]
            for timeframe in chain.timeframes:
                names: dict[Kind, str] = {"bars": bars_asset(timeframe), "features": features_asset(timeframe)}
                kinds = [kind for kind, asset in names.items() if asset in self._assets(chain)]
                shown |= {names[kind]: made for kind, made in pictures(self._warehouse, finished, timeframe, kinds)}
        return shown

    def settle(self) -> None:
        """Whatever ended the run: what is not due yet was never announced."""
        if self._unsettled:
            forget_plans(self.context, self._unsettled)
        if self._pipeline.listener is not None:
            self._pipeline.listener.finished(self._work)

    def count(self) -> None:
        """Have what the UI shows counted now and not while a person waits for a page, unless it is soon done."""
        if self._states["complete"] >= _MANY:
            for chain in self._symbols.chains:
                partitions = chain_partitions(self._pipeline.settings, chain)
                keep_statuses(self.context.instance, self._assets(chain), partitions)

    def close(self, refused: Sequence[str]) -> None:
        """Say what was done. Raises dagster's Failure for what was `refused` and what is missing."""
        work = self._work
        self._tell_grey()
        self.context.log.info(
            f"{self.counts()}; {work.asked} requests, {work.received} bars received, {work.written} written,"
            f" {work.removed} withdrawn; {work.features} rows of features written"
        )
        if refused or self._incomplete:
            raise self.failure(refused)
        for chain in self._symbols.chains:  # in the run's log, and among the events of the base bars
            self.context.log_event(dg.AssetObservation(self._assets(chain)[0], metadata=self._summary(chain)))

    def _summary(self, *chains: Chain) -> dict[str, dg.MetadataValue]:
        tables = [self._symbols.table(chain, self._work) for chain in chains]
        return {"summary": dg.MetadataValue.md("\n\n".join(tables))} if tables else {}

    def failure(self, refused: Sequence[str]) -> dg.Failure:
        lines = [*refused, *self._incomplete]
        bad, total = len(self._incomplete), self._states.total()
        of = f"{bad} of {total} partitions are not complete: " if bad else ""
        more = f"; and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
        return dg.Failure(
            description=f"{of}{'; '.join(lines[:_MOST_LINES])}{more}",
            # Dagster drops the observations of a step that fails: the table stands here instead.
            metadata={
                "incomplete": dg.MetadataValue.json(lines[:1000]),
                "why, and what happens next": dg.MetadataValue.text("backfill gaps"),
                **self._summary(*self._symbols.chains),
            },
            allow_retries=False,
        )


def _metadata(summary: Summary, message: str) -> dict[str, dg.MetadataValue]:
    rows = dg.MetadataValue.int(summary.rows)
    metadata: dict[str, dg.MetadataValue] = {"dagster/partition_row_count": rows, "rows": rows}
    if summary.first is not None and summary.last is not None:
        metadata["first_ts"] = dg.MetadataValue.text(f"{summary.first:%Y-%m-%d %H:%MZ}")
        metadata["last_ts"] = dg.MetadataValue.text(f"{summary.last:%Y-%m-%d %H:%MZ}")
        metadata["segments"] = dg.MetadataValue.text(" ".join(f"{k}={v}" for k, v in sorted(summary.segments.items())))
    if summary.provider:
        metadata["provider"] = dg.MetadataValue.text(summary.provider)
    if message:
        metadata["note"] = dg.MetadataValue.text(message)
    return metadata
