"""Days on which a calendar says that there is trading, and somebody here knows that there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import date

import numpy as np

from .sessions import Parts, Sessions


def without(sessions: Sessions, closed: Iterable[date]) -> Sessions:
    """The calendar without the sessions labelled `closed`; itself where it has none of them.

    Places of later sessions move, so it is made before any place is looked up.
    """
    gone = np.isin(sessions.session, np.array(sorted(closed), dtype="datetime64[D]"))
    if not gone.any():
        return sessions
    kept = ~gone
    parts = sessions.parts
    part_kept = kept[parts.row]
    row = (np.cumsum(kept) - 1)[parts.row[part_kept]]
    columns = {
        field.name: getattr(sessions, field.name)[kept]
        for field in fields(sessions)
        if isinstance(getattr(sessions, field.name), np.ndarray)
    }
    shorter = Parts(parts.start[part_kept], parts.end[part_kept], row, parts.segment[part_kept])
    return replace(sessions, parts=shorter, **columns)
