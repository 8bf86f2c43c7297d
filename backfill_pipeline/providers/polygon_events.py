"""Polygon.io, now Massive: splits, dividends and earnings of the whole market by date, oldest first, page by page.

A page has 5,000 rows: a year of the market's splits is about one, a year of its dividends ten, whoever is followed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode

from backfill_pipeline.domain.actions import DividendEvent, EarningsEvent, SplitEvent
from backfill_pipeline.domain.asking import Days

from .budget import LimitMemory
from .errors import NeverServed, ServerTrouble
from .http import Http
from .polygon_events_decode import Row, dividend_of, earnings_of, read_events, split_of
from .polygon_plan import FRESH

logger = logging.getLogger(__name__)

E = TypeVar("E", SplitEvent, DividendEvent, EarningsEvent)

# The vendor's greatest.
PAGE_ROWS = 5000
# Forty years of dividends are about 400 pages; more mean a server that leads nowhere.
_MOST_PAGES = 2000
_NO_EARNINGS = "earnings not in plan"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PolygonEvents:
    """See EventSource. `key_fingerprint`: tells keys apart and gives none away. Threads may share it."""

    name = "polygon"

    def __init__(
        self,
        http: Http,
        limits: LimitMemory,
        key_fingerprint: str,
        *,
        page_rows: int = PAGE_ROWS,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._http = http
        self._limits = limits
        self._page_rows = page_rows
        self._now = now
        self.account = f"{http.base_url} {key_fingerprint}"
        self.answered = 0

    def splits(self, days: Days) -> Iterator[tuple[str, SplitEvent]]:
        return self._list("/stocks/v1/splits", "execution_date", days, split_of, "splits")

    def dividends(self, days: Days) -> Iterator[tuple[str, DividendEvent]]:
        return self._list("/stocks/v1/dividends", "ex_dividend_date", days, dividend_of, "dividends")

    def earnings(self, days: Days) -> Iterator[tuple[str, EarningsEvent]]:
        """An add-on: that the plan lacks it is said once, and for a month nobody asks again."""
        known = self._limits.recall(_NO_EARNINGS)
        if known is not None and self._now() - known[1] < FRESH:
            raise NeverServed(f"polygon: earnings are not in the plan (learned {known[1]:%Y-%m-%d})")
        try:
            yield from self._list("/benzinga/v1/earnings", "date", days, earnings_of, "earnings")
        except NeverServed as error:
            logger.warning(f"{error}; earnings are left out")
            self._limits.remember(_NO_EARNINGS, None, self._now())
            raise

    def _list(
        self, path: str, column: str, days: Days, read_row: Callable[[Row], E], noun: str
    ) -> Iterator[tuple[str, E]]:
        what = f"{noun} from {days.first}" + (f" to before {days.end}" if days.end else " on")
        target: str | None = self._target(path, column, days)
        asked: set[str] = set()
        while target is not None:
            if target in asked or len(asked) >= _MOST_PAGES:
                raise ServerTrouble(f"polygon: {what}: pages that do not end; nothing of it is stored")
            asked.add(target)
            page = self._http.get(target, partial(read_events, read_row=read_row), what=what)
            self.answered += 1
            # A server that ignores the filter tells more than was asked.
            yield from ((ticker, event) for ticker, event in page.events if event.day in days)
            target = page.next_target
            if target is None and page.rows >= self._page_rows and page.events:
                # Full, and the last: whether more follow only asking tells. The last day comes again, doubled.
                target = self._target(path, column, Days(page.events[-1][1].day, days.end))
                if target in asked:
                    return

    def _target(self, path: str, column: str, days: Days) -> str:
        query = {f"{column}.gte": days.first.isoformat()}
        if days.end is not None:
            query[f"{column}.lt"] = days.end.isoformat()
        return f"{path}?{urlencode({**query, 'sort': f'{column}.asc', 'limit': self._page_rows})}"
