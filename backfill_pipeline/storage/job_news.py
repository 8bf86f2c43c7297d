"""What a run tells of a job on its way, in one short transaction: days settled, rows of bars, where it is, how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.timeframe import DAILY, Timeframe, chain_of

from .jobs import Place, as_days

Rows = Mapping[tuple[str, Timeframe], int]


@dataclass
class Settled:
    """Partitions of one symbol's chain that are through. `message`: of the first that is incomplete or not served."""

    complete: list[Period] = field(default_factory=list)
    incomplete: list[Period] = field(default_factory=list)
    message: str | None = None


@dataclass(frozen=True)
class Far:
    """How many of a job's days are settled, by all its runs."""

    settled: int
    target: int


def tell(
    conn: Connection,
    job_id: str,
    settled: Mapping[Place, Settled],
    fetched: Rows,
    inserted: Rows,
    at: Place | None,
    now: datetime,
    ends_at: Callable[[Far], datetime | None],
) -> Far:
    """Add news: days that are settled and rows since the last news. `at`: where the run is. Told twice, a day counts
    once; a day that is complete now is no longer incomplete.
    """
    moved: dict[Place, int] = {}
    for rows in (fetched, inserted):
        for (symbol, timeframe), count in rows.items():
            place: Place = (symbol, chain_of(timeframe).base)
            moved[place] = moved.get(place, 0) + count
    with conn, conn.cursor() as cursor:
        # One run after the other: the rows below are then locked in any order without a deadlock.
        cursor.execute("SELECT FROM backfill_jobs WHERE id = %s FOR UPDATE", (job_id,))
        execute_values(
            cursor,
            "UPDATE backfill_job_days AS d SET settled = d.settled + n.complete + n.incomplete,"
            " incomplete = d.incomplete - n.complete + n.incomplete, moved = d.moved + n.moved,"
            " message = CASE WHEN NOT isempty(d.incomplete - n.complete) THEN d.message"
            "  ELSE coalesce(n.message, CASE WHEN isempty(d.incomplete) THEN d.message END) END"
            " FROM (VALUES %s) AS n (job_id, symbol, timeframe, complete, incomplete, moved, message)"
            " WHERE d.job_id = n.job_id AND d.symbol = n.symbol AND d.timeframe = n.timeframe",
            [_days(job_id, place, settled.get(place, Settled()), moved.get(place, 0)) for place in {*settled, *moved}],
            template="(%s::uuid, %s, %s, %s::datemultirange, %s::datemultirange, %s, %s)",
        )
        execute_values(
            cursor,
            "UPDATE backfill_job_progress AS p SET records_fetched = p.records_fetched + n.fetched,"
            " records_inserted = p.records_inserted + n.inserted"
            " FROM (VALUES %s) AS n (job_id, symbol, timeframe, fetched, inserted)"
            " WHERE p.job_id = n.job_id AND p.symbol = n.symbol AND p.timeframe = n.timeframe",
            [(job_id, *key, fetched.get(key, 0), inserted.get(key, 0)) for key in {*fetched, *inserted}],
            template="(%s::uuid, %s, %s, %s, %s)",
        )
        cursor.execute(
            _STATUS, {"job": job_id, "now": now, "daily": list(DAILY.timeframes), "symbols": _symbols(settled, moved)}
        )
        cursor.execute(
            "SELECT coalesce(sum(settled_days), 0), coalesce(sum(target_days), 0) FROM backfill_job_days"
            " WHERE job_id = %s",
            (job_id,),
        )
        far = Far(*cursor.fetchall()[0])
        pct = 0.0 if not far.target else far.settled * 10_000 // far.target / 100
        cursor.execute(
            "UPDATE backfill_jobs SET progress_pct = greatest(progress_pct, %s),"
            " total_records_fetched = total_records_fetched + %s,"
            " total_records_inserted = total_records_inserted + %s, current_symbol = coalesce(%s, current_symbol),"
            " current_timeframe = coalesce(%s, current_timeframe), estimated_completion_time = %s,"
            " symbols_completed = (SELECT count(*) FROM (SELECT FROM backfill_job_progress WHERE job_id = %s"
            " GROUP BY symbol HAVING bool_and(status IN ('completed', 'skipped'))) AS s) WHERE id = %s",
            (pct, sum(fetched.values()), sum(inserted.values()), *(at or (None, None)), ends_at(far), job_id, job_id),
        )
    return far


# `skipped` it is from the beginning or never: until rows are moved all the same, or a day turns out incomplete.
_STATUS = """
UPDATE backfill_job_progress AS p SET
    status = s.status, error_message = d.message,
    started_at = s.started,
    completed_at = s.completed,
    duration_seconds = extract(epoch FROM s.completed - s.started)
FROM backfill_job_days AS d, backfill_job_progress AS q, LATERAL (
    SELECT CASE WHEN q.status = 'skipped' AND d.moved = 0 AND isempty(d.incomplete) THEN 'skipped'
                WHEN d.settled_days < d.target_days THEN 'running'
                WHEN NOT isempty(d.incomplete) THEN 'failed' ELSE 'completed' END AS status
) AS o, LATERAL (
    SELECT o.status,
           CASE WHEN o.status <> 'skipped' THEN coalesce(q.started_at, %(now)s) END AS started,
           CASE WHEN o.status NOT IN ('skipped', 'running') THEN coalesce(q.completed_at, %(now)s) END AS completed
) AS s
WHERE d.job_id = %(job)s AND d.symbol = ANY(%(symbols)s) AND (d.settled_days > 0 OR d.moved > 0)
  AND q.job_id = d.job_id AND q.symbol = d.symbol AND (q.timeframe = ANY(%(daily)s)) = (d.timeframe = '1d')
  AND p.job_id = q.job_id AND p.symbol = q.symbol AND p.timeframe = q.timeframe
"""


def _days(job_id: str, place: Place, settled: Settled, moved: int) -> tuple[object, ...]:
    return (job_id, *place, as_days(settled.complete), as_days(settled.incomplete), moved, settled.message)


def _symbols(settled: Mapping[Place, Settled], moved: Mapping[Place, int]) -> Sequence[str]:
    return sorted({symbol for symbol, _ in (*settled, *moved)})
