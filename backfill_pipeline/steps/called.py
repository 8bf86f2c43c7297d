"""What providers call one instrument, by period."""

from __future__ import annotations

from datetime import date

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.names import Piece
from backfill_pipeline.domain.sessions import FIRST_DAY
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.storage.names import tickers

from .warehouse import Warehouse


class Called:
    """Reads each provider's names once."""

    def __init__(self, warehouse: Warehouse, instrument: Instrument) -> None:
        self._warehouse, self._instrument = warehouse, instrument
        self._pieces: dict[str, list[Piece]] = {}

    def on(self, provider: Provider, day: date) -> str | None:
        """The ticker of a day; None: on that day the symbol was another's."""
        return next((ticker for ticker, *_ in self.between(provider, day, day)), None)

    def between(self, provider: Provider, first: date, last: date) -> tuple[Piece, ...]:
        """The tickers of [first, last], each with its first and last day in it, ascending."""
        found = self._of(provider)
        return tuple((t, max(low, first), min(high, last)) for t, low, high in found if low <= last and high >= first)

    def _of(self, provider: Provider) -> list[Piece]:
        if provider.name not in self._pieces:
            of = self._instrument
            until = self._warehouse.sessions(of.calendar).session[-1].astype(object)
            with self._warehouse.conn as conn:
                self._pieces[provider.name] = tickers(conn, of.symbol_id, provider.name, FIRST_DAY, until, of.symbol)
        return self._pieces[provider.name]
