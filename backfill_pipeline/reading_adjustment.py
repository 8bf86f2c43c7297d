"""Which splits and dividends a read is adjusted by, and adjusting its columns. Arguments and frames: reading.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.adjust import (
    Dividend,
    DividendStep,
    Split,
    apply_factors,
    basis_sessions,
    dividend_factors,
    dividend_steps,
    split_factors,
)
from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.resample import weeks
from backfill_pipeline.domain.sessions import Sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import DAY, Window
from backfill_pipeline.storage.bars import read_bars
from backfill_pipeline.storage.events import read_dividends, read_splits
from backfill_pipeline.storage.frames import Columns, closes_before
from backfill_pipeline.storage.rows import Key

# What every listing that a provider tells dividends of is quoted in.
_CURRENCY = "USD"

# Sessions before an ex-date in which its close is looked for: the last one, unless nothing traded in it.
_CLOSE_WITHIN = 5

# Dividends that a warning names; the others are counted.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Adjustment:
    """What one symbol's columns are adjusted by. `left_out`: None, or a line on the dividends that are not in it."""

    splits: Sequence[Split]
    steps: Sequence[DividendStep]
    left_out: str | None

    def apply(
        self, conn: Connection, instrument: Instrument, columns: Columns, sessions: Sessions, timeframe: Timeframe
    ) -> dict[str, npt.NDArray[Any]]:
        """The columns of bars or features whose values change, adjusted."""
        if not self.splits and not self.steps:
            return {}
        ts = columns["ts"].astype(np.int64)
        adjusted = self._scaled(columns, basis_sessions(ts, sessions, timeframe))
        if timeframe == "1w" and "close" in columns and len(ts):
            # A stored week over an ex-date mixes two bases, which no factor mends.
            days = read_bars(conn, Key(instrument.symbol_id, "1d", Window(int(ts[0]), int(ts[-1]) + 7 * DAY)))
            made = self._weeks(days, sessions)
            _, old, new = np.intersect1d(ts, made.ts, assume_unique=True, return_indices=True)
            for name, values in adjusted.items():
                values[old] = getattr(made, name)[new]
        return adjusted

    def _weeks(self, days: Bars, sessions: Sessions) -> Bars:
        changed = self._scaled(vars(days), basis_sessions(days.ts, sessions, "1d"))
        return weeks(replace(days, **changed), sessions, np.ones(len(sessions), dtype=bool))

    def _scaled(
        self, columns: Mapping[str, npt.NDArray[Any]], days: npt.NDArray[np.datetime64]
    ) -> dict[str, npt.NDArray[Any]]:
        dividends = dividend_factors(days, self.steps) if self.steps else None
        adjusted = apply_factors(columns, split_factors(days, self.splits), dividends)
        return {name: values for name, values in adjusted.items() if values is not columns[name]}


def adjustment(
    conn: Connection,
    instrument: Instrument,
    sessions: Sessions,
    first: date,
    *,
    given: Sequence[Split] | None,
    dividends: bool,
    as_of: date | None,
) -> Adjustment:
    """What adjusts the sessions from `first` on to the basis of `as_of` (None: today, but all of the splits `given`).

    `given` None: the stored accepted splits. `dividends`: whether to adjust by the stored accepted ones, too.
    """
    known = as_of or datetime.now(UTC).astimezone(ZoneInfo(sessions.zone)).date()
    if given is None:
        splits = [split for split in read_splits(conn, instrument.symbol_id) if split.ex_date <= known]
    else:
        splits = [split for split in given if as_of is None or split.ex_date <= as_of]
    if not dividends:
        return Adjustment(splits, (), None)
    paid = [paid for paid in read_dividends(conn, instrument.symbol_id) if first <= paid.ex_date <= known]
    spans = [(one.ex_date, _before(one.ex_date, sessions)) for one in paid]
    closes = closes_before(conn, instrument.symbol_id, spans) if spans else {}
    steps, refused = dividend_steps(paid, closes, splits, _CURRENCY)
    without_close = [one for one in paid if one.ex_date not in closes]
    return Adjustment(splits, steps, _left_out(instrument.symbol, refused, without_close) if refused else None)


def _before(day: date, sessions: Sessions) -> Window:
    """The sessions in which the close before `day` is looked for."""
    row = int(np.searchsorted(sessions.session, np.datetime64(day, "D")))
    return Window(int(sessions.day_start[max(0, row - _CLOSE_WITHIN)]), sessions.days_window(day, day).start)


def _left_out(symbol: str, refused: Sequence[str], without_close: Sequence[Dividend]) -> str:
    more = f", and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    text = f"{symbol}: adjusted without {', '.join(refused[:_NAMED])}{more}"
    if not without_close:
        return text
    start, end = without_close[0].ex_date - timedelta(days=7), without_close[-1].ex_date - timedelta(days=1)
    return f"{text}; get the closes: backfill run --symbols {symbol} --timeframes 1d --start {start} --end {end}"
