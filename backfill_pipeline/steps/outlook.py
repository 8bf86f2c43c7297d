"""What a job has before it: whom it asks next, when its turn is among others, and how many requests it still takes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from backfill_pipeline.domain.planning import Rows, rows_per_session
from backfill_pipeline.providers.base import Provider

from .warehouse import Subject


class Outlook(NamedTuple):
    """`provider`: whom to ask next: one whose requests cost nothing, else who has the newest session. `order`: jobs
    with the smallest go first. `requests`: about how many are left, by provider; those that cost nothing left out.
    """

    provider: Provider
    order: tuple[int, int, bool, int]
    requests: dict[Provider, int]


def look_ahead(subject: Subject, needed: Rows, chosen: Rows, seen: float | None, place: int) -> Outlook:
    """`needed`: the sessions to ask for, at least one; `chosen`: per session, the provider's place in the route;
    `seen`: bars that a session was seen to hold; `place`: the symbol's among the run's.
    """
    base, sessions, providers = subject.chain.base, subject.sessions, subject.route.providers
    per_session = rows_per_session(sessions, base, seen)
    free: list[Provider] = []
    requests: dict[Provider, int] = {}
    for i, count in zip(*np.unique(chosen[needed], return_counts=True), strict=True):
        page = providers[i].page_rows(base)
        if page is None:
            free.append(providers[i])
        else:
            requests[providers[i]] = math.ceil(count * per_session / page)
    if free:
        return Outlook(free[0], (0, place, False, 0), requests)
    # The newest sessions of all first; days before minutes, for a day's volume tells whether its minutes are complete.
    newest = int(sessions.session[needed[-1]].astype(np.int64))
    return Outlook(providers[chosen[needed[-1]]], (1, -newest, base == "1m", place), requests)
