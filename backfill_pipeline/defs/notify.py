"""`run_failure_notifier`: failed runs and finished backfills to `BACKFILL_WEBHOOK_URL`, a message each.

Not Dagster's own failure sensor, whose evaluation would wait while a message is tried again: here what was not taken
waits in the cursor, and the next ticks try it.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.delivery import Letter, post, send
from backfill_pipeline.steps.messages import Message

from .intraday import JOB as INTRADAY_JOB
from .resources import Pipeline
from .run_news import backfill_message, failure_message, is_over

# Seconds between two looks; a message is tried four times within about a minute of them.
_INTERVAL = 15
# A run that a morning's digest has told of carries it.
TOLD_TAG = "backfill/told"
# More failures than this at one look are one message.
_MOST_MESSAGES = 5
# Failures that one look takes in; the next takes the rest.
_MOST_EVENTS = 50
# A backfill shows in Dagster's tables this many seconds after its own time stamp, at the latest.
_LATE = 120.0
_OPEN = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING, BulkActionStatus.COMPLETED)


@dataclass
class _State:
    """The cursor. `after`: the last failure seen, an id of the event log. `since`: the last look, seconds since 1970.
    `open`, `told`: ids of backfills. `letters`: on their way.
    """

    after: int
    since: float
    open: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> "_State":
        kept = json.loads(text)
        return cls(**{**kept, "letters": [Letter(**letter) for letter in kept["letters"]]})

    @classmethod
    def begin(cls, instance: dg.DagsterInstance, now: float) -> "_State":
        """What failed before anybody listened is not told; backfills under way are, when they end."""
        last = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
        under_way = instance.get_backfills(filters=BulkActionsFilter(statuses=_OPEN))
        return cls(last[0].storage_id if last else 0, now, [backfill.backfill_id for backfill in under_way])


def run_failure_notifier(settings: Settings) -> dg.SensorDefinition:
    """Running where there is somebody to tell."""
    status = dg.DefaultSensorStatus

    @dg.sensor(
        name="run_failure_notifier",
        minimum_interval_seconds=_INTERVAL,
        default_status=status.STOPPED if settings.webhook_url is None else status.RUNNING,
        description="Tells BACKFILL_WEBHOOK_URL of failed runs, and of backfills once they are over.",
    )
    def notifier(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.SensorResult | dg.SkipReason:
        url = pipeline.settings.webhook_url
        if url is None:
            return dg.SkipReason("BACKFILL_WEBHOOK_URL is not set: nobody to tell")
        now = time.time()
        state = _State.read(context.cursor) if context.cursor else _State.begin(context.instance, now)
        news = _news(context.instance, pipeline.settings, state, now)
        letters = [*state.letters, *(Letter(message.title, message.body()) for message in news)]
        state.letters, lines = post(letters, partial(send, url), now)
        for line in lines:
            context.log.warning(line)
        waiting = f"; {len(state.letters)} wait to be taken by BACKFILL_WEBHOOK_URL" if state.letters else ""
        return dg.SensorResult(skip_reason=f"{len(news)} news{waiting}", cursor=json.dumps(asdict(state)))

    return notifier


def _news(instance: dg.DagsterInstance, settings: Settings, state: _State, now: float) -> list[Message]:
    """What happened since the last look; the state moves on."""
    failures = _failures(instance, settings, state)
    if len(failures) > _MOST_MESSAGES:
        failures = [_together(failures)]
    return [*failures, *_backfills(instance, settings, state, now)]


def _failures(instance: dg.DagsterInstance, settings: Settings, state: _State) -> list[Message]:
    changes = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=state.after)
    found = instance.fetch_run_status_changes(changes, limit=_MOST_EVENTS, ascending=True).records
    messages = []
    for record in found:
        state.after = max(state.after, record.storage_id)
        run = instance.get_run_by_id(record.run_id)
        if run is not None and _is_told(instance, run):
            at = datetime.fromtimestamp(record.timestamp, UTC)
            messages.append(failure_message(instance, settings, run, at))
    return messages


def _is_told(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Not where something else tells: the backfill's end, the run's own retry, the morning. Of the runs of a day that
    follow one another every quarter of an hour, the first that fails speaks for those behind it.
    """
    if "dagster/backfill" in run.tags or TOLD_TAG in run.tags or run.tags.get("dagster/will_retry") == "true":
        return False
    if run.job_name != INTRADAY_JOB:
        return True
    ended = dg.RunsFilter(job_name=INTRADAY_JOB, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
    before = instance.get_runs(ended, cursor=run.run_id, limit=1)
    return not before or before[0].is_success


def _together(failures: list[Message]) -> Message:
    last = failures[-1]
    return Message(
        "run_failure",
        f"{len(failures)} runs failed",
        tuple(f"{one.title} ({one.run_id}): {one.lines[0]}" for one in failures),
        last.at,
        command=last.command,
        symbols=tuple(dict.fromkeys(symbol for one in failures for symbol in one.symbols)),
        failed=tuple(dict.fromkeys(key for one in failures for key in one.failed)),
    )


def _backfills(instance: dg.DagsterInstance, settings: Settings, state: _State, now: float) -> list[Message]:
    new = BulkActionsFilter(created_after=datetime.fromtimestamp(state.since - _LATE, UTC))
    known = {*state.open, *state.told}
    seen = [*state.open, *(b.backfill_id for b in instance.get_backfills(filters=new) if b.backfill_id not in known)]
    state.since, state.open = now, []
    messages = []
    for backfill_id in seen:
        backfill = instance.get_backfill(backfill_id)
        if backfill is None:
            continue
        if is_over(backfill):
            messages.append(backfill_message(instance, settings, backfill))
            state.told.append(backfill_id)
        else:
            state.open.append(backfill_id)
    state.told = state.told[-_MOST_EVENTS:]
    return messages
