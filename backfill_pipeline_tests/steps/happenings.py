"""Corporate actions against the stand-in and a real database: where symbols are followed and runs are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.extras import execute_values
from pydantic import SecretStr

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.http import Http, Patience
from backfill_pipeline.providers.polygon_events import PolygonEvents
from backfill_pipeline.steps.corporate_actions import Refreshed, refresh_events
from backfill_pipeline.storage.coverage import want
from backfill_pipeline.storage.names import resolver
from backfill_pipeline.storage.symbols import add_symbol, get_instruments
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.storage.stored import migrated, rows

NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
SINCE = date(2024, 1, 2)
# A Tuesday, and three weeks around it.
EX = date(2024, 5, 14)
FIRST, LAST = date(2024, 5, 6), date(2024, 5, 24)
XNYS = load_sessions("XNYS", date(2026, 12, 31))
TABLES = ("splits", "dividends", "earnings", "features_stale")


@dataclass
class Office:
    """A database that follows symbols of the stand-in's market. `now` is the runs' clock."""

    conn: Connection
    standin: StandIn
    limits: OwnMemory
    now: datetime = NOW

    def follow(self, *symbols: str, since: date = SINCE, base: Base = "1d") -> None:
        """Register, want, and store no bars yet."""
        with self.conn:
            for symbol in symbols:
                add_symbol(self.conn, symbol, "stock", "XNYS")
                want(self.conn, self.id(symbol), base, None, XNYS.days_window(since, since).start)

    def id(self, symbol: str) -> int:
        return get_instruments(self.conn, [symbol])[symbol].symbol_id

    def store(self, symbol: str, first: date, last: date, base: Base = "1d") -> None:
        """The market's true bars of these sessions."""
        market = self.standin.market
        whole = XNYS.days_window(first, last)
        bars = market.days(symbol, first, last) if base == "1d" else market.minutes(symbol, whole)
        self._insert(symbol, base, bars)

    def _insert(self, symbol: str, base: Base, bars: Bars) -> None:
        at = XNYS.row_of(bars.ts)
        segments = ["regular"] * len(bars)
        if base == "1m":
            place = XNYS.parts.locate(bars.ts)
            segments = [("pre", "regular", "post")[XNYS.parts.segment[part]] for part in place.tolist()]
        values = [
            (self.id(symbol), base, to_datetime(ts), XNYS.session[row].astype(object), segment, *prices)
            for ts, row, segment, *prices in zip(
                bars.ts.tolist(),
                at.tolist(),
                segments,
                *(getattr(bars, name).tolist() for name in ("open", "high", "low", "close", "volume", "vwap")),
                strict=True,
            )
        ]
        with self.conn, self.conn.cursor() as cursor:
            execute_values(
                cursor,
                "INSERT INTO bars (symbol_id, timeframe, ts, session, segment, open, high, low, close, volume, vwap,"
                " trades, final, provider) VALUES %s",
                [(*value, 1, True, "polygon") for value in values],
            )

    def run(self, now: datetime | None = None) -> Refreshed:
        self.now = now or self.now
        http = Http("polygon", self.standin.url, SecretStr(self.standin.key), NoBudget(), patience=Patience(tries=2))
        source = PolygonEvents(http, self.limits, "abc", now=lambda: self.now)
        with self.conn:
            resolve = resolver(self.conn, "polygon")
        return refresh_events(self.conn, source, resolve, self.now)

    def query(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        with self.conn:
            return rows(self.conn, sql, *parameters)

    def splits(self) -> list[tuple[object, ...]]:
        """(symbol, ex-date, ratio as told, accepted), in order."""
        return self.query(
            "SELECT symbol, ex_date::text, split_to || ':' || split_from, accepted FROM splits JOIN symbols"
            " USING (symbol_id) ORDER BY 1, 2, 3"
        )

    def reason(self, table: str = "splits") -> str:
        """Of the only row there is."""
        ((found,),) = self.query(f"SELECT reason FROM {table}")
        return str(found)

    def versions(self) -> list[object]:
        """Equal before and after: nothing was written."""
        return [self.query(f"SELECT ctid::text, xmin::text FROM {table} ORDER BY 1") for table in TABLES]

    def clear_stale(self) -> None:
        self.query("DELETE FROM features_stale")

    def stale(self) -> list[tuple[object, ...]]:
        return self.query(
            "SELECT symbol, timeframe::text, since::text FROM features_stale JOIN symbols USING (symbol_id)"
            " ORDER BY 1, 2"
        )


@contextmanager
def office(url: str, standin: StandIn) -> Iterator[Office]:
    with migrated(url) as conn:
        yield Office(conn, standin, OwnMemory())


def followed(desk: Office, *symbols: str, base: Base = "1d") -> None:
    """Follow symbols, with the bars of three weeks around EX."""
    desk.follow(*symbols, base=base)
    for symbol in symbols:
        desk.store(symbol, FIRST, LAST, base)
