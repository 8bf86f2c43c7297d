"""What every step needs: a connection, the providers, the time, and how partitions are cut. No Dagster, no settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.bars import Micros
from backfill_pipeline.domain.grain import Grain
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.overrides import without
from backfill_pipeline.domain.sessions import Sessions, horizon, load_sessions
from backfill_pipeline.domain.timeframe import Chain
from backfill_pipeline.providers.router import Route, Router
from backfill_pipeline.storage.calendars import store_sessions
from backfill_pipeline.storage.overrides import closed_days

from .disk import Disk


@dataclass(frozen=True)
class Warehouse:
    """`conn`: one connection, used by one thread, search_path on `market`. `now`: aware, UTC. `disk`: where the
    server's data are, if that is on this machine.
    """

    conn: Connection
    router: Router
    now: Callable[[], datetime]
    intraday_grain: Grain = "day"
    daily_grain: Grain = "month"
    disk: Disk | None = None
    _sessions: dict[str, Sessions] = field(default_factory=dict, repr=False)

    def grain(self, chain: Chain) -> Grain:
        return self.intraday_grain if chain.base == "1m" else self.daily_grain

    def sessions(self, calendar: str) -> Sessions:
        """The calendar less the days closed by hand, and the same in the database so that SQL can count. One for the
        warehouse's life: places of sessions stay what they are over New Year.
        """
        if calendar not in self._sessions:
            closed = closed_days(self.conn, calendar)
            sessions = without(load_sessions(calendar, horizon(self.now().date())), closed)
            store_sessions(self.conn, sessions)
            self._sessions[calendar] = sessions
        return self._sessions[calendar]

    def subject(self, instrument: Instrument, chain: Chain) -> Subject:
        sessions = self.sessions(instrument.calendar)
        return Subject(instrument, chain, sessions, self.router.route(instrument, chain.base, sessions))


@dataclass(frozen=True, eq=False)
class Subject:
    """One instrument's chain, and who serves it as far as is known by now: what a step works on."""

    instrument: Instrument
    chain: Chain
    sessions: Sessions
    route: Route

    def rows_of(self, ts: Micros) -> npt.NDArray[np.int64]:
        """The session row of each base bar."""
        parts = self.sessions.parts
        return parts.row[parts.locate(ts)] if self.chain.base == "1m" else self.sessions.row_of(ts)
