"""Once a month some final sessions are asked for again: does the provider still say what it said?

The order of a night: `take_sample` where `resample_due`, the run that asks for all that is open, `sample_news`.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from math import ceil

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.storage.samples import Asked, draw, final_sessions, is_drawn, settle

from .warehouse import Warehouse

logger = logging.getLogger(__name__)

# One of so many final sessions of each provider, and of all together so many a month: each may cost a request, of which
# the free plan has five a minute.
_ONE_IN = 100
_MOST = 20


def choose(sessions: Sequence[Asked], month: date) -> list[Asked]:
    """The month's sample: of each provider's sessions 1 % and at least one, of all at most 20; no order matters.

    The same for the same sessions and month, whoever draws it and whenever. Where 20 are too few, every provider has
    its first before any has its second; beyond 20 providers, which of them is left to chance.
    """
    chance = random.Random(month.isoformat())  # noqa: S311  (a sample, no secret)
    by_provider: dict[str, list[Asked]] = defaultdict(list)
    for one in sorted(sessions):
        by_provider[one.provider].append(one)
    ranked: list[tuple[int, float, Asked]] = []
    for mine in by_provider.values():
        drawn = chance.sample(mine, ceil(len(mine) / _ONE_IN))
        ranked += [(min(place, 1), chance.random(), one) for place, one in enumerate(drawn)]
    return [one for _, _, one in sorted(ranked)[:_MOST]]


def resample_due(conn: Connection, now: datetime) -> bool:
    """Whether the month of `now` (UTC) has no sample yet."""
    return not is_drawn(conn, _month(now))


def take_sample(warehouse: Warehouse) -> int:
    """Draw the month's sample, so that the next run asks for its sessions again; commits. Their number: none where the
    month has its sample already, or nothing is final yet.
    """
    conn, now = warehouse.conn, warehouse.now()
    with conn:
        if not resample_due(conn, now):
            return 0
        chosen = choose(final_sessions(conn), _month(now))
        draw(conn, _month(now), chosen, now)
    return len(chosen)


def sample_news(warehouse: Warehouse) -> list[str]:
    """A line for each sampled session that has been asked for again and is not what it was; each once; logged."""
    with warehouse.conn:
        settled = settle(warehouse.conn)
    lines = [
        f"{d.symbol} {d.timeframe} {d.session}: asked for again, {d.provider} has {d.bars} bars otherwise than before;"
        " the new ones are stored, the old ones are in bar_revisions"
        for d in settled
        if d.bars
    ]
    for line in lines:
        logger.warning(line)
    return lines


def _month(now: datetime) -> date:
    return now.date().replace(day=1)
