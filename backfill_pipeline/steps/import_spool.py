"""A file's rows by symbol and half year, in a temporary folder: files may hold any order, and more than fits memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.bars import Bars, make_bars
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Base

from .job import CHUNK_MONTHS

_ROW = np.dtype(
    [("ts", "i8"), *((name, "f8") for name in ("open", "high", "low", "close", "volume", "vwap")), ("trades", "i8")]
)


class Spool:
    """64 bytes a row. `sessions`: of a symbol; raises for one that is not known."""

    def __init__(self, folder: Path, base: Base, sessions: Callable[[str], Sessions]) -> None:
        self._folder = folder
        self._months = CHUNK_MONTHS[base]
        self.sessions = sessions
        self._places: dict[str, int] = {}
        self.rows = 0

    @property
    def symbols(self) -> list[str]:
        """In the order in which they came."""
        return list(self._places)

    def add(self, symbol: str, bars: Bars) -> None:
        """Rows of one symbol, in any order."""
        place = self._places.setdefault(symbol, len(self._places))
        rows = np.empty(len(bars), dtype=_ROW)
        for name in _ROW.names or ():
            rows[name] = getattr(bars, name)
        self.rows += len(rows)
        chunk = self._chunk_of(bars.ts, self.sessions(symbol))
        folder = self._folder / str(place)
        folder.mkdir(exist_ok=True)
        for number in np.unique(chunk).tolist():
            with (folder / f"{number:06}").open("ab") as file:
                file.write(rows[chunk == number].tobytes())

    def chunks(self, symbol: str) -> Iterator[Bars]:
        """Its rows, ascending by half year (of days: all at once), within each sorted by ts."""
        for file in sorted((self._folder / str(self._places[symbol])).iterdir()):
            rows = np.fromfile(file, dtype=_ROW)
            columns = [np.ascontiguousarray(rows[name]) for name in _ROW.names or ()]
            yield make_bars(*columns).sorted()

    def _chunk_of(self, ts: npt.NDArray[np.int64], sessions: Sessions) -> npt.NDArray[np.int64]:
        """By the session whose day, or the closed days after it, hold each ts: a session is never cut."""
        row = np.maximum(np.searchsorted(sessions.day_start, ts, side="right") - 1, 0)
        months = sessions.session[row].astype("datetime64[M]").astype(np.int64)
        chunk: npt.NDArray[np.int64] = (months + 12_000) // self._months  # 12,000: never negative, and sorts as text
        return chunk
