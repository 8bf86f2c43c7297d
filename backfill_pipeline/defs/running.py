"""Runs tasks inside a Dagster step: records what is complete, takes back what is not due, fails for what is missing."""

import time
from collections.abc import Collection, Iterable, Sequence

import dagster as dg

from backfill_pipeline.domain.timeframe import Chain, Timeframe
from backfill_pipeline.steps.backfill import Task, run_task
from backfill_pipeline.steps.outcomes import PartitionOutcome
from backfill_pipeline.steps.summary import Summary
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.steps.window import Work

from .bookkeeping import Context, Recorder, forget_plans
from .partitions import key_of
from .resources import Pipeline

# A person reading the log or looking at the partitions sees news this often, in seconds.
_NEWS = 5.0
_MOST_LINES = 50


def bars_asset(timeframe: Timeframe) -> str:
    return f"bars_{timeframe}"


def features_asset(timeframe: Timeframe) -> str:
    return f"features_{timeframe}"


def asset_names(chain: Chain) -> list[str]:
    """Every asset of a chain, bars before features."""
    return [bars_asset(t) for t in chain.timeframes] + [features_asset(t) for t in chain.timeframes]


class _Ledger:
    """What a run says of its partitions, while it goes on and at the end."""

    def __init__(self, context: Context, pipeline: Pipeline, recorder: Recorder) -> None:
        self._context = context
        self._pipeline = pipeline
        self._recorder = recorder
        self._spoke = time.monotonic()
        self.bad: list[str] = []
        self.unsettled: dict[str, list[str]] = {}
        self.seen = 0

    def note(self, chain: Chain, outcome: PartitionOutcome, assets: Collection[str]) -> None:
        self.seen += 1
        key = key_of(outcome.symbol, outcome.period)
        if outcome.state == "complete":
            for timeframe in chain.timeframes:
                pairs = ((bars_asset(timeframe), outcome.bars), (features_asset(timeframe), outcome.features))
                for asset, summaries in pairs:
                    if asset in assets:
                        self._recorder.record(asset, key, _metadata(summaries[timeframe], outcome.message))
        elif outcome.state == "incomplete":
            self.bad.append(outcome.message)
        else:
            for asset in assets:
                self.unsettled.setdefault(asset, []).append(key)
            if sum(map(len, self.unsettled.values())) <= _MOST_LINES * len(assets):
                self._context.log.info(outcome.message)
        if self._pipeline.listener is not None:
            self._pipeline.listener.outcome(chain, outcome)
        if time.monotonic() - self._spoke > _NEWS:
            self._recorder.flush()
            self._context.log.info(f"{self.seen} partitions done, now at {outcome.symbol} {outcome.period.key}")
            self._spoke = time.monotonic()


def _metadata(summary: Summary, message: str) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {"dagster/partition_row_count": dg.MetadataValue.int(summary.rows)}
    metadata["rows"] = dg.MetadataValue.int(summary.rows)
    if summary.first is not None and summary.last is not None:
        metadata["first_ts"] = dg.MetadataValue.text(f"{summary.first:%Y-%m-%d %H:%MZ}")
        metadata["last_ts"] = dg.MetadataValue.text(f"{summary.last:%Y-%m-%d %H:%MZ}")
        metadata["segments"] = dg.MetadataValue.text(" ".join(f"{k}={v}" for k, v in sorted(summary.segments.items())))
    if summary.provider:
        metadata["provider"] = dg.MetadataValue.text(summary.provider)
    if message:
        metadata["note"] = dg.MetadataValue.text(message)
    return metadata


def run_tasks(
    context: Context,
    pipeline: Pipeline,
    warehouse: Warehouse,
    tasks: Iterable[tuple[Task, Sequence[str]]],
    bad: Sequence[str] = (),
) -> Work:
    """Run each task and record the partitions it completes for its assets. Raises dagster's Failure at the very end,
    naming the partitions with missing bars; `bad`: failures known before.
    """
    work = Work()
    with Recorder(context) as recorder:
        ledger = _Ledger(context, pipeline, recorder)
        ledger.bad += bad
        for task, assets in tasks:
            before = ledger.seen
            for outcome in run_task(warehouse, task, work):
                ledger.note(task.chain, outcome, assets)
            context.log.info(
                f"{task.instrument.symbol} {task.chain.name}: {ledger.seen - before} partitions,"
                f" {work.asked} requests, {work.received} bars received, {work.written} written so far"
            )
    if pipeline.listener is not None:
        pipeline.listener.finished(work)
    if ledger.unsettled:
        forget_plans(context, ledger.unsettled)
    if ledger.bad:
        raise _failure(ledger.bad, ledger.seen)
    return work


def _failure(bad: Sequence[str], seen: int) -> dg.Failure:
    shown = "; ".join(bad[:_MOST_LINES])
    more = f"; and {len(bad) - _MOST_LINES} more" if len(bad) > _MOST_LINES else ""
    return dg.Failure(
        description=f"{len(bad)} of {max(seen, len(bad))} partitions are not complete: {shown}{more}",
        metadata={"incomplete": dg.MetadataValue.json(list(bad[:1000]))},
        allow_retries=False,
    )
