"""What an answer did to stored bars, read back from `bar_revisions` in the transaction that stored it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.windows import to_datetime

from .rows import Key


@dataclass(frozen=True)
class Disagreement:
    """How far the regular bars that replaced another provider's are from them, in one session, as shares of the new.

    `before`: the other provider. `off`: bars whose close differs by more than the tolerance asked for, of `bars` that
    are stored. `close`, `volume`: the largest difference of a close, and that of the session's volume.
    """

    session: date
    before: str
    off: int
    bars: int
    close: float
    volume: float


def withdrawn_final(conn: Connection, key: Key, revised_at: datetime) -> dict[date, int]:
    """By session, the final bars of `key` that were withdrawn at `revised_at`."""
    return _counts(conn, key, "bar_revisions", "kind = 'withdrawn' AND revised_at = %(at)s", {"at": revised_at})


def final_bars(conn: Connection, key: Key, days: Sequence[date]) -> dict[date, int]:
    """By session of `days`, the final bars of `key`."""
    return _counts(conn, key, "bars", "session = ANY(%(days)s)", {"days": list(days)})


def regular_bars(conn: Connection, key: Key) -> dict[date, int]:
    """By session, the regular bars of `key`."""
    return _counts(conn, key, "bars", "segment = 'regular'", {})


def disagreements(
    conn: Connection, key: Key, provider: str, revised_at: datetime, tolerance: float
) -> list[Disagreement]:
    """Sessions of `key` in which `provider` changed bars of another one at `revised_at`.

    Bars that only one of them has do not count, nor those that no answer had vouched for, such as a minute under way.
    """
    with conn.cursor() as cursor:
        cursor.execute(
            "WITH changed AS ("
            "  SELECT r.session, r.provider, abs(b.close - r.close) / b.close AS close, b.volume - r.volume AS volume"
            "  FROM bar_revisions AS r JOIN bars AS b USING (symbol_id, timeframe, ts)"
            "  WHERE r.symbol_id = %(id)s AND r.timeframe = %(tf)s AND r.ts >= %(low)s AND r.ts < %(high)s"
            "    AND r.kind = 'restated' AND r.segment = 'regular' AND r.revised_at = %(at)s"
            "    AND r.provider <> %(provider)s AND EXISTS ("
            "      SELECT FROM coverage AS c WHERE c.symbol_id = r.symbol_id AND c.timeframe = r.timeframe"
            "      AND c.provider = r.provider AND c.time_window @> r.ts)"
            "), whole AS ("
            "  SELECT session, count(*) AS bars, sum(volume) AS volume FROM bars"
            "  WHERE symbol_id = %(id)s AND timeframe = %(tf)s AND ts >= %(low)s AND ts < %(high)s"
            "    AND segment = 'regular' AND session IN (SELECT session FROM changed) GROUP BY session"
            ") SELECT session, c.provider, count(*) FILTER (WHERE c.close > %(tolerance)s), w.bars, max(c.close),"
            "  coalesce(abs(sum(c.volume)) / nullif(w.volume, 0), 0)"
            " FROM changed AS c JOIN whole AS w USING (session)"
            " GROUP BY session, c.provider, w.bars, w.volume ORDER BY session, c.provider",
            _parameters(key) | {"at": revised_at, "provider": provider, "tolerance": tolerance},
        )
        return [Disagreement(*row) for row in cursor.fetchall()]


def _counts(conn: Connection, key: Key, table: str, condition: str, more: dict[str, object]) -> dict[date, int]:
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT session, count(*) FROM {table} WHERE symbol_id = %(id)s AND timeframe = %(tf)s"  # noqa: S608  (constants)
            f" AND ts >= %(low)s AND ts < %(high)s AND final AND {condition} GROUP BY session",
            _parameters(key) | more,
        )
        return dict(cursor.fetchall())


def _parameters(key: Key) -> dict[str, object]:
    low, high = to_datetime(key.window.start), to_datetime(key.window.end)
    return {"id": key.symbol_id, "tf": key.timeframe, "low": low, "high": high}
