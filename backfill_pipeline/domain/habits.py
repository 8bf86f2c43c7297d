"""What a symbol usually does: how often each minute of its day trades, and how much of the day its minutes hold.

Pure arrays over sessions; what follows from them for an absent minute is in verdicts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .bars import Float, Micros
from .sessions import Sessions
from .windows import MINUTE

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Sessions that tell what is usual, and the fewest that tell anything: with 5, a minute that always traded is silent in
# less than one of 6 sessions.
NEAREST = 20
# Sessions on either side of one that its verdict can depend on: its witnesses are among the nearest 20; what was lost
# in these is told by theirs, twice over, and whether those lack volume by the ratios of the 20 around them. With fewer
# at hand a verdict would depend on what happened to be looked at together.
REACH = 4 * NEAREST
FEWEST = 5
# Ratios vary much less than habits: three that agree are enough.
FEWEST_RATIOS = 3

# Minutes on either side whose silence counts too. 20 sessions of one minute cannot tell 1 % from 0, those of an hour
# (1,220 minutes) can.
_AROUND = 30
# A symbol that is silent in no more than so many minutes a session (2 in 20 sessions) trades every minute: each of its
# absent ones is a gap unless the volume says otherwise. With a larger number, symbols that are silent once in 1,000
# minutes (8 in 20 sessions) would have false gaps; with 0, two lost minutes would excuse each other.
_HARDLY_EVER = 0.1
# How likely its silence is then. Any number under 1e-6 says the same; not 0, whose logarithm JSON cannot hold.
_NEVER_SILENT = 1e-12

# The ratio's tolerance is four robust standard deviations: once in 16,000 sessions of normal noise. It is at most 2 %:
# half an hour of a liquid symbol has 4 to 8 % of its day. At least rounding: a day may be the exact sum of its minutes.
_DEVIATIONS = 4.0
EXACT = 1e-9
WIDEST = 0.02
# Scatter is read off the 80 % of full sessions that are off the least: some days are exact sums, others are not. Of
# sessions that may lack bars only the better half counts, and it must agree within 1 %.
_MOST = (0.8, 1.2816)
_HALF = (0.5, 0.6745)
_AGREED = 0.01


@dataclass(frozen=True, eq=False)
class Book:
    """Sessions of one symbol at places `rows` (ascending), a line each in every array; a column per minute.

    `minute`: minutes since the open of each column; those in which no session trades (lunch) have none. `expected`:
    the session has that minute. `volume`: its bar's, NaN without one. `total`: of the bars of all segments. `day`: the
    daily bar's, NaN without one. `answered`: settled and completely.
    """

    rows: Rows
    minute: Rows
    expected: Mask
    volume: Float
    total: Float
    day: Float
    answered: Mask

    @property
    def traded(self) -> Mask:
        return ~np.isnan(self.volume)

    @property
    def absent(self) -> Mask:
        return self.expected & ~self.traded

    @property
    def telling(self) -> Mask:
        """Per session: it has bars, and an answer vouches for it."""
        found: Mask = self.answered & self.traded.any(axis=1)
        return found


def make_book(
    sessions: Sessions,
    rows: Rows,
    ts: Micros,
    volume: Float,
    days: Mapping[date, float],
    answered: Mask,
) -> Book:
    """From bars of all segments (`ts` ascending; those of other sessions are left out) and volumes of daily bars."""
    opening = sessions.open[rows][:, None]
    minute = np.arange(int((sessions.close[rows] - sessions.open[rows]).max()) // MINUTE)
    start = opening + minute * MINUTE
    before = start < sessions.break_start[rows][:, None]
    after = (start >= sessions.break_end[rows][:, None]) & (start < sessions.close[rows][:, None])
    expected = before | after
    part = sessions.parts.locate(ts)
    row = sessions.parts.row[part]
    line = np.minimum(np.searchsorted(rows, row), len(rows) - 1)
    mine = (part >= 0) & (rows[line] == row)
    line, ts, volume = line[mine], ts[mine], volume[mine]
    column = (ts - sessions.open[rows][line]) // MINUTE
    grid = np.full(expected.shape, np.nan)
    regular = (column >= 0) & (column < len(minute))
    regular[regular] = expected[line[regular], column[regular]]
    grid[line[regular], column[regular]] = volume[regular]
    used = expected.any(axis=0)
    day = np.array([days.get(label, np.nan) for label in sessions.session[rows].astype(object)], dtype=np.float64)
    return Book(
        rows,
        minute[used],
        expected[:, used],
        grid[:, used],
        np.bincount(line, volume, len(rows)).astype(np.float64),
        np.where(day > 0, day, np.nan),
        answered,
    )


def nearest(book: Book, lines: Rows, eligible: Mask) -> Mask:
    """Per line of `lines`, the 20 nearest eligible sessions, itself left out; the earlier of two. lines × sessions.

    Among the 20 telling ones on either side and no others, so that sessions far away never matter.
    """
    distance = np.abs(book.rows[None, :] - book.rows[lines][:, None]).astype(np.float64)
    place: Rows = np.cumsum(book.telling) - book.telling
    before: Rows = (place[None, :] - place[lines][:, None]).astype(np.int64)
    far = (before < -NEAREST) | (before >= NEAREST + book.telling[lines][:, None])
    distance[far | ~(eligible & book.telling)] = np.inf
    distance[np.arange(len(lines)), lines] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :NEAREST]
    chosen = np.zeros(distance.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.isfinite(np.take_along_axis(distance, order, axis=1)), axis=1)
    return chosen


@dataclass(frozen=True, eq=False)
class Witnesses:
    """The sessions by which each of the sessions at `lines` of the book is judged: the nearest eligible ones, or where
    these are too few to tell anything, the nearest of all. `seen`: the minutes of the book that count; those which were
    lost there say nothing of the habit.
    """

    book: Book
    lines: Rows
    eligible: Mask
    seen: Mask

    @cached_property
    def _picked(self) -> tuple[Mask, Mask]:
        """Judged sessions × sessions; and which of the judged have too few eligible ones."""
        chosen = nearest(self.book, self.lines, self.eligible)
        few: Mask = chosen.sum(axis=1) < FEWEST
        chosen[few] = nearest(self.book, self.lines[few], self.book.telling)
        return chosen, few

    @property
    def count(self) -> Rows:
        count: Rows = self._picked[0].sum(axis=1)
        return count

    def log_silence(self) -> Float:
        """log10 of how likely each minute is silent. lines × minutes.

        The share of the sessions in which it was, but no less than in the hour around it.
        """
        seen = self._total(self.seen.astype(np.float64))
        silent = self._total((self.seen & ~self.book.traded).astype(np.float64))
        own = np.divide(silent, seen, out=np.zeros_like(seen), where=seen > 0)
        share = np.maximum(own, (_around(silent) + 0.5) / (_around(seen) + 1))
        share[silent.sum(axis=1) < 0.5 + _HARDLY_EVER * self.count] = _NEVER_SILENT
        logarithm: Float = np.log10(share)
        return logarithm

    def usual_shares(self) -> Float:
        """The share of the day's volume that each minute has on average. lines × minutes; equal ones without any."""
        total = np.where(self.book.total > 0, self.book.total, np.inf)
        shares = self._total(np.nan_to_num(self.book.volume) / total[:, None])
        count = self.count[:, None]
        usual: Float = np.where(count > 0, shares / np.maximum(count, 1), 1.0 / max(1, len(self.book.minute)))
        return usual

    def _total(self, values: Float) -> Float:
        """Of `values` (sessions × minutes) over each line's witnesses."""
        total = np.zeros((len(self.lines), values.shape[1]))
        chosen, few = self._picked
        for rule in (few, ~few):
            if rule.any():
                total[rule] = _sums(values, chosen[rule], self.lines[rule])
        return total


def _sums(values: Float, chosen: Mask, lines: Rows) -> Float:
    """Of `values` over the sessions `chosen` for each of the `lines`, by one rule.

    They follow one another but for the line itself and sessions that are nobody's witness: differences of running sums,
    three times faster than a product of matrices on a busy machine.
    """
    among: Mask = chosen.sum(axis=0) > 0
    running = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(np.where(among[:, None], values, 0.0), axis=0, out=running[1:])
    low = chosen.argmax(axis=1)
    high = chosen.shape[1] - chosen[:, ::-1].argmax(axis=1)
    itself = among[lines] & (low <= lines) & (lines < high)
    total: Float = running[high] - running[low] - np.where(itself[:, None], values[lines], 0.0)
    total[~chosen.any(axis=1)] = 0.0
    return total


def _around(counts: Float) -> Float:
    """Sums over the hour around each column."""
    width = counts.shape[1]
    summed = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)
    place = np.arange(width)
    total: Float = summed[:, np.minimum(place + _AROUND + 1, width)] - summed[:, np.maximum(place - _AROUND, 0)]
    return total


@dataclass(frozen=True, eq=False)
class Ratios:
    """Per line: Σ volume of the minutes over the day's (`ratio`, NaN without a day), the usual one (`median`), how far
    it may be off (`tolerance`, a share of it), and of how many sessions that is known (`count`, 0: it is taken as 1).
    """

    ratio: Float
    median: Float
    tolerance: Float
    count: Rows

    @property
    def shortfall(self) -> Float:
        """The share of the usual volume that the minutes lack; negative for a surplus; NaN without a day."""
        return 1 - self.ratio / self.median


def volume_ratios(book: Book) -> Ratios:
    """Of every session of the book.

    Usual is the median of the nearest sessions that lack no minute; where there are not three, of all answered ones
    that agree (an illiquid symbol has none that is full); else 1, within 2 %. What was judged of a session before does
    not count: verdicts would rest on one another, and on which came first.
    """
    ratio = book.total / book.day
    known = np.isfinite(ratio) & (book.total > 0)
    every = np.arange(len(book.rows))
    sure = _middle(ratio, nearest(book, every, known & ~book.absent.any(axis=1)), *_MOST)
    likely = _middle(ratio, nearest(book, every, known & book.answered), *_HALF)
    agreed = (likely[2] >= FEWEST_RATIOS) & (likely[1] <= _AGREED)
    pick = np.where(sure[2] >= FEWEST_RATIOS, 0, np.where(agreed, 1, 2))
    median = np.choose(pick, [sure[0], likely[0], np.ones(len(ratio))])
    spread = np.choose(pick, [sure[1], likely[1], np.full(len(ratio), WIDEST)])
    count = np.choose(pick, [sure[2], likely[2], np.zeros(len(ratio), dtype=np.int64)])
    return Ratios(ratio, median, np.clip(_DEVIATIONS * spread, EXACT, WIDEST), count)


def _middle(ratio: Float, chosen: Mask, part: float, deviations: float) -> tuple[Float, Float, Rows]:
    """Per line of `chosen`: the median of the chosen ratios, their relative standard deviation from how far `part` of
    them are off (`deviations` of normal noise), and how many they are. 1 and infinity where there is none.
    """
    count = chosen.sum(axis=1)
    ratios = np.where(chosen, ratio[None, :], np.nan)
    median = np.where(count > 0, (_ranked(ratios, (count - 1) // 2) + _ranked(ratios, count // 2)) / 2, 1.0)
    off = np.abs(ratios / median[:, None] - 1)
    rank = np.ceil(part * count).astype(np.int64) - 1
    return median, np.where(count > 0, _ranked(off, rank) / deviations, np.inf), count


def _ranked(values: Float, rank: Rows) -> Float:
    """The number of that rank, from 0, in each line; NaNs rank last."""
    chosen: Float = np.sort(values, axis=1)[np.arange(len(values)), np.maximum(rank, 0)]
    return chosen
