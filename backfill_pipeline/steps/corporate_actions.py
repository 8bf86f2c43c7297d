"""Splits, dividends and earnings of the followed symbols: ask the market, keep what is told, judge all that is kept.

Every run judges everything anew, so what could not be checked is, once there are bars.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.actions import KINDS, Event, Kind, SplitEvent
from backfill_pipeline.domain.asking import Days, days_to_ask
from backfill_pipeline.providers.base import EventSource
from backfill_pipeline.providers.errors import NeverServed, ProviderError, ProviderStopped
from backfill_pipeline.storage.event_rows import (
    Followed,
    event_key,
    followed,
    insert_events,
    read_asked,
    read_events,
    record_asked,
    update_events,
    withdraw_events,
)

from .judging import Judged, judge_stored

# Whose ticker it is on a day: a symbol_id, or None for nobody's that is followed.
Resolve = Callable[[str, date], int | None]


@dataclass
class Refreshed:
    """What a run did. `requests`: answered ones. `judged`: all that is stored of the followed symbols. `failures`: a
    line for each kind that could not be asked.
    """

    requests: int = 0
    new: Counter[Kind] = field(default_factory=Counter)
    restated: Counter[Kind] = field(default_factory=Counter)
    withdrawn: Counter[Kind] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    judged: Judged = field(default_factory=Judged)

    @property
    def changed(self) -> dict[int, date]:
        """By symbol_id, the first ex-date from which the accepted splits are others than before."""
        return self.judged.changed


def refresh_events(conn: Connection, source: EventSource, resolve: Resolve, now: datetime) -> Refreshed:
    """Ask, store and judge. A kind that fails stops no other and is in `failures`. Raises ProviderStopped."""
    done = Refreshed()
    with conn:
        symbols = followed(conn)
    if not symbols:
        done.notes.append("no stock is followed")
        return done
    before = source.answered
    for kind in KINDS:
        try:
            _ask(conn, source, kind, symbols, resolve, now, done)
        except ProviderStopped:
            raise
        except NeverServed as error:
            # Earnings are an add-on, and splits and dividends are not: without them prices are wrong.
            (done.notes if kind == "earnings" else done.failures).append(str(error))
        except ProviderError as error:
            done.failures.append(str(error))
    done.requests = source.answered - before
    done.judged = judge_stored(conn, symbols, now.date())
    return done


def _ask(
    conn: Connection,
    source: EventSource,
    kind: Kind,
    symbols: Sequence[Followed],
    resolve: Resolve,
    now: datetime,
    done: Refreshed,
) -> None:
    """One kind, in one transaction once all of it is told."""
    with conn:
        asked = read_asked(conn, kind, source.name, source.account)
    needed = {symbol.symbol_id: symbol.since for symbol in symbols}
    stretches = days_to_ask(needed, asked, now.date())
    told: dict[tuple[object, ...], tuple[int, Event]] = {}
    heard = 0
    for days in stretches:
        for ticker, event in _telling(source, kind, days):
            heard += 1
            symbol_id = resolve(ticker, event.day)
            if symbol_id in needed:
                _collapse(told, symbol_id, event)
    with conn:
        known = {stored.key: stored for stored in read_events(conn, kind, needed) if stored.provider == source.name}
        found = {(symbol_id, source.name, *event_key(event)): (symbol_id, event) for symbol_id, event in told.values()}
        new = [pair for key, pair in found.items() if key not in known]
        restated = [p for k, p in found.items() if k in known and (known[k].withdrawn or known[k].event != p[1])]
        gone = [
            stored
            for key, stored in known.items()
            if key not in found and not stored.withdrawn and any(stored.event.day in days for days in stretches)
        ]
        if gone and not heard:
            done.notes.append(f"{source.name} told no {kind} of anybody: the {len(gone)} known ones stay")
            gone = []
        insert_events(conn, kind, source.name, new, now)
        update_events(conn, kind, source.name, restated)
        withdraw_events(conn, kind, gone, now)
        record_asked(conn, kind, source.name, source.account, needed, now)
    done.new[kind] += len(new)
    done.restated[kind] += len(restated)
    done.withdrawn[kind] += len(gone)


def _telling(source: EventSource, kind: Kind, days: Days) -> Iterator[tuple[str, Event]]:
    if kind == "splits":
        return source.splits(days)
    return source.dividends(days) if kind == "dividends" else source.earnings(days)


def _collapse(told: dict[tuple[object, ...], tuple[int, Event]], symbol_id: int, event: Event) -> None:
    """Told twice, an event is kept once: the same ratio may be written 1:4 and 2:8. Of two that differ in what does not
    matter, whichever sorts first stays, so that their order makes no difference.
    """
    same = event.ratio if isinstance(event, SplitEvent) else None
    key = (symbol_id, event.day, same) if same is not None else (symbol_id, *event_key(event))
    other = told.setdefault(key, (symbol_id, event))[1]
    if repr(event) < repr(other):
        told[key] = (symbol_id, event)
