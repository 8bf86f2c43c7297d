"""When base bars count as stale in Dagster's UI: only where somebody wants new ones."""

from contextlib import closing
from datetime import timedelta

import dagster as dg
import psycopg2

from backfill_pipeline.domain.timeframe import Base, Chain
from backfill_pipeline.providers.configured import chosen_names
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.connection import DatabaseError, connect
from backfill_pipeline.storage.coverage import kept_complete
from backfill_pipeline.storage.databases import MARKET
from backfill_pipeline.storage.server import ServerError, ensure_running, status

from .resources import grain_of

# Days from one complete partition to the next: what a partition takes to end, and how long a market pauses. From
# Friday's session over a holiday on Monday to Tuesday's, which comes the night after, it is five.
_ENDS_AFTER = {"day": 0, "week": 7, "month": 31}
_PAUSE = 6


def followed_bases(settings: Settings) -> frozenset[Base]:
    """Base timeframes in which a symbol is followed without an end when the code location loads; none where the
    database cannot be read: loading starts no server and fails for no database. Some 10 ms.
    """
    try:
        url = settings.database_url or _url_of_running(settings)
        if url is None:
            return frozenset()
        with closing(connect(url)) as conn, conn:
            return frozenset(base for _, base in kept_complete(conn))
    except (DatabaseError, ServerError, psycopg2.Error):  # a run says what is wrong with it
        return frozenset()


def _url_of_running(settings: Settings) -> str | None:
    if status(settings.home).state != "running":
        return None
    return ensure_running(settings.home).url(MARKET)


def bars_freshness(settings: Settings, chain: Chain, followed: frozenset[Base]) -> dg.FreshnessPolicy | None:
    """Stale: no partition has become complete for as long as any calendar pauses.

    None where no symbol of the chain is followed without an end: windows that are closed are complete one day, and
    nothing comes after. None with the sample, which ends in the past. Dagster knows only how old an asset's newest
    partition is: that one symbol of many stands still is told by the checks, `backfill matrix` and the digest.
    """
    if chain.base not in followed:
        return None
    try:
        if chosen_names(settings) == ("sample",):
            return None
    except ProviderStopped:  # a run says what is wrong with the setting; loading must not
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(days=_ENDS_AFTER[grain_of(settings, chain)] + _PAUSE))
