"""`gap_sensor`: looks every minute for what lacks bars and is due for an attempt, and for partitions whose colour is
not what the tables say, and starts the few runs that put both right.

The runs are of the job `repair_gaps`, with their ranges as config, not runs over a range of partition keys: such a
range is a rectangle of symbols and dates, so gaps here and there would take a run each, and each would ask by itself
for what one request brings. A run announces the partitions it takes, so Dagster shows them under way, then green or
red, as it does for any other; and whoever starts runs reads from the config which partitions it may take.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from backfill_pipeline.domain.grain import Period, periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.repairing import Limits, Observation, Place, Plan, Slot, Stretch, plan_runs
from backfill_pipeline.domain.timeframe import CHAINS
from backfill_pipeline.steps.ranges import as_ranges
from backfill_pipeline.steps.repair import due_repairs
from backfill_pipeline.steps.task import Task
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import list_symbols

from .comparing import candidates, compared
from .in_flight import Unfinished, in_flight, unfinished
from .nightly import JOB as NIGHT
from .partitions import symbol_dimension
from .repair import JOB
from .resources import USER_ERRORS, Pipeline
from .running import PRIORITY_TAG
from .sensor_cursor import Cursor

_LIMITS = Limits()
# Seconds between two looks.
_INTERVAL = 60


def gap_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="gap_sensor",
        job_name=JOB,
        minimum_interval_seconds=_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks again for gaps whose next attempt has come and for sessions that have become due, and puts"
        " partitions right whose colour is not what the tables say.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.SensorResult | dg.SkipReason:
        cursor = Cursor.read(context.cursor, time.time())
        try:
            with pipeline.open("repair") as warehouse:
                now = warehouse.now()
                found = unfinished(context.instance, warehouse)
                if night := _night_to_come(context.instance, found):
                    return dg.SkipReason(f"the night's run {night} has not said yet what it is at")
                seen = observe(context.instance, pipeline, warehouse, found, cursor)
        except (*USER_ERRORS, psycopg2.Error, SQLAlchemyError, dg.DagsterError) as error:
            line = str(error).strip().partition("\n")[0]
            return dg.SkipReason(f"nothing is known of gaps, because something could not be read: {line}")
        plan = plan_runs(seen, _LIMITS)
        cursor.note_asked(now, (stretch for run in plan.repairs for stretch in run))
        cursor.put_off((left.slot.place, left.slot.period) for left in plan.unverified)
        hour = f"{now:%Y-%m-%dT%H}"
        requests = [
            *(_request(run, hour, verify=False) for run in plan.repairs),
            *(_request(run, hour, verify=True) for run in plan.verifications),
        ]
        for line in _left(plan):
            context.log.info(line)
        skipped = None if requests else "; ".join(["nothing to ask for, and no colour to put right", *_left(plan)])
        return dg.SensorResult(run_requests=requests, skip_reason=skipped, cursor=cursor.text())

    return sensor


def observe(
    instance: dg.DagsterInstance, pipeline: Pipeline, warehouse: Warehouse, found: Unfinished, cursor: Cursor
) -> Observation:
    """Everything a plan rests on; moves the cursor. Raises one-line errors, psycopg2's, SQLAlchemy's and Dagster's."""
    known = _known(instance, warehouse)
    due = [slot for one in due_repairs(warehouse, pipeline.starts) for slot in one.slots if slot.place in known]
    happened = {
        place: {p: lacks for p, lacks in periods.items() if p.first >= pipeline.starts[place[1]]}
        for place, periods in candidates(instance, warehouse, cursor, time.time()).items()
        if place in known
    }
    spans = _spans(warehouse, due, happened)
    busy: dict[Place, dict[Period, str]] = {}
    resting: dict[Place, dict[Period, str]] = {}
    rests = cursor.resting(warehouse.now())
    for place, span in spans.items():
        chain = next(chain for chain in CHAINS if chain.name == place[1])
        held = in_flight(instance, warehouse, Task(known[place], chain, span), found)
        busy[place] = dict.fromkeys(held.queued, "a run waits for it") | dict.fromkeys(held.running, "a run is at it")
        mine = [stretch for stretch in rests if stretch.place == place]
        resting[place] = {p: "asked for within the hour" for p in span if any(s.holds(p) for s in mine)}
    stale = compared(instance, warehouse, known, happened, busy, cursor)
    return Observation(due, stale, busy, resting)


def _night_to_come(instance: dg.DagsterInstance, found: Unfinished) -> str | None:
    """The id of a night's run that may still take any partition; once at work, it has announced its own."""
    for run in found.queued:
        if run.job_name == NIGHT:
            return run.run_id
    nights = [run for run in found.running if run.job_name == NIGHT]
    return next((run.run_id for run in nights if not found.announced_by(instance, run)), None)


def _known(instance: dg.DagsterInstance, warehouse: Warehouse) -> dict[Place, Instrument]:
    """Followed symbols, in the chains that they are partitions of."""
    with warehouse.conn:
        followed = {r.instrument.symbol: r.instrument for r in list_symbols(warehouse.conn) if r.active}
    return {
        (symbol, chain.name): followed[symbol]
        for chain in CHAINS
        for symbol in instance.get_dynamic_partitions(symbol_dimension(chain))
        if symbol in followed
    }


def _spans(
    warehouse: Warehouse, due: Iterable[Slot], happened: Mapping[Place, Mapping[Period, bool | None]]
) -> dict[Place, tuple[Period, ...]]:
    """By place, every partition from the first to the last that is spoken of."""
    spoken: dict[Place, set[Period]] = {place: set(periods) for place, periods in happened.items() if periods}
    for slot in due:
        spoken.setdefault(slot.place, set()).add(slot.period)
    grains = {chain.name: warehouse.grain(chain) for chain in CHAINS}
    return {
        place: tuple(periods_between(min(periods).first, max(periods).last, grains[place[1]]))
        for place, periods in spoken.items()
    }


def _request(run: Sequence[Stretch], hour: str, *, verify: bool) -> dg.RunRequest:
    """The key holds every range with its attempt, and the hour: Dagster starts nothing twice for one key, ever."""
    kind, more = ("verify" if verify else "repair"), f" and {len(run) - 1} more" if len(run) > 1 else ""
    digest = hashlib.sha256("; ".join(map(str, run)).encode()).hexdigest()[:12]
    config = {"ranges": as_ranges(run), "verify": verify}
    return dg.RunRequest(
        run_key=f"{kind} {run[0]}{more} {hour} {digest}",
        run_config={"ops": {JOB: {"config": config}}},
        tags={PRIORITY_TAG: "repair"},
    )


def _left(plan: Plan) -> list[str]:
    """What waits, by reason."""
    return [
        f"{count} partition{'s' * (count > 1)} left: {why}"
        for why, count in sorted(Counter(left.why for left in plan.left).items())
    ]
