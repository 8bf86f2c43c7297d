"""Partitions that Dagster shows in another colour than the tables say: green and no longer complete, or complete and
not green. Reads only.

Found by what happened since the last look, for a hundred thousand partitions cannot be compared every minute: sessions
that were judged (by runs, a look, a person), and what runs that ended badly had announced.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from backfill_pipeline.domain.completeness import State
from backfill_pipeline.domain.grain import Period, period_of, periods_between
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.repairing import Place, Slot
from backfill_pipeline.domain.timeframe import CHAINS, Chain, chain_of
from backfill_pipeline.steps.ranges import parse_ranges
from backfill_pipeline.steps.task import Task, survey
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.repairs import judged_since

from .bookkeeping import Colour, colours
from .partitions import key_of, split_key
from .run_news import undone
from .running import bars_asset, features_asset
from .sensor_cursor import Cursor

# What one look takes in, of each kind; the next looks take the rest. A thousand partitions cost some 0.1 s.
_MOST_LATER, _MOST_JUDGED, _MOST_RUNS = 1000, 1000, 20
# A judgement may be visible so long after its time stamp.
_LATE = timedelta(minutes=15)
_CHAIN: dict[str, Chain] = {chain.name: chain for chain in CHAINS}
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

# By symbol's chain: partitions to compare, and whether they are known to lack bars.
Candidates = dict[Place, dict[Period, bool | None]]
# The colours of a partition in several assets; None: it has none.
Shown = frozenset[Colour | None]


def candidates(instance: dg.DagsterInstance, warehouse: Warehouse, cursor: Cursor, now: float) -> Candidates:
    """What has happened since the last look; moves the cursor. `now`: seconds since 1970, as Dagster counts."""
    found: Candidates = {}
    later = [
        (stretch.place, period)
        for stretch in parse_ranges(cursor.later)
        for period in periods_between(stretch.first, stretch.last, warehouse.grain(stretch.of_chain))
    ]
    for place, period in later[:_MOST_LATER]:
        found.setdefault(place, {})[period] = None
    cursor.later = []
    cursor.put_off(later[_MOST_LATER:])
    for place, period in _left_undone(instance, warehouse, cursor, now):
        found.setdefault(place, {})[period] = None
    for place, period, is_missing in _judged(warehouse, cursor):
        mine = found.setdefault(place, {})
        mine[period] = mine.get(period, False) or is_missing
    return found


def _left_undone(
    instance: dg.DagsterInstance, warehouse: Warehouse, cursor: Cursor, now: float
) -> Iterator[tuple[Place, Period]]:
    """Partitions that runs had announced: these are red, or without a colour, whatever the tables say."""
    since = datetime.fromtimestamp(cursor.ended - 60, UTC)
    runs = instance.get_runs(dg.RunsFilter(statuses=_ENDED_BADLY, updated_after=since), limit=_MOST_RUNS)
    cursor.ended = now
    for run in runs:
        for name, keys in undone(instance, run.run_id).items():
            for key in keys:
                try:
                    symbol, period = split_key(key, warehouse.grain(_CHAIN[name]))
                except ValueError:
                    continue  # of a grain that was set before
                yield (symbol, _CHAIN[name].name), period


def _judged(warehouse: Warehouse, cursor: Cursor) -> Iterator[tuple[Place, Period, bool]]:
    with warehouse.conn:
        judged = judged_since(warehouse.conn, datetime.fromisoformat(cursor.checked), _MOST_JUDGED)
    until = warehouse.now() - _LATE if len(judged) < _MOST_JUDGED else judged[-1].checked_at
    cursor.checked = max(until, datetime.fromisoformat(cursor.checked)).isoformat()
    for one in judged:
        chain = chain_of(one.timeframe)
        yield (one.symbol, chain.name), period_of(one.session, warehouse.grain(chain)), one.is_missing


def compared(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    known: Mapping[Place, Instrument],
    found: Candidates,
    busy: Mapping[Place, Mapping[Period, str]],
    cursor: Cursor,
) -> list[Slot]:
    """Those to be verified. What runs are at is left in the cursor for later: it is theirs to tell."""
    cursor.put_off((place, p) for place, periods in found.items() for p in periods if p in busy.get(place, {}))
    free = {
        place: {p: lacks for p, lacks in periods.items() if p not in busy.get(place, {})}
        for place, periods in found.items()
    }
    stale: list[Slot] = []
    for chain in CHAINS:
        mine = {place: periods for place, periods in free.items() if place[1] == chain.name and periods}
        for place, shown in _suspicious(instance, chain, mine, warehouse.now().date()).items():
            states = survey(warehouse, Task(known[place], chain, tuple(shown)))
            stale += [Slot(*place, period) for period, state in states.items() if _is_wrong(shown[period], state)]
    return stale


def _suspicious(
    instance: dg.DagsterInstance, chain: Chain, found: Candidates, today: date
) -> dict[Place, dict[Period, Shown]]:
    """Periods whose colours may be wrong, with these. The first and the last asset of the chain speak for all: a run
    records both or neither, unless somebody chose among them.
    """
    assets = [bars_asset(chain.base), features_asset(chain.timeframes[-1])]
    colour = colours(instance, assets, [key_of(place[0], p) for place, periods in found.items() for p in periods])
    suspicious: dict[Place, dict[Period, Shown]] = {}
    for place, periods in found.items():
        for period, lacks in periods.items():
            shown = frozenset(colour.get((asset, key_of(place[0], period))) for asset in assets)
            if (_is_wrong(shown, "incomplete") and lacks is not False) or (
                _is_wrong(shown, "complete") and lacks is not True and period.last < today
            ):
                suspicious.setdefault(place, {})[period] = shown
    return suspicious


def _is_wrong(shown: Shown, state: State) -> bool:
    """What is not complete may be without a colour, and what is in progress have any."""
    return (state == "complete" and shown != {"green"}) or (state == "incomplete" and "green" in shown)
