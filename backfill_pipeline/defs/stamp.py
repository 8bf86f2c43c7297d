"""Whether this database and Dagster's are of the same day: both keep a mark that every run changes before and after its
work. One that was restored, moved or made anew has another mark than its fellow.

What is wrong is told until `reconcile` has put it right; until then the marks stay as they are.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from backfill_pipeline.steps.grains import changed_grains
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.stamps import Stamp, read_stamp, stamp_lock, write_stamp

# In Dagster's table kvs: a list of one mark, or of two while the market database is being given the first of them.
_KEY = "backfill_pipeline/stamp"
DISAGREE = (
    "the bars' database and Dagster's are not of the same day (one was restored, moved or made anew): what partitions"
    " show may be wrong; next: backfill reconcile"
)


def disagreement(instance: dg.DagsterInstance, warehouse: Warehouse) -> str | None:
    """A line if the two databases are not of one day. Reads only, some 3 ms."""
    with stamp_lock(warehouse.conn):
        return None if _agree(read_stamp(warehouse.conn), _theirs(instance)) else DISAGREE


@contextmanager
def kept_in_step(context: dg.AssetExecutionContext | dg.OpExecutionContext, warehouse: Warehouse) -> Iterator[None]:
    """Around what a run writes: the marks change before it and after it, and the run's log has what is wrong."""
    mine = read_stamp(warehouse.conn)
    changed = [] if mine is None else changed_grains(mine, warehouse.intraday_grain, warehouse.daily_grain)
    for line in filter(None, [disagreement(context.instance, warehouse), *changed]):
        context.log.warning(line)
    stamp(context.instance, warehouse)
    try:
        yield
    except dg.Failure:  # it is through, and something is missing; after another error the database may be gone
        stamp(context.instance, warehouse)
        raise
    stamp(context.instance, warehouse)


def stamp(instance: dg.DagsterInstance, warehouse: Warehouse, *, anew: bool = False) -> None:
    """Give both databases a new mark, unless theirs differ. `anew`: partitions have just been brought in line with the
    tables, and with the grains of now: whatever the marks were.
    """
    with stamp_lock(warehouse.conn):
        mine, theirs = read_stamp(warehouse.conn), _theirs(instance)
        if not anew and not _agree(mine, theirs):
            return
        grains = (
            (warehouse.intraday_grain, warehouse.daily_grain)
            if mine is None or anew
            else (mine.intraday_grain, mine.daily_grain)
        )
        new = Stamp(uuid.uuid4().hex, *grains)
        # Killed in between, the market's old mark is still one of Dagster's two.
        _keep(instance, [new.text, *([mine.text] if mine else [])])
        write_stamp(warehouse.conn, new, warehouse.now())
        _keep(instance, [new.text])


def _agree(mine: Stamp | None, theirs: list[str]) -> bool:
    return not theirs if mine is None else mine.text in theirs


def _theirs(instance: dg.DagsterInstance) -> list[str]:
    text = instance.run_storage.get_cursor_values({_KEY}).get(_KEY)
    return list(json.loads(text)) if text else []


def _keep(instance: dg.DagsterInstance, marks: list[str]) -> None:
    instance.run_storage.set_cursor_values({_KEY: json.dumps(marks)})
