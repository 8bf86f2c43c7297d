"""A calendar less the days that somebody closed."""

from __future__ import annotations

from dataclasses import fields
from datetime import date

import numpy as np
import pytest

from backfill_pipeline.domain.overrides import without
from backfill_pipeline.domain.sessions import Sessions, load_sessions

LAST = date(2025, 12, 31)
MOURNING = date(2025, 1, 9)


def test_a_day_closed_two_days_ahead_is_no_session() -> None:
    sessions = load_sessions("XNYS", LAST)
    day, half = date(2024, 5, 6), date(2024, 11, 29)
    shorter = without(sessions, [half, day])
    assert len(shorter) == len(sessions) - 2
    assert shorter.rows_between(day, day).start == shorter.rows_between(day, day).stop
    assert (shorter.row_of(sessions.day_start[[sessions.rows_between(day, day).start]]) == -1).all()
    assert (shorter.parts.locate(sessions.open[sessions.rows_between(half, half)]) == -1).all()


@pytest.mark.parametrize("name", ["XNYS", "XHKG", "24/7"])
def test_the_other_sessions_are_as_they_were(name: str) -> None:
    sessions = load_sessions(name, LAST)
    gone = sessions.session[[5, 3000, len(sessions) - 1]].astype(object).tolist()
    shorter = without(sessions, gone)
    kept = ~np.isin(sessions.session, np.array(gone, dtype="datetime64[D]"))
    for field in fields(Sessions):
        before, after = getattr(sessions, field.name), getattr(shorter, field.name)
        if isinstance(before, np.ndarray):
            assert (after == before[kept]).all(), field.name
    # Every part still lies in the session that its place names.
    parts = shorter.parts
    assert (np.unique(parts.row) == np.arange(len(shorter))).all()
    assert (parts.start >= shorter.day_start[parts.row]).all()
    assert (parts.end <= shorter.day_end[parts.row]).all()
    assert len(parts.start) == np.isin(sessions.parts.row, np.flatnonzero(kept)).sum()


def test_days_that_are_no_sessions_change_nothing() -> None:
    sessions = load_sessions("XNYS", LAST)
    assert without(sessions, []) is sessions
    assert without(sessions, [MOURNING, date(2024, 5, 5), date(1950, 1, 3)]) is sessions
