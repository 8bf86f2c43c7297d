"""Absent regular minutes as runs: which follow one another, what is known of them beforehand, and sums over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bars import Float, Micros
from .habits import Book, Mask, Rows
from .halts import halts_of
from .sessions import Sessions
from .windows import MINUTE, Window, union

Kinds = npt.NDArray[np.int8]

# What is known of an absent minute before anything is weighed. PRESENT: it is not absent.
PRESENT, UNKNOWN, IN_HALT, AGREED, REFUSED, ACCEPTED = range(6)


@dataclass(frozen=True)
class Known:
    """What was found out about windows before. `accepted`: a person said so. `agreed`: two answers a week apart did.
    `refused`: minutes of which a row was refused.
    """

    accepted: Sequence[Window] = ()
    agreed: Sequence[Window] = ()
    refused: Sequence[Window] = ()


@dataclass(frozen=True, eq=False)
class Runs:
    """Absent minutes of one kind that follow one another, one element a run, ascending.

    `line`: which of the judged sessions. `first`, `last`: columns of the book. A lunch break is no end of a run.
    `start`, `end`: microseconds UTC.
    """

    line: Rows
    first: Rows
    last: Rows
    kind: Kinds
    start: Micros
    end: Micros

    def __len__(self) -> int:
        return len(self.line)

    @property
    def length(self) -> Rows:
        return self.last - self.first + 1

    def window(self, i: int) -> Window:
        return Window(int(self.start[i]), int(self.end[i]))

    def mask(self, chosen: Mask, shape: tuple[int, ...]) -> Mask:
        """The minutes of the chosen runs. Judged sessions × columns."""
        steps = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
        np.add.at(steps, (self.line[chosen], self.first[chosen]), 1)
        np.add.at(steps, (self.line[chosen], self.last[chosen] + 1), -1)
        within: Mask = np.cumsum(steps, axis=1)[:, :-1] > 0
        return within

    def sums(self, values: Float) -> Float:
        """Of `values` (judged sessions × columns) over each run."""
        summed = np.zeros((len(values), values.shape[1] + 1))
        np.cumsum(values, axis=1, out=summed[:, 1:])
        total: Float = summed[self.line, self.last + 1] - summed[self.line, self.first]
        return total


def absent_runs(sessions: Sessions, book: Book, lines: Rows, known: Known) -> Runs:
    """The runs of the sessions at `lines` of the book."""
    absent = book.absent[lines]
    start = sessions.open[book.rows[lines]][:, None] + book.minute * MINUTE
    kind = absent.astype(np.int8)  # 1 is UNKNOWN
    some: Mask = book.traded[lines].sum(axis=1, keepdims=True) > 0  # a session without any bar is no halt of minutes
    said: Mapping[int, tuple[Sequence[Window], Mask]] = {
        AGREED: (known.agreed, absent & some),
        IN_HALT: (halts_of(sessions.calendar), absent & some),
        REFUSED: (known.refused, absent),
        ACCEPTED: (known.accepted, absent),
    }
    for code, (windows, mask) in said.items():
        if windows:
            kind[mask & inside(start, windows)] = code
    changes = np.ones((len(lines), kind.shape[1] + 1), dtype=bool)  # sessions do not run into one another
    changes[:, 1:-1] = np.diff(kind, axis=1) != 0
    line, column = np.nonzero(changes)
    same = line[1:] == line[:-1]
    line, first, last = line[:-1][same], column[:-1][same], column[1:][same] - 1
    real = kind[line, first] != PRESENT
    line, first, last = line[real], first[real], last[real]
    return Runs(line, first, last, kind[line, first], start[line, first], start[line, last] + MINUTE)


def inside(ts: npt.NDArray[np.int64], windows: Sequence[Window]) -> Mask:
    """Which of `ts` (any shape and order) lie in any of the windows."""
    joined = union(windows)
    if not joined:
        return np.zeros(ts.shape, dtype=bool)
    if len(joined) == 1:  # as of most answers; a tenth of the time of a search
        within: Mask = (ts >= joined[0].start) & (ts < joined[0].end)
        return within
    starts = np.array([window.start for window in joined])
    ends = np.array([window.end for window in joined])
    place = np.searchsorted(starts, ts, side="right") - 1
    found: Mask = (place >= 0) & (ts < ends[np.maximum(place, 0)])
    return found
