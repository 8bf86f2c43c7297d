"""Coarser bars from finer ones: intraday buckets anchored to their part of the session, ISO weeks from days.

Buckets start at the start of their part (pre, regular, after a lunch break, post) and are cut at its end, so none
mixes segments or days, and none drifts when the clocks change. Nothing is filled: a bucket without a bar is no bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .bars import UNKNOWN_TRADES, Bars, Float, Micros
from .sessions import Parts, Sessions
from .timeframe import LENGTH, Timeframe

# A vwap is known when the parts that have one carry at least this share of the volume.
VWAP_SHARE = 0.95

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Resampled:
    """Bars of one timeframe and, per bar, its part of the calendar (`part`, index into Sessions.parts)."""

    timeframe: Timeframe
    bars: Bars
    part: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Bars under way: `known_volume` is the volume of those whose vwap is known, `turnover` their vwap·volume."""

    bars: Bars
    part: npt.NDArray[np.int64]
    turnover: Float
    known_volume: Float


def resample(
    bars: Bars, part: npt.NDArray[np.int64], sessions: Sessions, targets: Sequence[Timeframe]
) -> Iterator[Resampled]:
    """Bars of each of `targets` (ascending lengths, each dividing the next) from finer `bars`.

    `bars`: sorted, unique, all inside sessions; `part`: int64, their part (Sessions.parts.locate). Each timeframe
    is built from the one before it: three times cheaper than going back to minutes each time. A bucket is final
    where all of its bars are; whether it is whole is the caller's knowledge.
    """
    sums = _start(bars, part)
    for target in targets:
        sums = _coarsen(sums, sessions.parts, LENGTH[target])
        yield Resampled(target, _finish(sums), sums.part)


def weeks(days: Bars, sessions: Sessions, whole: npt.NDArray[np.bool_]) -> Bars:
    """ISO weeks, labelled by their Monday 00:00 in the calendar's zone, from daily bars.

    `days`: sorted daily bars; those of days that are no sessions are left out. `whole`: bool per row of `sessions`,
    True where the session is wanted and complete (with a bar, or with its absence explained). A week of which any
    session is not whole gets no bar.
    """
    return group_days(days, sessions, whole, iso_monday(sessions.session))[0]


def group_days(
    days: Bars, sessions: Sessions, whole: npt.NDArray[np.bool_], label: npt.NDArray[np.datetime64]
) -> tuple[Bars, npt.NDArray[np.datetime64]]:
    """As `weeks`, of any stretches of days. `label`: of each session the first calendar day of its stretch, ascending.
    Returns with the bars their labels, at whose midnights they start.
    """
    first_day, group_of_row = np.unique(label, return_inverse=True)
    broken = np.zeros(len(first_day), dtype=bool)
    broken[group_of_row[~whole]] = True
    row = sessions.row_of(days.ts)
    group = group_of_row[row]
    keep = (row >= 0) & ~broken[group]
    sums = _start(days.take(keep), group[keep])
    sums = _aggregate(sums, *_runs(sums.part), label_ts=sums.bars.ts)
    labels = first_day[sums.part]
    return replace(_finish(sums), ts=sessions.midnights(labels)), labels


def regroup(
    bars: Bars, part: npt.NDArray[np.int64], sessions: Sessions, length: int
) -> tuple[Bars, npt.NDArray[np.int64]]:
    """Intraday bars of `length` microseconds from finer ones, whose length divides it; and the part of each."""
    sums = _coarsen(_start(bars, part), sessions.parts, length)
    return _finish(sums), sums.part


def iso_monday(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """The Monday of each day's ISO week. datetime64[D] in and out."""
    ordinal = days.astype("datetime64[D]").astype(np.int64)
    return (ordinal - (ordinal + 3) % 7).astype("datetime64[D]")  # 1970-01-01 was a Thursday


def bucket_starts(ts: Micros, part: npt.NDArray[np.int64], parts: Parts, length: int) -> Micros:
    """The start of the bucket of each `ts`. int64 microseconds UTC, shape of `ts`."""
    anchor = parts.start[part]
    start = ts - anchor
    start //= length  # in place: a third of the time, most of which goes into fresh memory
    start *= length
    start += anchor
    return start


def bucket_ends(start: Micros, part: npt.NDArray[np.int64], parts: Parts, timeframe: Timeframe) -> Micros:
    """True ends of buckets: their length later, or the end of their part if that is sooner."""
    return np.minimum(start + LENGTH[timeframe], parts.end[part])


def buckets_per_part(parts: Parts, timeframe: Timeframe) -> npt.NDArray[np.int64]:
    """How many buckets each part has, the short one at its end included."""
    return -((parts.start - parts.end) // LENGTH[timeframe])


def _start(bars: Bars, part: npt.NDArray[np.int64]) -> _Sums:
    unknown = np.isnan(bars.vwap)
    if not unknown.any():
        return _Sums(bars, part, bars.vwap * bars.volume, bars.volume)
    known_volume = np.where(unknown, 0.0, bars.volume)
    return _Sums(bars, part, np.where(unknown, 0.0, bars.vwap) * known_volume, known_volume)


def _runs(label: npt.NDArray[np.int64]) -> tuple[Index, Index]:
    """First and last position of every run of equal values."""
    if not len(label):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    change = np.flatnonzero(label[1:] != label[:-1])
    first = np.concatenate([[0], change + 1]).astype(np.intp)
    last = np.concatenate([change, [len(label) - 1]]).astype(np.intp)
    return first, last


def _coarsen(sums: _Sums, parts: Parts, length: int) -> _Sums:
    start = bucket_starts(sums.bars.ts, sums.part, parts, length)
    first, last = _runs(start)
    return _aggregate(sums, first, last, label_ts=start)


def _aggregate(sums: _Sums, first: Index, last: Index, label_ts: Micros) -> _Sums:
    bars = sums.bars
    if not len(first):
        return sums
    counted = _all(bars.trades != UNKNOWN_TRADES, first)
    volume = np.add.reduceat(bars.volume, first)
    aggregated = Bars(
        ts=label_ts[first],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        volume=volume,
        vwap=bars.vwap[first],  # placeholder: _finish computes it from the sums
        trades=np.where(counted, np.add.reduceat(bars.trades, first), UNKNOWN_TRADES),
        final=_all(bars.final, first),
    )
    all_known = sums.known_volume is bars.volume
    known_volume = volume if all_known else np.add.reduceat(sums.known_volume, first)
    return _Sums(aggregated, sums.part[first], np.add.reduceat(sums.turnover, first), known_volume)


def _all(mask: npt.NDArray[np.bool_], first: Index) -> npt.NDArray[np.bool_]:
    """Whether each run is True throughout; most masks are, so that is asked first."""
    return np.ones(len(first), dtype=bool) if mask.all() else np.logical_and.reduceat(mask, first)


def _finish(sums: _Sums) -> Bars:
    volume = sums.bars.volume
    known = (sums.known_volume > 0) & (sums.known_volume >= VWAP_SHARE * volume)
    vwap = np.full(len(volume), np.nan)
    np.divide(sums.turnover, sums.known_volume, out=vwap, where=known)
    return replace(sums.bars, vwap=vwap)
