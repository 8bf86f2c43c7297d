"""Which of the stored splits, dividends and earnings are believed: judged all anew, written where that is news."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.actions import (
    KINDS,
    NEAR,
    Day,
    DividendEvent,
    Event,
    Judgement,
    Kind,
    SplitEvent,
    accept,
    judge_dividends,
    judge_splits,
    refuse,
)
from backfill_pipeline.domain.timeframe import BASES
from backfill_pipeline.storage.event_rows import Followed, StoredEvent, days_around, judge_events, read_events
from backfill_pipeline.storage.events import mark_stale
from backfill_pipeline.storage.symbols import symbol_lock

logger = logging.getLogger(__name__)

# So many days around a split are looked at: those near it, and five sessions more on either side.
_AROUND = NEAR.days + 8

Prices = Mapping[date, Sequence[Day]]


@dataclass
class Judged:
    """`changed`: by symbol_id, the first ex-date from which the accepted splits are others than before. `refused` and
    `unverified`: a line each for what is not used, and what cannot be checked yet.
    """

    accepted: Counter[Kind] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    changed: dict[int, date] = field(default_factory=dict)


def judge_stored(conn: Connection, symbols: Sequence[Followed], today: date) -> Judged:
    """Judge everything stored of these symbols. A symbol whose accepted splits change is marked stale."""
    by_id = {symbol.symbol_id: symbol for symbol in symbols}
    done = Judged()
    for kind in KINDS:
        with conn:
            stored: dict[int, list[StoredEvent]] = {}
            for one in read_events(conn, kind, by_id):
                stored.setdefault(one.symbol_id, []).append(one)
            prices = _prices(conn, stored) if kind == "splits" else {}
        for symbol_id, events in stored.items():
            symbol = by_id[symbol_id]
            pairs = list(zip(events, _judge(events, symbol.calendar, prices.get(symbol_id, {}), today), strict=True))
            _store(conn, symbol, pairs, done)
            _tell(symbol, kind, pairs, done)
    return done


def _prices(conn: Connection, stored: Mapping[int, Sequence[StoredEvent]]) -> dict[int, Prices]:
    """By symbol and ex-date, the days around."""
    places = {(symbol_id, one.event.day) for symbol_id, events in stored.items() for one in events}
    found: dict[int, dict[date, Sequence[Day]]] = {}
    for (symbol_id, day), days in days_around(conn, places, _AROUND).items():
        found.setdefault(symbol_id, {})[day] = days
    return dict(found)


def _judge(events: Sequence[StoredEvent], calendar: str, prices: Prices, today: date) -> list[Judgement]:
    """One symbol's events of one kind."""
    told: list[Event] = [one.event for one in events if not one.withdrawn]
    splits = judge_splits([event for event in told if isinstance(event, SplitEvent)], prices, today)
    paid = judge_dividends([event for event in told if isinstance(event, DividendEvent)], calendar, today)
    verdicts = iter(splits or paid or [accept("as told")] * len(told))
    return [refuse(f"{one.provider} no longer tells it") if one.withdrawn else next(verdicts) for one in events]


def _store(conn: Connection, symbol: Followed, pairs: Sequence[tuple[StoredEvent, Judgement]], done: Judged) -> None:
    news = [(one, judgement) for one, judgement in pairs if one.judgement != judgement]
    if not news:
        return
    since = _first_change(pairs)
    with ExitStack() as locks:
        if since is not None:
            # Whoever computes features under these locks sees the splits before or after the change, and the mark.
            for base in BASES:
                locks.enter_context(symbol_lock(conn, symbol.symbol_id, base))
        with conn:
            judge_events(conn, news)
            if since is not None:
                mark_stale(conn, symbol.symbol_id, since)
                done.changed[symbol.symbol_id] = since


def _first_change(pairs: Sequence[tuple[StoredEvent, Judgement]]) -> date | None:
    """The first ex-date on which other splits are accepted than were."""
    before = {_split(one.event) for one, _ in pairs if one.judgement.accepted}
    after = {_split(one.event) for one, judgement in pairs if judgement.accepted}
    return min((split[0] for split in before ^ after if split is not None), default=None)


def _split(event: Event) -> tuple[date, float | None] | None:
    return (event.ex_date, event.ratio) if isinstance(event, SplitEvent) else None


def _tell(symbol: Followed, kind: Kind, pairs: Sequence[tuple[StoredEvent, Judgement]], done: Judged) -> None:
    for one, judgement in pairs:
        line = f"{symbol.symbol} {one.event.day} {kind}: {judgement.reason} ({one.provider})"
        if judgement.accepted:
            done.accepted[kind] += 1
        elif judgement.accepted is None:
            done.unverified.append(line)
        else:
            done.refused.append(line)
            if one.judgement != judgement:
                logger.warning(f"{line}; it is kept and not used")
