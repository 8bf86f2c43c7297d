"""The tables `splits`, `dividends` and `earnings` as they are written, and `events_asked`. Reading them: events.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values

from backfill_pipeline.domain.actions import (
    UNJUDGED,
    Day,
    DividendEvent,
    EarningsEvent,
    Event,
    Judgement,
    Kind,
    SplitEvent,
)
from backfill_pipeline.domain.asking import Asked

_CLASSES: dict[Kind, type[Event]] = {"splits": SplitEvent, "dividends": DividendEvent, "earnings": EarningsEvent}
# What tells two events of a symbol and provider apart; the rest of an event may change.
_KEYS: dict[Kind, tuple[str, ...]] = {
    "splits": ("ex_date", "split_from", "split_to"),
    "dividends": ("ex_date", "cash_amount", "currency", "distribution_type"),
    "earnings": ("report_date", "provider_id"),
}


@dataclass(frozen=True)
class Followed:
    """A followed instrument that events are wanted of, from the first day on that a bar is stored or wanted."""

    symbol_id: int
    symbol: str
    calendar: str
    since: date


@dataclass(frozen=True)
class StoredEvent:
    """A row of an event table. `withdrawn`: the provider no longer tells it."""

    symbol_id: int
    provider: str
    event: Event
    withdrawn: bool
    judgement: Judgement

    @property
    def key(self) -> tuple[object, ...]:
        return self.symbol_id, self.provider, *event_key(self.event)


def kind_of(event: Event) -> Kind:
    return next(kind for kind, of in _CLASSES.items() if isinstance(event, of))


def event_key(event: Event) -> tuple[object, ...]:
    """What tells it apart from the other events of its symbol and provider."""
    return tuple(getattr(event, name) for name in _KEYS[kind_of(event)])


def followed(conn: Connection) -> list[Followed]:
    """Active instruments that have splits at all, wanted or stored in any timeframe; by name."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT symbol_id, symbol, calendar, since FROM symbols AS s CROSS JOIN LATERAL (SELECT least("
            "  (SELECT min(greatest(lower(w.time_window), (SELECT min(lower(v.time_window)) FROM served AS v"
            "     WHERE v.symbol_id = w.symbol_id AND v.timeframe = w.timeframe)))"
            "   FROM wanted AS w WHERE w.symbol_id = s.symbol_id),"
            "  (SELECT min(oldest.ts) FROM unnest('{1m,1d}'::timeframe[]) AS base CROSS JOIN LATERAL"
            "    (SELECT ts FROM bars AS b WHERE b.symbol_id = s.symbol_id AND b.timeframe = base ORDER BY ts LIMIT 1)"
            "    AS oldest))::date AS since) AS needed"
            " WHERE active AND asset_class <> 'crypto' AND since IS NOT NULL ORDER BY symbol"
        )
        return [Followed(*row) for row in cursor.fetchall()]


def read_events(conn: Connection, kind: Kind, symbol_ids: Collection[int]) -> list[StoredEvent]:
    """Everything ever told of these symbols, by symbol and key."""
    names = [field.name for field in fields(_CLASSES[kind])]
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT symbol_id, provider, withdrawn_at IS NOT NULL, accepted, reason, {', '.join(names)} FROM {kind}"  # noqa: S608
            f" WHERE symbol_id = ANY(%s) ORDER BY symbol_id, {', '.join(_KEYS[kind])}, provider",
            (list(symbol_ids),),
        )
        return [
            StoredEvent(row[0], row[1], _CLASSES[kind](*row[5:]), row[2], Judgement(row[3], row[4]))
            for row in cursor.fetchall()
        ]


def insert_events(
    conn: Connection, kind: Kind, provider: str, told: Sequence[tuple[int, Event]], seen_at: datetime
) -> None:
    """Add events of (symbol_id, event), not judged yet."""
    names = [field.name for field in fields(_CLASSES[kind])]
    tail = (provider, UNJUDGED.reason, seen_at)
    with conn.cursor() as cursor:
        execute_values(
            cursor,
            f"INSERT INTO {kind} (symbol_id, {', '.join(names)}, provider, reason, seen_at) VALUES %s"  # noqa: S608
            " ON CONFLICT DO NOTHING",
            [(symbol_id, *(getattr(event, name) for name in names), *tail) for symbol_id, event in told],
        )


def update_events(conn: Connection, kind: Kind, provider: str, told: Sequence[tuple[int, Event]]) -> None:
    """Events that are told otherwise than they are stored, or again."""
    names = [field.name for field in fields(_CLASSES[kind]) if field.name not in _KEYS[kind]]
    sets = ", ".join(f"{name} = %s" for name in names)
    with conn.cursor() as cursor:
        for symbol_id, event in told:
            cursor.execute(
                f"UPDATE {kind} SET {sets}, withdrawn_at = NULL WHERE {_where(kind)}",  # noqa: S608
                (*(getattr(event, name) for name in names), symbol_id, provider, *event_key(event)),
            )


def withdraw_events(conn: Connection, kind: Kind, gone: Sequence[StoredEvent], now: datetime) -> None:
    """Events that the provider no longer tells; they stay."""
    with conn.cursor() as cursor:
        for stored in gone:
            cursor.execute(f"UPDATE {kind} SET withdrawn_at = %s WHERE {_where(kind)}", (now, *stored.key))  # noqa: S608


def judge_events(conn: Connection, judged: Sequence[tuple[StoredEvent, Judgement]]) -> None:
    """Store judgements. The refused ones first: a day has one accepted split at most."""
    with conn.cursor() as cursor:
        for stored, judgement in sorted(judged, key=lambda pair: pair[1].accepted is True):
            kind = kind_of(stored.event)
            cursor.execute(
                f"UPDATE {kind} SET accepted = %s, reason = %s WHERE {_where(kind)}",  # noqa: S608
                (judgement.accepted, judgement.reason, *stored.key),
            )


def _where(kind: Kind) -> str:
    return " AND ".join(f"{name} = %s" for name in ("symbol_id", "provider", *_KEYS[kind]))


def days_around(conn: Connection, places: Collection[tuple[int, date]], days: int) -> dict[tuple[int, date], list[Day]]:
    """First and last regular price of each stored session up to `days` from each (symbol_id, date), ascending.

    From daily bars; where these lack a session before the date or one from it on, from minutes.
    """
    found = _days_around(conn, _FROM_DAYS, places, days)
    lacking = [
        (symbol_id, day)
        for symbol_id, day in places
        if len({known.session < day for known in found.get((symbol_id, day), ())}) < 2
    ]
    return found | _days_around(conn, _FROM_MINUTES, lacking, days)


_FROM_DAYS = "SELECT session, open, close FROM bars WHERE timeframe = '1d' AND {near}"
_FROM_MINUTES = (
    "SELECT session, (array_agg(open ORDER BY ts))[1], (array_agg(close ORDER BY ts DESC))[1] FROM bars"
    " WHERE timeframe = '1m' AND segment = 'regular' AND {near} GROUP BY session"
)
_NEAR = (
    "symbol_id = p.symbol_id AND ts >= p.day - make_interval(days => %(days)s)"
    " AND ts < p.day + make_interval(days => %(days)s)"
)


def _days_around(
    conn: Connection, query: str, places: Collection[tuple[int, date]], days: int
) -> dict[tuple[int, date], list[Day]]:
    found: dict[tuple[int, date], list[Day]] = {}
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT p.symbol_id, p.day, b.* FROM unnest(%(ids)s::integer[], %(dates)s::date[]) AS p (symbol_id, day)"  # noqa: S608
            f" CROSS JOIN LATERAL ({query.format(near=_NEAR)}) AS b ORDER BY 1, 2, 3",
            {"ids": [place[0] for place in places], "dates": [place[1] for place in places], "days": days},
        )
        for symbol_id, day, *values in cursor.fetchall():
            found.setdefault((symbol_id, day), []).append(Day(*values))
    return found


def read_asked(conn: Connection, kind: Kind, provider: str, account: str) -> dict[int, Asked]:
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT symbol_id, asked_from, asked_at::date FROM events_asked"
            " WHERE kind = %s AND provider = %s AND account = %s",
            (kind, provider, account),
        )
        return {row[0]: Asked(row[1], row[2]) for row in cursor.fetchall()}


def record_asked(
    conn: Connection, kind: Kind, provider: str, account: str, since: Mapping[int, date], now: datetime
) -> None:
    """Everything of these symbols from their dates on was asked at `now`; what was asked before still counts."""
    with conn.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO events_asked AS a (kind, provider, account, symbol_id, asked_from, asked_at) VALUES %s"
            " ON CONFLICT (kind, provider, account, symbol_id) DO UPDATE"
            " SET asked_from = least(a.asked_from, excluded.asked_from), asked_at = excluded.asked_at",
            [(kind, provider, account, symbol_id, day, now) for symbol_id, day in since.items()],
        )
