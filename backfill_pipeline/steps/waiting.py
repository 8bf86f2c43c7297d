"""What of a task has not been told yet: partitions that wait for sessions, and what was said of these meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.sessions import Sessions

from .ingest import Note
from .warehouse import Subject

# Partitions further apart, in days, are read back separately.
_NEAR = 14


class Notes(list[Note]):
    """Lines about stretches of sessions."""

    def of(self, subject: Subject, periods: Sequence[Period]) -> dict[Period, list[str]]:
        """By period, those on any of its sessions, each once."""
        found = {}
        for period in periods:
            rows = subject.sessions.rows_between(period.first, period.last)
            found[period] = list(
                dict.fromkeys(line for low, high, line in self if low < rows.stop and high >= rows.start)
            )
        return found


class Waiting:
    """`periods`: the partitions that have not been told, ascending."""

    def __init__(self, periods: Iterable[Period]) -> None:
        self.periods = sorted(periods)

    def take(self, sessions: Sessions, is_open: npt.NDArray[np.bool_]) -> list[list[Period]]:
        """Partitions that wait for nothing, which are told now. `is_open`: per session, whether it is waited for.

        They come in runs that follow one another but for what was told already: each run is read back at once.
        Weekends and holidays are told with a neighbour.
        """
        before = np.concatenate([[0], np.cumsum(is_open)])
        runs: list[list[Period]] = []
        trading, ended = False, True
        for period in self.periods:
            rows = sessions.rows_between(period.first, period.last)
            if before[rows.stop] != before[rows.start]:
                if runs and not ended and not trading:
                    runs.pop()
                ended = True
                continue
            if ended or (period.first - runs[-1][-1].last).days > _NEAR:
                runs.append([])
                trading = ended = False
            runs[-1].append(period)
            trading |= rows.stop > rows.start
        if runs and not trading and not ended and len(runs[-1]) < len(self.periods):
            runs.pop()
        told = {period for run in runs for period in run}
        self.periods = [period for period in self.periods if period not in told]
        return runs
