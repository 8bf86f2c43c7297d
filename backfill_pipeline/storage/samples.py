"""The table `samples`: final sessions drawn to be asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import Base


@dataclass(frozen=True, order=True)
class Asked:
    """A session of one symbol's base bars, and who gave what is stored."""

    provider: str
    symbol: str
    timeframe: Base
    session: date


@dataclass(frozen=True)
class Differing:
    """A drawn session that was asked for again: base bars that the new answer changed or withdrew."""

    symbol: str
    timeframe: Base
    session: date
    provider: str
    bars: int


def final_sessions(conn: Connection) -> list[Asked]:
    """Every wanted session of the followed symbols that has a provider's bars, and that nothing would ask for ever
    again. Imported ones have nobody to ask.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT t.provider, y.symbol, w.base::text, w.session FROM wanted_sessions AS w"
            " JOIN symbols AS y USING (symbol_id)"
            " JOIN sessions AS s ON s.calendar = w.calendar AND s.session = w.session"
            " JOIN session_status AS t ON t.symbol_id = w.symbol_id AND t.timeframe = w.base AND t.session = w.session"
            " WHERE y.active AND w.stored > 0 AND NOT starts_with(t.provider, 'import:') AND EXISTS ("
            "  SELECT FROM coverage AS c WHERE c.symbol_id = w.symbol_id AND c.timeframe = w.base"
            "  AND c.time_window @> s.open AND c.valid_until = 'infinity')"
        )
        return [Asked(*row) for row in cursor.fetchall()]


def is_drawn(conn: Connection, month: date) -> bool:
    """Whether there is a sample of the month, by its first day."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM samples WHERE month = %s)", (month,))
        return bool(cursor.fetchall()[0][0])


def draw(conn: Connection, month: date, sessions: Sequence[Asked], now: datetime) -> None:
    """Record the sample and stop believing what is stored of it, in the open transaction: the next run asks for it."""
    with conn.cursor() as cursor:
        for one in sessions:
            cursor.execute(
                "WITH drawn AS ("
                "  INSERT INTO samples (month, symbol_id, timeframe, session, asked_at)"
                "  SELECT %s, symbol_id, %s, %s, %s FROM symbols WHERE symbol = %s RETURNING *"
                ") SELECT expire_coverage(symbol_id, timeframe, tstzrange(day_start, day_end))"
                " FROM drawn JOIN symbols USING (symbol_id) JOIN sessions USING (calendar, session)",
                (month, one.timeframe, one.session, now, one.symbol),
            )


def settle(conn: Connection) -> list[Differing]:
    """Count what differed in drawn sessions that have been answered since, in the open transaction; those only."""
    with conn.cursor() as cursor:
        cursor.execute(
            "UPDATE samples AS m SET differing = ("
            "  SELECT count(DISTINCT r.ts) FROM bar_revisions AS r"
            "  WHERE r.symbol_id = m.symbol_id AND r.timeframe = m.timeframe"
            "  AND r.ts >= s.day_start AND r.ts < s.day_end AND r.revised_at >= m.asked_at)"
            " FROM symbols AS y, sessions AS s, session_status AS t"
            " WHERE m.differing IS NULL AND y.symbol_id = m.symbol_id"
            " AND s.calendar = y.calendar AND s.session = m.session"
            " AND t.symbol_id = m.symbol_id AND t.timeframe = m.timeframe AND t.session = m.session"
            " AND EXISTS (SELECT FROM coverage AS c WHERE c.symbol_id = m.symbol_id AND c.timeframe = m.timeframe"
            "  AND c.time_window @> s.open AND c.fetched_at > m.asked_at)"
            " RETURNING y.symbol, m.timeframe::text, m.session, t.provider, m.differing"
        )
        return sorted((Differing(*row) for row in cursor.fetchall()), key=lambda d: (d.symbol, d.timeframe, d.session))
